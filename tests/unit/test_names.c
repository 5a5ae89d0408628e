// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Names: which are allowed, whose they are, and how a listener of the other provider shows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <shmipc/shmipc.h>

#include "embedded_name.h"
#include "error.h"
#include "provider.h"

static void test_allowed(void **state)
{
	char longest[SHMIPC_NAME_MAX + 1];

	(void)state;
	memset(longest, 'x', SHMIPC_NAME_MAX);
	longest[SHMIPC_NAME_MAX] = '\0';
	assert_int_equal(provider_check_name("a"), 0);
	assert_int_equal(provider_check_name("AZaz09._:/-"), 0);
	assert_int_equal(provider_check_name("/"), 0);
	assert_int_equal(provider_check_name(longest), 0);
}

static void test_refused(void **state)
{
	char longer[SHMIPC_NAME_MAX + 2];

	(void)state;
	memset(longer, 'x', SHMIPC_NAME_MAX + 1);
	longer[SHMIPC_NAME_MAX + 1] = '\0';
	assert_int_equal(provider_check_name(NULL), -EINVAL);
	assert_int_equal(provider_check_name(""), -EINVAL);
	assert_int_equal(provider_check_name(longer), -EINVAL);
	assert_non_null(strstr(shmipc_last_error(), "63"));
}

/* Each byte, so that a range that is one too wide shows. */
static void test_every_byte(void **state)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				   "._:/-";
	unsigned int allowed = 0;

	(void)state;
	for (int c = 1; c < 256; c++) {
		char name[] = { 'n', (char)c, '\0' };
		int want = memchr(good, c, sizeof(good) - 1) ? 0 : -EINVAL;

		allowed += !want;
		if (provider_check_name(name) != want)
			fail_msg("byte %d", c);
	}
	assert_int_equal(allowed, sizeof(good) - 1);
}

static void test_reserved(void **state)
{
	static const struct {
		const char *name;
		bool reserved;
		uint32_t uid;
	} cases[] = {
		{ "u0/a", true, 0 },
		{ "u1000/", true, 1000 },
		{ "u0042/a/b", true, 42 },
		{ "u4294967294/a", true, 4294967294U },
		/* Beyond each uid: nobody's, and above all not that of the value modulo 2^32. */
		{ "u4294967295/a", true, SHMIPC_UID_ANY },
		{ "u4294967296/a", true, SHMIPC_UID_ANY },
		{ "u18446744073709551616/a", true, SHMIPC_UID_ANY },
		{ "u1000", false, 0 },
		{ "u/a", false, 0 },
		{ "u1x/a", false, 0 },
		{ "U1/a", false, 0 },
		{ "x/u1/a", false, 0 },
		{ "u", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t uid = 0;

		if (name_reserved(cases[i].name, &uid) != cases[i].reserved ||
		    uid != cases[i].uid)
			fail_msg("%s: uid %u", cases[i].name, uid);
	}
}

static void test_address(void **state)
{
	struct sockaddr_un a, b;
	socklen_t len;

	(void)state;
	len = name_address(&a, NAME_LISTENER, "x/y");
	assert_int_equal(a.sun_path[0], 0);
	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + sizeof("\0shmipc/x/y") - 1);
	assert_memory_equal(a.sun_path, "\0shmipc/x/y", sizeof("\0shmipc/x/y") - 1);
	name_address(&b, NAME_KERNEL, "x/y");
	assert_memory_not_equal(a.sun_path, b.sun_path, sizeof(a.sun_path));
}

static void test_marker(void **state)
{
	char name[SHMIPC_NAME_MAX + 1];
	int fd;

	(void)state;
	snprintf(name, sizeof(name), "test.marker.%d", getpid());
	assert_false(name_marked(NAME_KERNEL, name));
	fd = name_mark(NAME_KERNEL, name);
	assert_true(fd >= 0);
	assert_true(name_marked(NAME_KERNEL, name));
	assert_false(name_marked(NAME_EMBEDDED, name));
	assert_int_equal(name_mark(NAME_KERNEL, name), -EADDRINUSE);
	close(fd);
	assert_false(name_marked(NAME_KERNEL, name));
}

static void test_strerror(void **state)
{
	(void)state;
	for (int e = -200; e <= 200; e++)
		assert_non_null(shmipc_strerror(e));
	assert_string_equal(shmipc_strerror(-ENOENT), shmipc_strerror(ENOENT));
	assert_string_not_equal(shmipc_strerror(-ENOENT), shmipc_strerror(-EAGAIN));
	assert_string_equal(shmipc_strerror(INT32_MIN), "unknown error");
}

static void test_last_error(void **state)
{
	char text[600];

	(void)state;
	error_clear();
	assert_string_equal(shmipc_last_error(), "");
	assert_int_equal(error_set(-ENOENT, "%s %d", "no", 7), -ENOENT);
	assert_string_equal(shmipc_last_error(), "no 7");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set(-EIO, "%s", text);
	assert_in_range(strlen(shmipc_last_error()), 100, sizeof(text) - 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_address),
		cmocka_unit_test(test_marker),
		cmocka_unit_test(test_strerror),
		cmocka_unit_test(test_last_error),
	};

	return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
