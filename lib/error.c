// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <shmipc/shmipc.h>

#include "log.h"

static __thread char sentence[320];

int error_set(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	log_debug("error %d: %s", -error, sentence);
	return error;
}

void error_clear(void)
{
	sentence[0] = '\0';
}

const char *shmipc_last_error(void)
{
	return sentence;
}

/* The library's own meanings, where strerror() would mislead. */
static const struct {
	int error;
	const char *text;
} meanings[] = {
	{ 0, "success" },
	{ EACCES, "mode, uid or protection forbids it" },
	{ EADDRINUSE, "the name is taken" },
	{ EAGAIN, "nothing there now, or no room now" },
	{ EBADF, "a handle of another kind" },
	{ EBADMSG, "the peer broke the protocol" },
	{ EBUSY, "still in use" },
	{ ECANCELED, "the other program gave up or died before it was complete" },
	{ ECONNREFUSED, "the listener went away before it accepted" },
	{ ECONNRESET, "the peer reset the stream" },
	{ EDQUOT, "a limit of this user is reached" },
	{ EEXIST, "already there" },
	{ EFAULT, "bad address" },
	{ EINVAL, "an argument that can't be" },
	{ EMFILE, "too many open descriptors or streams" },
	{ EMSGSIZE, "the message is larger than the session's memory" },
	{ ENFILE, "too many open files on this machine" },
	{ ENODEV, "the shmipc module is not loaded" },
	{ ENOENT, "nobody has that name" },
	{ ENOMEM, "out of memory" },
	{ ENOSPC, "a limit of the machine or of this endpoint is reached" },
	{ ENOTCONN, "the session is not accepted yet" },
	{ EOPNOTSUPP, "this provider can't do that" },
	{ EOVERFLOW, "a size is too large" },
	{ EOWNERDEAD, "the peer died" },
	{ EPERM, "the object belongs to another process" },
	{ EPIPE, "the peer closed the session" },
	{ EPROTONOSUPPORT, "the other side uses another provider or version" },
	{ ESHUTDOWN, "this direction of the stream was finished" },
	{ ESTALE, "the endpoint is dead or was handed over" },
	{ ETIMEDOUT, "the time is over" },
};

const char *shmipc_strerror(int error)
{
	/* INT_MIN has no positive twin. */
	int positive = error < 0 && error >= -4095 ? -error : error;

	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (meanings[i].error == positive)
			return meanings[i].text;
	return "unknown error";
}
