// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "provider_error.h"

#include <errno.h>
#include <shmipc/shmipc.h>

#include "error.h"

#define RAISE_NOFILE	"raise the limit on open files (ulimit -n)"

int provider_open_error(int error, const char *device)
{
	switch (error) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return error_set(-ENODEV, "no %s: load the module (modprobe shmipc), or use "
				 "SHMIPC_PROVIDER=embedded", device);
	case -EACCES:
	case -EPERM:
		return error_set(-EACCES, "no permission to open %s: see the udev rule that came "
				 "with the module", device);
	case -EDQUOT:
		return error_set(error, "this user has its share of the module's endpoints: close "
				 "some, or raise the module's endpoints_max or user_share");
	case -ENOSPC:
		return error_set(error, "the module's cap on endpoints is reached: close some, or "
				 "raise the module's endpoints_max");
	case -EMFILE:
	case -ENFILE:
		return error_set(error, "no descriptor left to open %s: " RAISE_NOFILE, device);
	default:
		return error_set(error, "opening %s: %s", device, shmipc_strerror(error));
	}
}

int provider_bind_error(int error, const char *name)
{
	switch (error) {
	case -EADDRINUSE:
		return error_set(error, "another listener has the name \"%s\": stop it, or choose "
				 "another name", name);
	case -EACCES:
		return error_set(error, "\"%s\" is reserved for the user in its first part: listen "
				 "as that user, or choose another name", name);
	case -EOWNERDEAD:
		return error_set(error, "a server that died left \"%s\" for its successor: "
				 "shmipc_adopt() it, end it with SHMIPC_FRESH, or wait until its "
				 "time is over", name);
	case -EBUSY:
		return error_set(error, "what a server that died left of \"%s\" is being adopted: "
				 "look for its successor", name);
	case -EDQUOT:
		return error_set(error, "this user has its share of the module's listeners: close "
				 "some, or raise the module's listeners_max or user_share");
	case -ENOSPC:
		return error_set(error, "the cap on listeners, or on what an endpoint may have, is "
				 "reached: close some, or raise the module's listeners_max");
	case -EMFILE:
	case -ENFILE:
		return error_set(error, "no descriptor left to listen on \"%s\": " RAISE_NOFILE,
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
		return error_set(error, "the mode of \"%s\" or the uid of its server forbids it: "
				 "have it listen with a wider mode, or see which uid is expected",
				 name);
	case -EAGAIN:
		return error_set(error, "the backlog of \"%s\" is full: try again", name);
	case -EDQUOT:
		return error_set(error, "this user has as many sessions on \"%s\" as one may have: "
				 "close some, or raise max_per_uid where it listens, or the "
				 "module's user_share", name);
	case -ENOSPC:
		return error_set(error, "the cap on sessions, or on what an endpoint may have, is "
				 "reached: close some, or raise the module's sessions_max");
	case -ECONNREFUSED:
		return error_set(error, "the listener of \"%s\" closed or died before it accepted: "
				 "see why it ended, and connect again", name);
	case -ETIMEDOUT:
		return error_set(error, "the listener of \"%s\" did not accept in time: see whether "
				 "the server is stuck, or wait longer", name);
	case -EBADMSG:
		return error_set(error, "what listens on \"%s\" does not speak as shmipc does: use "
				 "the same version on both sides", name);
	case -EMFILE:
	case -ENFILE:
		return error_set(error, "no descriptor left to connect to \"%s\": " RAISE_NOFILE,
				 name);
	default:
		return error_set(error, "connecting to \"%s\": %s", name, shmipc_strerror(error));
	}
}

int provider_accept_error(int error)
{
	switch (error) {
	case -EAGAIN:
		return error;
	case -ENOSPC:
		return error_set(error, "an endpoint can't have more sessions: close some, or accept "
				 "on another endpoint");
	case -EMFILE:
	case -ENFILE:
		return error_set(error, "no descriptor left to accept: " RAISE_NOFILE);
	default:
		return error_set(error, "accepting a connection: %s", shmipc_strerror(error));
	}
}

int provider_memory_error(int error, size_t len)
{
	switch (error) {
	case -EDQUOT:
		return error_set(error, "%zu bytes more are over this user's cap on shared memory: "
				 "close sessions, lower max_memory, or raise the module's "
				 "user_pages_max", len);
	case -ENOSPC:
		return error_set(error, "%zu bytes more are over a cap on shared memory or "
				 "segments: close sessions, lower max_memory, or raise the "
				 "module's total_pages_max", len);
	case -ENOMEM:
		return error_set(error, "no memory for a segment of %zu bytes: close sessions, lower "
				 "max_memory, or raise the limit of the memory cgroup", len);
	case -EMFILE:
	case -ENFILE:
		return error_set(error, "no descriptor left for a segment: " RAISE_NOFILE);
	default:
		return error_set(error, "a segment of %zu bytes: %s", len, shmipc_strerror(error));
	}
}
