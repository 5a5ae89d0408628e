// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * peer_packages.c - libraries that a distribution carries: libqb, ZeroMQ, nng
 *
 * Loaded when they are asked for, so that this program needs none of them, neither to be built nor
 * to run. The declarations are those of their headers, for the versions of the names below.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
#include "perf.h"
#include "transport.h"

static void *lib;	/* of this pair's transport */

/* In the coordinator, which does not keep it: no pair shall carry the libraries of others. */
static const char *look_for(const char *file)
{
	void *there = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!there)
		return "not installed";
	dlclose(there);
	return NULL;
}

static void load(const char *file)
{
	lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		die(file, -ENOENT);
}

static void *function(const char *name)
{
	void *f = dlsym(lib, name);

	if (!f)
		die(dlerror(), -ENOSYS);
	return f;
}

#define FUNCTION(f)	((f) = (__typeof__(f))function(#f))

/* ---- libqb: its ring buffer in shared memory, one each way ------------------------- */

#define QB_RB_FLAG_CREATE		0x01
#define QB_RB_FLAG_SHARED_PROCESS	0x08

static void *(*qb_rb_open)(const char *name, size_t size, uint32_t flags, size_t user_data);
static void *(*qb_rb_chunk_alloc)(void *rb, size_t len);
static int32_t (*qb_rb_chunk_commit)(void *rb, size_t len);
static ssize_t (*qb_rb_chunk_peek)(void *rb, void **data, int32_t ms);
static void (*qb_rb_chunk_reclaim)(void *rb);
static void (*qb_rb_close)(void *rb);

static void *rings[2], *in_ring, *out_ring;

#define QB_FILE	"libqb.so.100"

static const char *qb_absent(void)
{
	return look_for(QB_FILE);
}

static void qb_gone(void)
{
	qb_rb_close(rings[0]);
	qb_rb_close(rings[1]);
}

static void qb_make(void)
{
	load(QB_FILE);
	FUNCTION(qb_rb_open);
	FUNCTION(qb_rb_chunk_alloc);
	FUNCTION(qb_rb_chunk_commit);
	FUNCTION(qb_rb_chunk_peek);
	FUNCTION(qb_rb_chunk_reclaim);
	FUNCTION(qb_rb_close);
	for (int i = 0; i < 2; i++) {
		size_t size = i ? setup.reply : setup.size;
		char name[64];

		snprintf(name, sizeof(name), "shmipc-perf-%d-%d", getpid(), i);
		rings[i] = qb_rb_open(name, (size + 64) * (setup.depth + 1),
				      QB_RB_FLAG_CREATE | QB_RB_FLAG_SHARED_PROCESS, 0);
		if (!rings[i])
			die("qb_rb_open", 0);
	}
}

static void qb_attach(enum end end)
{
	out_ring = rings[end];
	in_ring = rings[!end];
	/* Its files go with whoever made it. */
	if (end == CLIENT)
		atexit(qb_gone);
}

static void *qb_reserve(unsigned int channel, size_t size)
{
	void *data;

	(void)channel;
	/* It has no way to sleep until there is room. */
	while (!(data = qb_rb_chunk_alloc(out_ring, size)))
		sched_yield();
	return data;
}

static void qb_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)answered;
	if (qb_rb_chunk_commit(out_ring, size) < 0)
		die("qb_rb_chunk_commit", 0);
}

static const void *qb_receive(unsigned int channel, size_t size)
{
	void *data;
	ssize_t n;

	(void)channel;
	while ((n = qb_rb_chunk_peek(in_ring, &data, setup.spin ? 0 : 1000)) == -ETIMEDOUT ||
	       n == 0)
		;
	if (n != (ssize_t)size)
		die("qb_rb_chunk_peek", -EBADMSG);
	return data;
}

static void qb_release(unsigned int channel)
{
	(void)channel;
	qb_rb_chunk_reclaim(in_ring);
}

const struct transport peer_qb = {
	.name = "libqb", .flags = ECHOES | STREAMS | SLEEPS, .absent = qb_absent, .make = qb_make,
	.attach = qb_attach, .reserve = qb_reserve, .commit = qb_commit, .receive = qb_receive,
	.release = qb_release,
};

/* ---- ZeroMQ: a pair over ipc:// ------------------------------------------------ */

#define ZMQ_PAIR	0

union zmq_msg {
	unsigned char bytes[64];
	void *align;
};

static void *(*zmq_ctx_new)(void);
static void *(*zmq_socket)(void *ctx, int type);
static int (*zmq_bind)(void *socket, const char *address);
static int (*zmq_connect)(void *socket, const char *address);
static int (*zmq_msg_init)(union zmq_msg *msg);
static int (*zmq_msg_init_size)(union zmq_msg *msg, size_t size);
static void *(*zmq_msg_data)(union zmq_msg *msg);
static int (*zmq_msg_send)(union zmq_msg *msg, void *socket, int flags);
static int (*zmq_msg_recv)(union zmq_msg *msg, void *socket, int flags);
static int (*zmq_msg_close)(union zmq_msg *msg);

static char address[64];
static void *zmq;
static union zmq_msg sent, received;

#define ZMQ_FILE	"libzmq.so.5"

static const char *zmq_absent(void)
{
	return look_for(ZMQ_FILE);
}

static void zmq_make(void)
{
	load(ZMQ_FILE);
	FUNCTION(zmq_ctx_new);
	FUNCTION(zmq_socket);
	FUNCTION(zmq_bind);
	FUNCTION(zmq_connect);
	FUNCTION(zmq_msg_init);
	FUNCTION(zmq_msg_init_size);
	FUNCTION(zmq_msg_data);
	FUNCTION(zmq_msg_send);
	FUNCTION(zmq_msg_recv);
	FUNCTION(zmq_msg_close);
	/* Abstract: nothing to unlink. */
	snprintf(address, sizeof(address), "ipc://@shmipc-perf/%d", getpid());
}

static void zmq_attach(enum end end)
{
	/* Its threads are each end's own. */
	zmq = zmq_socket(zmq_ctx_new(), ZMQ_PAIR);
	if (!zmq || (end == SERVER ? zmq_bind(zmq, address) : zmq_connect(zmq, address)))
		die("zmq", 0);
}

static void *zmq_reserve(unsigned int channel, size_t size)
{
	(void)channel;
	if (zmq_msg_init_size(&sent, size))
		die("zmq_msg_init_size", 0);
	return zmq_msg_data(&sent);
}

static void zmq_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)size;
	(void)answered;
	if (zmq_msg_send(&sent, zmq, 0) < 0)
		die("zmq_msg_send", 0);
}

static const void *zmq_receive(unsigned int channel, size_t size)
{
	(void)channel;
	zmq_msg_init(&received);
	if (zmq_msg_recv(&received, zmq, 0) != (int)size)
		die("zmq_msg_recv", 0);
	return zmq_msg_data(&received);
}

static void zmq_release(unsigned int channel)
{
	(void)channel;
	zmq_msg_close(&received);
}

const struct transport peer_zmq = {
	.name = "zeromq",
	.flags = ECHOES | STREAMS | SLEEPS,
	.absent = zmq_absent,
	.make = zmq_make,
	.attach = zmq_attach,
	.reserve = zmq_reserve,
	.commit = zmq_commit,
	.receive = zmq_receive,
	.release = zmq_release,
};

/* ---- nng: a pair over ipc:// ----------------------------------------------------- */

typedef struct {
	uint32_t id;
} nng_socket;

static int (*nng_pair0_open)(nng_socket *socket);
static int (*nng_socket_set_size)(nng_socket socket, const char *option, size_t value);
static int (*nng_listen)(nng_socket socket, const char *address, void *listener, int flags);
static int (*nng_dial)(nng_socket socket, const char *address, void *dialer, int flags);
static int (*nng_msg_alloc)(void **msg, size_t size);
static void *(*nng_msg_body)(void *msg);
static void (*nng_msg_free)(void *msg);
static int (*nng_sendmsg)(nng_socket socket, void *msg, int flags);
static int (*nng_recvmsg)(nng_socket socket, void **msg, int flags);

static nng_socket nng;
static void *nng_out, *nng_in;

#define NNG_FILE	"libnng.so.1"

static const char *nng_absent(void)
{
	return look_for(NNG_FILE);
}

static void nng_make(void)
{
	load(NNG_FILE);
	FUNCTION(nng_pair0_open);
	FUNCTION(nng_socket_set_size);
	FUNCTION(nng_listen);
	FUNCTION(nng_dial);
	FUNCTION(nng_msg_alloc);
	FUNCTION(nng_msg_body);
	FUNCTION(nng_msg_free);
	FUNCTION(nng_sendmsg);
	FUNCTION(nng_recvmsg);
	snprintf(address, sizeof(address), "ipc:///tmp/shmipc-perf-%d", getpid());
}

static void nng_attach(enum end end)
{
	int err = nng_pair0_open(&nng), tries = 0;

	if (!err)
		err = nng_socket_set_size(nng, "recv-size-max", 0);
	if (!err && end == SERVER)
		err = nng_listen(nng, address, NULL, 0);
	else if (!err)
		/* The server may not listen yet. */
		while ((err = nng_dial(nng, address, NULL, 0)) && tries++ < 100000)
			usleep(200);
	if (err)
		die("nng", -EIO);
	/* Both have it open by now. */
	if (end == CLIENT)
		unlink(address + sizeof("ipc://") - 1);
}

static void *nng_reserve(unsigned int channel, size_t size)
{
	(void)channel;
	if (nng_msg_alloc(&nng_out, size))
		die("nng_msg_alloc", -ENOMEM);
	return nng_msg_body(nng_out);
}

static void nng_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)size;
	(void)answered;
	if (nng_sendmsg(nng, nng_out, 0))
		die("nng_sendmsg", -EIO);
}

static const void *nng_receive(unsigned int channel, size_t size)
{
	(void)channel;
	(void)size;
	if (nng_recvmsg(nng, &nng_in, 0))
		die("nng_recvmsg", -EIO);
	return nng_msg_body(nng_in);
}

static void nng_release(unsigned int channel)
{
	(void)channel;
	nng_msg_free(nng_in);
}

const struct transport peer_nng = {
	.name = "nng", .flags = ECHOES | STREAMS | SLEEPS, .absent = nng_absent, .make = nng_make,
	.attach = nng_attach, .reserve = nng_reserve, .commit = nng_commit, .receive = nng_receive,
	.release = nng_release,
};
