// SPDX-License-Identifier: MIT
/*
 * big_buffer [MIB]: a large buffer (64 MiB) goes to another process and comes back, uncopied
 *
 * The producer fills a buffer and sends it: the consumer reads it in place. Then it gives it: from
 * then on it is the consumer who may write, and he changes every word and gives it back. The time
 * of each step is printed. The embedded provider can't give: there it ends after the first half.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <shmipc/shmipc.h>

static const int64_t limit = 60 * (int64_t)1000000000; /* ns */
static char name[64];
static size_t len;

static void must(const char *what, int err)
{
	const char *why = shmipc_last_error(); /* a sentence, where the library has one */

	if (err >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, *why ? why : shmipc_strerror(err));
	exit(1);
}

/* Prints how long it took since the call before. */
static void step(const char *what)
{
	static double last;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (last)
		printf("%-38s %10.3f ms\n", what, now.tv_sec * 1e3 + now.tv_nsec / 1e6 - last);
	last = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void fill(uint64_t *word, uint64_t key)
{
	for (size_t i = 0; i < len / sizeof(*word); i++)
		word[i] = i ^ key;
}

static void check(const uint64_t *word, uint64_t key)
{
	for (size_t i = 0; i < len / sizeof(*word); i++)
		if (word[i] != (i ^ key))
			must("a word is wrong", -EIO);
}

static void consume(void)
{
	struct shmipc_endpoint *ep;
	struct shmipc_session *session;
	struct shmipc_stream *st;
	struct shmipc_message m;
	struct shmipc_buf *buf;

	must("open", shmipc_open(&ep, 0));
	must("connect", shmipc_connect(ep, name, NULL, &session, limit));
	must("stream", shmipc_stream_accept(session, &st, limit));
	must("peek", shmipc_peek(st, &m, limit));
	check(m.spans[0].data, 1);
	must("return", shmipc_return(st, &m));
	if (shmipc_peek(st, &m, limit) == 1) { /* 0: the producer can't give */
		must("take", shmipc_buf_take(st, &m, &buf));
		check(shmipc_buf_data(buf), 2);
		fill(shmipc_buf_data(buf), 3);
		must("give back", shmipc_buf_give(st, buf, len, 0, limit));
		must("end", shmipc_peek(st, &m, limit));
	}
	shmipc_close(ep);
}

static void produce(struct shmipc_stream *st, struct shmipc_buf *buf)
{
	struct shmipc_message m;
	int err;

	step("begun");
	fill(shmipc_buf_data(buf), 1);
	step("filled by the producer");
	must("send", shmipc_buf_send(st, buf, len, 0, limit));
	step("sent");
	must("wait", shmipc_buf_wait(buf, limit));
	step("checked by the consumer, returned");
	fill(shmipc_buf_data(buf), 2);
	step("filled again");
	err = shmipc_buf_give(st, buf, len, 0, limit);
	if (err == -EOPNOTSUPP) {
		puts("not given: the embedded provider can't");
		return;
	}
	must("give", err);
	step("given");
	shmipc_buf_free(buf); /* it is the consumer's */
	must("peek", shmipc_peek(st, &m, limit));
	step("taken, checked, changed and given back");
	must("take", shmipc_buf_take(st, &m, &buf));
	step("taken");
	check(shmipc_buf_data(buf), 3);
	step("checked by the producer");
}

int main(int argc, char **argv)
{
	struct shmipc_endpoint *ep;
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	int status = 1;

	len = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20;
	snprintf(name, sizeof(name), "big_buffer/%d", getpid());
	must("open", shmipc_open(&ep, 0));
	must("listen", shmipc_listen(ep, name, NULL, &listener));
	if (fork() == 0) {
		consume(); /* what the parent opened stays the parent's */
		return 0;
	}
	must("accept", shmipc_accept(listener, &session, limit));
	must("stream", shmipc_stream_open(session, &st));
	must("buffer", shmipc_buf_new(ep, len, &buf));
	produce(st, buf);
	must("finish", shmipc_finish(st));
	wait(&status);
	shmipc_close(ep);
	return status ? 1 : 0;
}
