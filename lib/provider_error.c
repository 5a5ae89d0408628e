// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "provider_error.h"

#include <errno.h>
#include <shmipc/shmipc.h>

#include "error.h"

int provider_bind_error(int error, const char *name)
{
	switch (error) {
	case -EADDRINUSE:
		return error_set(error, "another listener has the name \"%s\"", name);
	case -EACCES:
		return error_set(error, "\"%s\" is reserved for the user in its first part", name);
	case -EMFILE:
	case -ENFILE:
		return error_set(error,
				 "no descriptor left to listen on \"%s\": raise the limit on "
				 "open files (ulimit -n)",
				 name);
	default:
		return error_set(error, "listening on \"%s\": %s", name, shmipc_strerror(error));
	}
}

int provider_connect_error(int error, const char *name)
{
	switch (error) {
	case -ENOENT:
		return error_set(error, "nobody listens on \"%s\" in this network namespace: start "
				 "the server first", name);
	case -EACCES:
		return error_set(error, "the mode of \"%s\" or the uid of its server forbids it",
				 name);
	case -EAGAIN:
		return error_set(error, "the backlog of \"%s\" is full: try again", name);
	case -EDQUOT:
		return error_set(error, "this user has as many sessions on \"%s\" as one may have",
				 name);
	case -ECONNREFUSED:
		return error_set(error, "the listener of \"%s\" closed or died before it accepted",
				 name);
	case -ETIMEDOUT:
		return error_set(error, "the listener of \"%s\" did not accept in time", name);
	case -EBADMSG:
		return error_set(error, "what listens on \"%s\" does not speak as shmipc does",
				 name);
	case -EMFILE:
	case -ENFILE:
		return error_set(error,
				 "no descriptor left to connect to \"%s\": raise the limit on "
				 "open files (ulimit -n)",
				 name);
	default:
		return error_set(error, "connecting to \"%s\": %s", name, shmipc_strerror(error));
	}
}
