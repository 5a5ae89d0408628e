// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "provider.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "log.h"

static bool name_byte(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == ':' || c == '/' || c == '-';
}

int provider_check_name(const char *name)
{
	size_t len = 0;

	if (!name)
		return error_set(-EINVAL, "no name was given");
	for (; name[len]; len++) {
		if (len >= SHMIPC_NAME_MAX)
			return error_set(-EINVAL, "a name has at most %d bytes", SHMIPC_NAME_MAX);
		if (!name_byte(name[len]))
			return error_set(-EINVAL, "byte %zu of the name is not one of "
					 "[A-Za-z0-9._:/-]", len + 1);
	}
	return len ? 0 : error_set(-EINVAL, "the name is empty");
}

static const struct provider_ops *const known[] = {
	&provider_kernel, &provider_embedded, &provider_local,
};

static int open_named(const char *name, struct provider **pv)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i]->name, name))
			return known[i]->open(pv);
	return error_set(-EINVAL, "SHMIPC_PROVIDER=\"%.32s\": use \"kernel\" or \"embedded\"",
			 name);
}

int provider_open(struct provider **pv)
{
	const char *name = secure_getenv("SHMIPC_PROVIDER");
	int err;

	if (name && *name)
		return open_named(name, pv);
	err = provider_kernel.open(pv);
	/*
	 * Only what says that there is no module for this process. A module of the wrong ABI, or
	 * one at its limits, is told: two halves of a system on different providers never meet.
	 */
	if (err != -ENODEV && err != -EACCES)
		return err;
	log_info("no /dev/shmipc (%s): the embedded provider", err == -ENODEV ? "no module" :
		 "no permission");
	error_clear();
	return provider_embedded.open(pv);
}
