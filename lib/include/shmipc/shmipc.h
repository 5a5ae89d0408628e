/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * shmipc.h - streams between processes at the speed of memory
 *
 * An *endpoint* is a program's door to shmipc. A *listener* has a name; connecting to it
 * makes a *session* between two processes, and a session carries many *streams* of messages.
 * Payload is written in place by its sender and read in place by its receiver.
 *
 * Conventions
 *   Results	0 or a count on success, a negative errno value on failure. shmipc_strerror()
 *		says what a value means, shmipc_last_error() what a call that sets something up
 *		stumbled over, and what to do about it.
 *   Timeouts	int64_t nanoseconds; 0 never blocks (-EAGAIN), SHMIPC_FOREVER waits for ever.
 *		A timeout that passes is -ETIMEDOUT. Signals don't end a wait. A call without a
 *		timeout never waits for a peer, but for shmipc_yield(), which waits for its
 *		successor. Who waits may first look for up to 50 us, or yield its CPU to a peer that
 *		runs on the same.
 *   Lengths	bytes.
 *   Threads	Different objects may be used by different threads at once. A stream may be
 *		read by one thread while another writes it. Nobody may use an object while
 *		it is being closed. Where many threads block on one endpoint they share one
 *		doorbell; an endpoint a thread is faster. The library starts no thread and calls
 *		nothing of the program: there are no callbacks.
 *   Pointers	What a call fills in is valid until it is closed, and closing what it belongs to
 *		closes it: an endpoint its listeners, sessions and buffers, a session its streams.
 *		Names and options are read during the call. NULL is allowed where it says so, and to close.
 *   Fork	Handles stay with the process that made them: in a forked child each call that
 *		answers an error answers -EPERM, each that closes or sets something does nothing
 *		(shmipc_close() frees), and shmipc_stream_reset_code() is 0. exec ends the
 *		endpoint.
 *
 * Every call below that answers an error may also answer: -EPERM, used in a forked child; -EINVAL,
 * an argument that can't be. -ESTALE says that the endpoint is dead (its anchor page was unmapped)
 * or was handed over: close it. After a shmipc_yield() that handed it over every call that answers
 * an error answers -ESTALE.
 * All of it is there since version 0.1.0.
 */
#ifndef SHMIPC_SHMIPC_H
#define SHMIPC_SHMIPC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct shmipc_endpoint;
struct shmipc_listener;
struct shmipc_session;
struct shmipc_stream;
struct shmipc_buf;

#define SHMIPC_FOREVER		((int64_t)-1)	/* a timeout that never passes */
#define SHMIPC_SPANS_MAX	8	/* of one struct shmipc_message */

/* ---- endpoint ----------------------------------------------------------- */

/**
 * shmipc_open - open an endpoint
 * @ep: filled in; the caller closes it with shmipc_close()
 * @flags: 0
 *
 * Uses the kernel provider, or the embedded one where there is no /dev/shmipc or no right to open it;
 * SHMIPC_PROVIDER=kernel or =embedded in the environment forces one. SHMIPC_LOG=level[:file]
 * (error, warn, info, debug) makes the library talk: without it nothing is logged. A set-uid program, or
 * one that has capabilities of its file's, heeds neither.
 *
 * Return: 0; -ENODEV the kernel provider was forced and there is no module; -EACCES it was forced
 * and there is no right to open the device; -EPROTONOSUPPORT the module's ABI is too old or too
 * new; -EINVAL unknown provider; -EDQUOT, -ENOSPC this user's, the machine's cap on endpoints;
 * -EMFILE, -ENFILE no descriptor left; -ENOMEM.
 */
int shmipc_open(struct shmipc_endpoint **ep, unsigned int flags);

/**
 * shmipc_close - close an endpoint and all that is still open on it
 * @ep: the endpoint, or NULL. In a forked child this frees the child's copy only.
 *
 * Peers see what shmipc_session_close() shows them. No other thread may be in a call on it.
 */
void shmipc_close(struct shmipc_endpoint *ep);

/** shmipc_provider - "kernel" or "embedded". Return: a constant string, also in a forked child. */
const char *shmipc_provider(const struct shmipc_endpoint *ep);

/** shmipc_version - the library's version. Return: a constant string, as "0.1.0". */
const char *shmipc_version(void);

/**
 * shmipc_fd - a descriptor for poll, select or epoll
 *
 * It becomes readable (POLLIN) when shmipc_wait() has something to do. Ask shmipc_wait(ep, ...,
 * 0) until it returns 0, then sleep on the descriptor: that last call armed the doorbells.
 * Other threads may block on the endpoint meanwhile: what they take that shmipc_wait() would report
 * makes it readable, too. Once in a while it is readable for nothing.
 * The descriptor belongs to the endpoint: don't read, write or close it. It is an epoll, made by
 * the first call.
 *
 * Return: the descriptor, the same for the endpoint's life; -EMFILE, -ENFILE, -ENOMEM.
 */
int shmipc_fd(const struct shmipc_endpoint *ep);

enum shmipc_event_type {
	SHMIPC_EV_ACCEPT = 1,	/* listener: one may wait; try shmipc_accept() until -EAGAIN */
	SHMIPC_EV_STREAM,	/* session: shmipc_stream_accept() has one */
	SHMIPC_EV_READ,		/* stream: data, its end or an error is there */
	SHMIPC_EV_WRITE,	/* stream: a send that answered -EAGAIN can go on */
	SHMIPC_EV_CLOSED,	/* session: the peer closed, died or broke the protocol */
	SHMIPC_EV_OFFER,	/* endpoint: a successor is ready; call shmipc_yield() */
	SHMIPC_EV_PEER_PAUSED,	/* session: as shmipc_session_watch_peer() says */
	SHMIPC_EV_PEER_RESUMED,	/* session: likewise */
	SHMIPC_EV_PEER_CHANGED,	/* session: likewise */
};

/**
 * struct shmipc_event - what shmipc_wait() found
 * @type: enum shmipc_event_type
 * @object: the listener, session, stream or endpoint
 * @user: what was attached to it with shmipc_*_set_user(); of an endpoint NULL
 */
struct shmipc_event {
	uint32_t type;
	uint32_t reserved;
	void *object;
	void *user;
};

/**
 * shmipc_wait - wait for events on everything that the endpoint has
 * @ep: the endpoint
 * @events: filled in
 * @max: room in @events, > 0
 * @timeout_ns: how long to wait for the first one
 *
 * Events are level-triggered: a stream with unread data is reported again at the next call.
 * EV_WRITE is reported once for each -EAGAIN, EV_CLOSED once a session, EV_PEER_* once a change.
 * Streams that
 * shmipc_stream_accept() has not handed out yet are not reported, nor are those that were closed.
 * A stream is in @events once at most, so it may be closed at its event; its session's streams
 * may come later in the same @events, so a session is best closed after the last of them.
 * One thread at a time may call this on an endpoint. While it runs, nobody may close what it may
 * report: let the thread that waits close.
 *
 * Return: how many events, > 0; 0 when the time was over, or @timeout_ns is 0 and there is none;
 * -ESTALE.
 */
int shmipc_wait(struct shmipc_endpoint *ep, struct shmipc_event *events, unsigned int max,
		int64_t timeout_ns);

/**
 * struct shmipc_stats - counters of an endpoint since it was opened
 * @messages_sent: frames of payload published (a message of more than one frame counts each)
 * @messages_received: frames of payload taken off the rings
 * @bytes_sent: payload bytes published
 * @bytes_received: payload bytes taken off the rings
 * @doorbells: times that a peer was rung
 * @sleeps: times that a thread of this endpoint went to sleep in the kernel
 * @wakeups: times that a doorbell or event ended such a sleep
 * @stalls: sends that had to wait though their own stream was within its window and its share of
 *	max_memory: the ring was full, which means that the peer's library was not running
 * @parked: messages that were moved out of the ring's way because nobody had returned them
 * @segments: shared segments made
 * @empty_bells: doorbells taken for which nothing had been published or returned since the one
 *	before: hardly any, unless a peer rings to keep this process busy
 */
struct shmipc_stats {
	uint64_t messages_sent;
	uint64_t messages_received;
	uint64_t bytes_sent;
	uint64_t bytes_received;
	uint64_t doorbells;
	uint64_t sleeps;
	uint64_t wakeups;
	uint64_t stalls;
	uint64_t parked;
	uint64_t segments;
	uint64_t empty_bells;
};

/**
 * shmipc_get_stats - read the counters
 * @ep: the endpoint
 * @stats: filled in
 * @size: sizeof(*stats) that the caller was compiled with: a newer library fills in no more, an
 *	older one fills up with 0
 *
 * What sessions counted that are closed by now is in it. Return: 0.
 */
int shmipc_get_stats(struct shmipc_endpoint *ep, struct shmipc_stats *stats, size_t size);

/* ---- names and sessions ------------------------------------------------- */

/**
 * struct shmipc_options - for shmipc_listen() and shmipc_connect()
 *
 * Zero in any field but @size means the default. A session gets the smaller of both
 * sides' @max_streams; each side's memory is that of its own.
 *
 * @size: sizeof(struct shmipc_options)
 * @flags: SHMIPC_EXPECT_UID, SHMIPC_SEALED, SHMIPC_FRESH
 * @mode: listen: who may connect, permission bits as a file's (write); default 0600
 * @backlog: listen: connections that may wait; default 64, up to 4096
 * @max_per_uid: listen: sessions that one uid may have; default 64
 * @max_streams: streams that a session carries at once, half of them of each side; default 128, 2 to
 *	16384, an odd number is one less
 * @window: bytes that a stream may have sent and not seen returned; default 1 MiB, 4096 to max_memory
 * @expect_uid: connect, with SHMIPC_EXPECT_UID: refuse a server of another uid
 * @max_memory: bytes of payload that this side of a session may have sent and not seen returned;
 *	default 16 MiB, or 16 windows if one is larger than that. A stream with nothing out may go beyond
 *	it by a message of up to its window, or, while less than this is out, of up to this; what is
 *	rounded up comes on top
 * @orphan_ms: listen: when this process dies without shmipc_close(), its endpoint with this name
 *	and all sessions waits for so many milliseconds for a process of the same euid that calls
 *	shmipc_adopt() with the name; peers see nothing but a pause meanwhile. The largest of an
 *	endpoint's listeners counts, up to the module's orphan_max_ms. Default 0: it dies. It needs
 *	the kernel provider
 * @reserved: 0
 */
struct shmipc_options {
	uint32_t size;
	uint32_t flags;
	uint32_t mode;
	uint32_t backlog;
	uint32_t max_per_uid;
	uint32_t max_streams;
	uint32_t window;
	uint32_t expect_uid;
	uint64_t max_memory;
	uint32_t orphan_ms;
	uint32_t reserved;
};

#define SHMIPC_EXPECT_UID	(1U << 0)	/* connect: only to a server of expect_uid */
/*
 * Nobody can map this side's memory writable again, not even a process of the same uid, which could
 * open an embedded segment anew through /proc. It gives up handover: a successor couldn't either, and
 * shmipc_yield() answers -EOPNOTSUPP. With the kernel provider that holds without it, and it changes nothing.
 */
#define SHMIPC_SEALED		(1U << 1)
/*
 * listen: if a program that died left the name for its successor (orphan_ms), and this process
 * might adopt it, end what it left, with all its other names, and take the name. Peers see a death.
 * For who would rather begin anew than answer for what a predecessor had begun.
 */
#define SHMIPC_FRESH		(1U << 2)

/**
 * shmipc_listen - take a name
 * @ep: the endpoint
 * @name: 1 to 63 bytes of [A-Za-z0-9._:/-]
 * @options: or NULL
 * @listener: filled in; the caller closes it with shmipc_listener_close()
 *
 * Does not block, but for up to 0.2 s while a name's last owner is being buried (embedded).
 *
 * Return: 0; -EINVAL name or option; -EADDRINUSE a listener, of either provider, has the name;
 * -EACCES a name under "u<uid>/" of another uid; -EDQUOT, -ENOSPC this user's, the machine's cap
 * on listeners; -EMFILE, -ENFILE no descriptor left; -ENOMEM; -ESTALE; -EOWNERDEAD a program that
 * died left the name, with all its sessions, for its successor: shmipc_adopt(), or SHMIPC_FRESH;
 * -EBUSY SHMIPC_FRESH, and somebody is adopting it; -EOPNOTSUPP orphan_ms with the embedded
 * provider.
 */
int shmipc_listen(struct shmipc_endpoint *ep, const char *name,
		  const struct shmipc_options *options, struct shmipc_listener **listener);

/**
 * shmipc_listener_close - give the name back
 * @listener: or NULL
 *
 * Sessions already accepted live on; who waits in shmipc_connect() gets -ECONNREFUSED.
 */
void shmipc_listener_close(struct shmipc_listener *listener);

/** shmipc_listener_set_user - attach a pointer that comes back in events, from the next one on */
void shmipc_listener_set_user(struct shmipc_listener *listener, void *user);

/**
 * shmipc_accept - take the next connection
 * @listener: the listener
 * @session: filled in; the caller closes it with shmipc_session_close()
 * @timeout_ns: how long to wait for one
 *
 * The session has this listener's options. Several threads may accept at once.
 *
 * Return: 0; -EAGAIN nobody waits, -ETIMEDOUT; -EDQUOT, -ENOSPC, -ENOMEM memory for this side;
 * -EMFILE, -ENFILE no descriptor left; -EBADMSG the connector's segment is malformed (that
 * connection is dropped, call again); -ENOENT embedded, and /proc is not mounted; -ESTALE.
 */
int shmipc_accept(struct shmipc_listener *listener, struct shmipc_session **session,
		  int64_t timeout_ns);

/**
 * shmipc_connect - make a session with the process that listens on a name
 * @ep: the endpoint
 * @name: the name
 * @options: or NULL
 * @session: filled in; the caller closes it with shmipc_session_close()
 * @timeout_ns: how long to wait for the other side to accept; must not be 0
 *
 * Other threads may use the endpoint while it waits.
 *
 * Return: 0; -EINVAL name, option or timeout; -ENOENT nobody has that name; -EACCES its mode or its
 * uid forbids it; -EAGAIN its backlog is full; -ECONNREFUSED it closed or died before it
 * accepted; -ETIMEDOUT; -EPROTONOSUPPORT the listener uses the other provider, or another version
 * of the protocol; -EDQUOT this uid has as many sessions as one may have, or its cap on memory is
 * reached; -ENOSPC a cap of the machine; -ENOMEM; -EMFILE, -ENFILE no descriptor left; -EBADMSG the
 * listener's side is malformed; -ESTALE.
 */
int shmipc_connect(struct shmipc_endpoint *ep, const char *name,
		   const struct shmipc_options *options, struct shmipc_session **session,
		   int64_t timeout_ns);

/**
 * shmipc_session_close - end a session
 * @session: or NULL
 *
 * All its streams and every message held from them end with it: their handles
 * and pointers are no longer valid. What was sent can still be read by the peer, which
 * sees the end of a stream that was finished and -EPIPE on one that was not. (A finish that a
 * full ring put off is tried once more here; if the peer still reads nothing, it is lost.)
 */
void shmipc_session_close(struct shmipc_session *session);

/** shmipc_session_set_user - attach a pointer that comes back in events, from the next one on */
void shmipc_session_set_user(struct shmipc_session *session, void *user);

/**
 * shmipc_session_error - why a session ended
 *
 * Said once all that the peer had sent was taken in, so a session whose peer has left may live on
 * for a while. Its streams answer -EPIPE for the first two.
 *
 * Return: 0 it lives; -EPIPE the peer closed it; -EOWNERDEAD the peer died; -EBADMSG the peer
 * broke the protocol.
 */
int shmipc_session_error(const struct shmipc_session *session);

/** struct shmipc_peer_info - who is at the other end: @uid, @gid and @pid as the kernel tells it */
struct shmipc_peer_info {
	uint32_t uid;
	uint32_t gid;
	uint32_t pid;		/* 0 if it can't be seen from here */
	uint32_t generation;	/* how often its endpoint was handed over or adopted until then */
};

/**
 * shmipc_session_peer - who is at the other end
 * @session: the session
 * @peer: filled in
 *
 * It is who came last: a peer that was handed over, or adopted after a crash, has another @pid, a
 * @generation that is one higher (it wraps), and perhaps another @uid. It asks nobody: what counts
 * is what shmipc_wait(), or another call that waited on this endpoint, has taken in by now. Of a
 * peer that has ended, or waits for its successor, it says who that was.
 *
 * Return: 0.
 */
int shmipc_session_peer(const struct shmipc_session *session, struct shmipc_peer_info *peer);

/**
 * shmipc_session_watch_peer - report that a session's peer is handed over, or report it no more
 * @session: the session
 * @on: 1 or 0, as at first
 *
 * A peer may be replaced by a successor, or die and be adopted, and the session goes on: nobody
 * has to care. For a program that wants to know, shmipc_wait() reports of this session
 * SHMIPC_EV_PEER_PAUSED when the peer has stopped for a handover, or has died and waits for a
 * successor: for a while nothing will come; SHMIPC_EV_PEER_RESUMED when the same program goes on,
 * for the handover was called off; SHMIPC_EV_PEER_CHANGED when another program goes on, of which
 * shmipc_session_peer() says who it is.
 *
 * Each is reported once. A pause that is over before it could be reported is not: then there is
 * EV_PEER_CHANGED alone, or nothing, and of several changes the last. When nobody adopts a peer
 * that died, EV_CLOSED follows. A peer that pauses when this is called is reported by the next
 * shmipc_wait(). A successor of this program has to ask anew. With the embedded provider, which
 * keeps nothing of a peer that died, EV_CLOSED comes at once.
 *
 * Return: 0; -ESTALE.
 */
int shmipc_session_watch_peer(struct shmipc_session *session, int on);

/**
 * shmipc_session_id - a number for a session
 *
 * It is the endpoint's own, used once, and the same after the endpoint was handed over.
 *
 * Return: it, > 0; also in a forked child and after shmipc_yield().
 */
uint64_t shmipc_session_id(const struct shmipc_session *session);

/* ---- streams ------------------------------------------------------------ */

/**
 * shmipc_stream_open - open a stream; both sides may
 * @session: the session
 * @stream: filled in; the caller closes it with shmipc_stream_close()
 *
 * The peer learns of it with the first message, finish or flush.
 *
 * Return: 0; -EMFILE all that this side may open (half of max_streams) are open, or not over yet at
 * the peer's; -EPIPE, -EOWNERDEAD, -EBADMSG the session ended, as shmipc_session_error(); -ENOMEM.
 */
int shmipc_stream_open(struct shmipc_session *session, struct shmipc_stream **stream);

/**
 * shmipc_stream_accept - take the next stream that the peer opened
 * @session: the session
 * @stream: filled in; the caller closes it with shmipc_stream_close()
 * @timeout_ns: how long to wait for one
 *
 * One that the peer reset, and replaced by a new one, before it was accepted is left out.
 *
 * Return: 0; -EAGAIN, -ETIMEDOUT; -EPIPE, -EOWNERDEAD, -EBADMSG the session ended, as
 * shmipc_session_error(); -ESTALE.
 */
int shmipc_stream_accept(struct shmipc_session *session, struct shmipc_stream **stream,
			 int64_t timeout_ns);

/** shmipc_stream_set_user - attach a pointer that comes back in events, from the next one on */
void shmipc_stream_set_user(struct shmipc_stream *stream, void *user);

/**
 * shmipc_stream_pause - report no SHMIPC_EV_READ for a stream, or report it again
 * @stream: the stream
 * @paused: 1 or 0
 *
 * For an event loop that can't take more from a stream just now: what waits there is reported
 * when it is resumed. Nothing is lost meanwhile, and the sender is held by its window. Reading
 * goes on as before.
 *
 * Return: 0.
 */
int shmipc_stream_pause(struct shmipc_stream *stream, int paused);

/** shmipc_stream_session - the session that a stream belongs to, also in a forked child */
struct shmipc_session *shmipc_stream_session(const struct shmipc_stream *stream);

/**
 * shmipc_stream_id - a number for a stream
 *
 * Both sides of its session have the same for it, also after a side was handed over; it is used
 * once in a session.
 *
 * Return: it, > 0; also in a forked child and after shmipc_yield().
 */
uint64_t shmipc_stream_id(const struct shmipc_stream *stream);

/* Flags of a send. */
#define SHMIPC_MORE	(1U << 0)	/* the message goes on in the next send */
#define SHMIPC_CORK	(1U << 1)	/* ring later: at shmipc_flush() or the next blocking call */

/**
 * shmipc_reserve - get memory to write a message (or part of one) into, in place
 * @stream: the stream; one reservation at a time
 * @len: bytes, > 0
 * @data: filled in: @len writable bytes, aligned to 16, until commit or cancel
 * @timeout_ns: how long to wait for the stream's window, or for the peer to drain a full ring
 *
 * All that a send may have to wait for, or that may be refused, is had here.
 * A message larger than the window goes when the stream has nothing else out, and the session less
 * than max_memory.
 *
 * Return: 0; -EAGAIN, -ETIMEDOUT no room in the window or the ring; -EMSGSIZE more than max_memory;
 * -EBUSY a reservation is out; -EPIPE the peer closed the session or died; -ECONNRESET the stream
 * was reset; -ESHUTDOWN after finish; -EBADMSG the peer broke the protocol; -EDQUOT, -ENOSPC,
 * -ENOMEM, -EMFILE, -ENFILE a new segment could not be had; -ESTALE.
 */
int shmipc_reserve(struct shmipc_stream *stream, size_t len, void **data, int64_t timeout_ns);

/**
 * shmipc_commit - send what was written into the reservation
 * @stream: the stream
 * @len: bytes to send, 1 to what was reserved
 * @flags: SHMIPC_MORE, SHMIPC_CORK
 *
 * Never waits: the ring slot was promised with the reservation.
 *
 * Return: 0; -EINVAL nothing reserved, bad length or flag, and the reservation stands; -EPIPE,
 * -ECONNRESET, -EBADMSG as shmipc_reserve(): the reservation is gone.
 */
int shmipc_commit(struct shmipc_stream *stream, size_t len, unsigned int flags);

/**
 * shmipc_cancel - give a reservation back unsent
 *
 * Return: 0; -EINVAL nothing reserved.
 */
int shmipc_cancel(struct shmipc_stream *stream);

/**
 * shmipc_write - copy a buffer out as one message
 * @stream: the stream
 * @buf: the bytes
 * @len: how many, > 0
 * @flags: SHMIPC_MORE, SHMIPC_CORK
 * @timeout_ns: how long to wait for the window, in all
 *
 * A message of up to a quarter of the window travels as one frame, so that its receiver
 * gets it as one span; a longer one is cut.
 *
 * Return: how many bytes were sent, > 0: fewer than @len when the time was over, or an error came,
 * in the middle; then the message is open, and the next write goes on with it or tells the error.
 * Errors, of which none is -EMSGSIZE, as shmipc_reserve(); -EINVAL length 0 or unknown flag.
 */
ssize_t shmipc_write(struct shmipc_stream *stream, const void *buf, size_t len,
		     unsigned int flags, int64_t timeout_ns);

/** struct shmipc_span - bytes in place; aligned to 16, but for a frame of which a part was read */
struct shmipc_span {
	const void *data;
	size_t len;
};

/**
 * struct shmipc_message - a message (or part of one) held by its receiver
 * @len: bytes in all spans
 * @position: stream position of the first byte
 * @flags: SHMIPC_MSG_*
 * @nspans: how many spans
 * @spans: where the bytes are. A peer that is alive can still change bytes longer than 96 in place
 *	(a hostile one; this library never does): copy what is checked and then used.
 */
struct shmipc_message {
	size_t len;
	uint64_t position;
	uint32_t flags;
	uint32_t nspans;
	struct shmipc_span spans[SHMIPC_SPANS_MAX];
	void *lease[SHMIPC_SPANS_MAX];	/* the library's */
};

#define SHMIPC_MSG_MORE		(1U << 0)	/* the message goes on at the next peek */
/*
 * It, or a part of it, was taken off the stream before by a program that died without returning it,
 * and that this one continues: @position tells which bytes. shmipc_read() can't show that.
 */
#define SHMIPC_MSG_REDELIVERED	(1U << 1)
#define SHMIPC_MSG_GIVEN	(1U << 2)	/* shmipc_buf_take() can make it this process's own */

/**
 * shmipc_peek - take the next message, to read in place
 * @stream: the stream
 * @message: filled in; the caller gives it back with shmipc_return()
 * @timeout_ns: how long to wait
 *
 * Messages may be kept as long as one likes and returned in any order: a message that is
 * held takes its share of this stream's window and of nothing else.
 * A frame that follows later has SHMIPC_MSG_MORE set on what came before.
 *
 * -ECANCELED comes once, where a message ends that its sender began and did not live to complete: what
 * was had of it with SHMIPC_MSG_MORE is to be dropped, and the next call goes on with the next
 * message. A receiver that was itself adopted may be told so of a message of which it has no part.
 *
 * Return: 1 there is one; 0 the stream ended (finish); -EAGAIN, -ETIMEDOUT; -EPIPE the peer
 * died or closed the session before it finished the stream; -ECONNRESET the stream was reset;
 * -ECANCELED; -EBADMSG the peer broke the protocol; -ESTALE.
 */
int shmipc_peek(struct shmipc_stream *stream, struct shmipc_message *message,
		int64_t timeout_ns);

/**
 * shmipc_return - give a message back to its sender
 * @stream: the stream that it was taken from
 * @message: as shmipc_peek() filled it in; of copies, one only
 *
 * Its spans may not be read any more. Any thread may do it, also while another reads the stream.
 *
 * Return: 0, and its @nspans is 0; -EINVAL it is not held (any more), or of another stream.
 */
int shmipc_return(struct shmipc_stream *stream, struct shmipc_message *message);

/**
 * shmipc_read - copy the next bytes in
 * @stream: the stream
 * @buf: where to
 * @len: room, > 0
 * @timeout_ns: how long to wait for the first byte
 *
 * Never crosses the end of a message. What was read is returned to the sender by itself.
 *
 * Return: bytes, > 0; 0 the stream ended; errors as shmipc_peek(). After -ECONNRESET @buf may have
 * been written to.
 */
ssize_t shmipc_read(struct shmipc_stream *stream, void *buf, size_t len, int64_t timeout_ns);

/**
 * shmipc_flush - ring the doorbells that SHMIPC_CORK kept back
 *
 * On a stream that was opened and has sent nothing yet, this tells the peer of it, so that the
 * peer may speak first.
 *
 * Return: 0, also when nobody is left to hear: sends and reads tell that.
 */
int shmipc_flush(struct shmipc_stream *stream);

/**
 * shmipc_finish - end the sending direction; reading goes on
 *
 * The peer reads what was sent, then the end. If the peer lets its ring run full, the end goes out
 * with a later call on this endpoint.
 *
 * Return: 0; -EBUSY a reservation is out; -ESHUTDOWN already finished; -EPIPE, -ECONNRESET,
 * -EBADMSG as shmipc_reserve().
 */
int shmipc_finish(struct shmipc_stream *stream);

/**
 * shmipc_reset - end both directions at once and drop what was not read
 * @stream: the stream
 * @code: for the peer: shmipc_stream_reset_code()
 *
 * A reservation is cancelled. Messages held from the stream stay valid until they are returned. Threads
 * that wait on it get -ECONNRESET; shmipc_wait() reports SHMIPC_EV_READ until it is closed.
 *
 * Return: 0, also on a stream that was reset already; -EPIPE, -EOWNERDEAD, -EBADMSG the session
 * ended, as shmipc_session_error().
 */
int shmipc_reset(struct shmipc_stream *stream, uint32_t code);

/** shmipc_stream_reset_code - the code of the peer's reset. Return: it, or 0: it did not reset. */
uint32_t shmipc_stream_reset_code(const struct shmipc_stream *stream);

/**
 * shmipc_stream_close - let go of a stream
 * @stream: or NULL
 *
 * Finishes it if that was not done. Data that was not read, or that comes after, resets
 * the stream (as closing a TCP socket does). Messages held from it are returned.
 */
void shmipc_stream_close(struct shmipc_stream *stream);

/* ---- big buffers -------------------------------------------------------- */

/*
 * A buffer is memory of the program's that is sent as it is, however large: sending 1 GiB costs what
 * sending 64 bytes costs. Its peer maps it at the first send and keeps it mapped, so a buffer that
 * is used again is cheaper than a new one. The library keeps none for later: what is freed is gone.
 *
 * A peer to which it was sent can read it until it is freed, or given to another, also what is
 * written into it later: use one buffer for those who may read the same.
 *
 * With the embedded provider a session can be sent 768 different buffers in its life, of 64 GiB
 * together with its other memory, and what is freed stays mapped at the peer until the session ends.
 * SHMIPC_SEALED does not cover buffers.
 */

/**
 * shmipc_buf_new - make a buffer
 * @ep: the endpoint; it can be sent on every stream of it
 * @len: bytes, > 0, rounded up to whole pages; all zero
 * @buf: filled in; the caller frees it with shmipc_buf_free()
 *
 * Return: 0; -EINVAL length; -EDQUOT, -ENOSPC this user's, the machine's cap on memory; -ENOMEM;
 * -EMFILE, -ENFILE no descriptor left; -ENOENT embedded, and /proc is not mounted; -ESTALE.
 */
int shmipc_buf_new(struct shmipc_endpoint *ep, size_t len, struct shmipc_buf **buf);

/**
 * shmipc_buf_free - let go of a buffer
 * @buf: or NULL. Its pointer is no longer valid.
 *
 * Where it is out, its readers keep it until they have returned it, and what was given can still be
 * taken; the memory is freed when the last has come back and a call on this endpoint sees it.
 */
void shmipc_buf_free(struct shmipc_buf *buf);

/**
 * shmipc_buf_data - where a buffer is
 * @buf: the buffer
 *
 * The address is the same for its life. It may be written as long as the buffer is not out,
 * frozen or given; nothing stops a program from writing into what is out, and its readers see that.
 * A touch of what is given, and a write to what is frozen, is SIGBUS; SIGSEGV a write to what was
 * frozen when it was taken over.
 *
 * Return: the address, aligned to a page; also in a forked child, where nothing is mapped there.
 */
void *shmipc_buf_data(const struct shmipc_buf *buf);

/**
 * shmipc_buf_id - which buffer is it?
 * @buf: the buffer
 *
 * A successor knows it by the same (struct shmipc_adopted).
 *
 * Return: an id that is unique among the endpoint's buffers.
 */
uint64_t shmipc_buf_id(const struct shmipc_buf *buf);

/** shmipc_buf_size - bytes in a buffer. Return: as many, whole pages; also in a forked child. */
size_t shmipc_buf_size(const struct shmipc_buf *buf);

/**
 * shmipc_buf_send - send the first bytes of a buffer as one message, in place
 * @stream: the stream, of the endpoint that made or took the buffer
 * @buf: the buffer
 * @len: bytes to send, 1 to shmipc_buf_size()
 * @flags: SHMIPC_MORE, SHMIPC_CORK
 * @timeout_ns: how long to wait for the stream's window, or for the peer to drain a full ring
 *
 * The receiver gets it with shmipc_peek() or shmipc_read(), in order with all other messages. It
 * is out until that message is returned; it may be sent again meanwhile, on any stream of any
 * session. It counts for the stream's window, not for max_memory. A stream with nothing out may
 * always send one.
 *
 * Return: 0; -EINVAL length, flag, or a buffer of another endpoint; -EBUSY it is given, or a
 * reservation is out on the stream; -ESTALE the peer took it; -ENOSPC the session has as many
 * buffers as can be, or (embedded) the peer has not taken those before: shmipc_last_error() says which;
 * -EAGAIN, -ETIMEDOUT, -EPIPE, -ECONNRESET, -ESHUTDOWN, -EBADMSG as
 * shmipc_reserve(); -ENOMEM.
 */
int shmipc_buf_send(struct shmipc_stream *stream, struct shmipc_buf *buf, size_t len,
		    unsigned int flags, int64_t timeout_ns);

/**
 * shmipc_buf_wait - wait until a buffer is out nowhere
 * @buf: the buffer; nobody sends it meanwhile
 * @timeout_ns: how long to wait
 *
 * Where a session ended, its readers have returned it.
 *
 * Return: 0 it may be written again (what was given has come back); -EAGAIN, -ETIMEDOUT it is
 * still out; -ESTALE it was given and taken: free it; -EBUSY it was given in a session that this
 * side has closed since, whose peer may still take it.
 */
int shmipc_buf_wait(struct shmipc_buf *buf, int64_t timeout_ns);

/**
 * shmipc_buf_freeze - give up the right to write, for good
 * @buf: the buffer, out or not
 *
 * Its readers may then check it in place: it can't change any more. It can be sent and given;
 * who takes it may write.
 *
 * Return: 0, also for one that is frozen; -EOPNOTSUPP the provider or the module can't; -EBUSY it
 * is given; -ESTALE the peer took it.
 */
int shmipc_buf_freeze(struct shmipc_buf *buf);

/**
 * shmipc_buf_give - send a buffer, and the right to write it with it
 * @stream: as shmipc_buf_send(), and all that follows
 * @buf: the buffer, which may be out nowhere
 * @len: bytes of the message; the whole buffer is given
 * @flags: as there
 * @timeout_ns: as there
 *
 * From then on this process can't read or write it. The receiver reads the message as any other, and
 * may make the buffer its own by shmipc_buf_take(). If it returns the message without, or dies, or
 * closes the session, the buffer comes back. shmipc_buf_wait() tells which.
 *
 * Return: 0; -EOPNOTSUPP the provider or the module can't; -EBUSY it is out; others as
 * shmipc_buf_send().
 */
int shmipc_buf_give(struct shmipc_stream *stream, struct shmipc_buf *buf, size_t len,
		    unsigned int flags, int64_t timeout_ns);

/**
 * shmipc_buf_take - become the owner of a buffer that was given
 * @stream: the stream that the message was taken from
 * @message: as shmipc_peek() filled it in, of one span; it is returned by this (its @nspans is 0)
 * @buf: filled in; the caller frees it with shmipc_buf_free()
 *
 * The bytes stay where the message's span pointed, and shmipc_buf_data() is that address. The
 * memory counts for this user from now on. On an error the message is as it was.
 *
 * Return: 0; -EINVAL the message is not held, not given, or has more spans than one; -EDQUOT it is
 * over this user's cap on memory, -ENOSPC over one of the endpoint's; -EBUSY another message of
 * the same buffer is held; -ENOENT the peer took it back; -EOPNOTSUPP; -ENOMEM; -ESTALE it was
 * taken and could not be mapped: then it and the message are gone.
 */
int shmipc_buf_take(struct shmipc_stream *stream, struct shmipc_message *message,
		    struct shmipc_buf **buf);

/* ---- handover ----------------------------------------------------------- */

/*
 * A program hands its endpoint to the next one, with its names and all that is in its sessions.
 * Peers notice a pause, and need nothing for it. With the embedded provider too, among processes of
 * one uid; but what a program leaves that dies (orphan_ms) only the kernel provider keeps.
 *
 *	old program			new program
 *	shmipc_offer()
 *	serves on			shmipc_adopt()
 *	SHMIPC_EV_OFFER
 *	shmipc_yield(ep, state)		returns; shmipc_adopted_next() until 0
 *	shmipc_close()			serves on
 *
 * That the old program yields by a call of its own is what says where it has stopped: between
 * two messages, with nothing of the library's memory in its hands.
 */

/**
 * struct shmipc_offer_options - for shmipc_offer()
 * @size: sizeof(struct shmipc_offer_options), no other
 * @flags: SHMIPC_OFFER_BY_NAME
 * @timeout_ns: until a successor must have taken over, > 0, at most an hour. Then the offer is over
 * @state_max: bytes of state that shmipc_yield() may hand on, up to 1 MiB
 */
struct shmipc_offer_options {
	uint32_t size;
	uint32_t flags;
	int64_t timeout_ns;
	uint64_t state_max;
};

/*
 * A process of the same euid may adopt, by any name that the endpoint listens on or by the fd.
 * Without, whoever has the fd may; with the embedded provider it must be of the same euid as well.
 * A listener with orphan_ms lets one of the same euid adopt by its name in any case.
 */
#define SHMIPC_OFFER_BY_NAME	(1U << 0)

/**
 * shmipc_offer - offer an endpoint to a successor, and serve on
 * @ep: the endpoint
 * @options: how
 * @fd: filled in: the offer, to be passed to the successor (by fork, or through a socket). It is
 *	the endpoint's, which closes it at the shmipc_yield() that ends the offer, at
 *	shmipc_offer_cancel(), the next shmipc_offer() or shmipc_close(), and has FD_CLOEXEC set
 *
 * Does not block. When a successor is ready, shmipc_wait() reports SHMIPC_EV_OFFER, and @fd polls
 * POLLIN; then call shmipc_yield(). @fd polls POLLHUP when the offer is over: then, and when a
 * successor dies or gives up, all is as before, and one may offer again. One thread at a time may
 * call this, shmipc_offer_cancel(), shmipc_yield() or shmipc_close() on an endpoint.
 *
 * With the embedded provider it is the calls on this endpoint that let a successor in, and that see
 * the time pass: wait with shmipc_wait() or on shmipc_fd(), not on @fd alone.
 *
 * Return: 0; -EOPNOTSUPP the provider, or an old module, can't; -EBUSY it is offered already;
 * -EINVAL an option; -EDQUOT, -ENOSPC, -ENOMEM memory for the state; -EMFILE, -ENFILE no descriptor
 * left; -ESTALE.
 */
int shmipc_offer(struct shmipc_endpoint *ep, const struct shmipc_offer_options *options, int *fd);

/**
 * shmipc_offer_cancel - withdraw what shmipc_offer() offered
 * @ep: the endpoint
 *
 * Nothing has moved, since that takes a shmipc_yield(). A successor that waits gets -ECANCELED from
 * shmipc_adopt(), one that comes later too, by the fd. The offer's descriptor is closed, a
 * SHMIPC_EV_OFFER that was not reported yet is not, and one may offer again. An offer that is over
 * by itself is cleared away likewise. Threads as for shmipc_offer().
 *
 * Return: 0; -ENOENT nothing is offered; -ESTALE.
 */
int shmipc_offer_cancel(struct shmipc_endpoint *ep);

/**
 * shmipc_yield - stop, and hand the endpoint over
 * @ep: the endpoint. As with shmipc_close(), no other thread may be in a call on it
 * @state: what the successor's shmipc_adopted_state() gives, or NULL
 * @len: bytes of it, up to the offer's state_max
 *
 * Blocks until the successor has taken over or the offer is over, by its timeout at the latest. On
 * 0 the endpoint is the successor's: close it; its sessions and streams go with it, and every call
 * on them answers -ESTALE. On an error nothing has changed, and the program goes on.
 *
 * Data that was not read, messages half sent or half read, buffers, and streams not accepted yet are
 * the successor's to go on with. What only this program knew is not: attached pointers, paused
 * streams. The memory of its buffers is no longer its own: a touch is SIGBUS.
 *
 * Return: 0 handed over; -EAGAIN nobody has adopted yet; -ECANCELED the offer is over: the
 * successor died or gave up, or the time passed; -EBUSY a message is held, a reservation is out, or
 * another thread waits; -EMSGSIZE the state is too long; -ENOENT nothing is offered; -EDQUOT what was made since the
 * successor adopted is over a cap of its user; -EOPNOTSUPP embedded, and SHMIPC_SEALED; -ESTALE.
 */
int shmipc_yield(struct shmipc_endpoint *ep, const void *state, size_t len);

/**
 * shmipc_adopt - take an endpoint over
 * @name: a name that it listens on: of one offered with SHMIPC_OFFER_BY_NAME, or of a listener with
 *	orphan_ms, whose program has offered it or died; or NULL
 * @fd: what shmipc_offer() gave, still the caller's; -1 with a name
 * @options: window, max_memory and max_streams of what its listeners accept from now on; or NULL.
 *	The rest of them stays as the old program had it, orphan_ms too
 * @ep: filled in; the caller closes it with shmipc_close()
 * @timeout_ns: how long to wait for shmipc_yield() in the other program; must not be 0
 *
 * Sessions go on where the old program stopped. Where it died instead, each byte that it had not
 * returned comes again, marked with SHMIPC_MSG_REDELIVERED where it may have been seen; so does the
 * end of a stream that it had not closed. A message that it was sending ends at its peer with
 * -ECANCELED. A session that can't go on is closed.
 *
 * Before it returns 0 nothing is taken: when it fails or this process dies, the other goes on, and
 * its offer is over; an orphan waits on.
 *
 * Return: 0; -EOPNOTSUPP the provider, or an old module, can't; -ENOENT nobody has that name;
 * -EACCES this user may not; -EBUSY neither offered nor left, or adopted by another; -EBADF @fd is
 * no offer; -ECANCELED the offer is over; -ETIMEDOUT; -EINVAL name, option or timeout; -EDQUOT this
 * user's cap; -EMFILE, -ENFILE no descriptor left; -ENOMEM; -ENODEV, -EPROTONOSUPPORT as
 * shmipc_open().
 */
int shmipc_adopt(const char *name, int fd, const struct shmipc_options *options,
		 struct shmipc_endpoint **ep, int64_t timeout_ns);

/**
 * struct shmipc_adopted - one thing that was taken over
 * @type: SHMIPC_ADOPTED_*
 * @reserved: 0
 * @object: the listener, session, stream or buffer, which the caller closes, or frees, as if it
 *	had made it
 * @id: shmipc_session_id(), shmipc_stream_id(), shmipc_buf_id(); 0 of a listener
 * @received: stream: position of the first byte that the old program had not read. After a crash,
 *	bytes before it may come again
 * @sent: stream: bytes that were sent on it
 * @name: listener: its name
 */
struct shmipc_adopted {
	uint32_t type;
	uint32_t reserved;
	void *object;
	uint64_t id;
	uint64_t received;
	uint64_t sent;
	char name[64];
};

#define SHMIPC_ADOPTED_LISTENER	1	/* a struct shmipc_listener */
#define SHMIPC_ADOPTED_SESSION	2	/* a struct shmipc_session */
#define SHMIPC_ADOPTED_STREAM	3	/* a struct shmipc_stream, of the session before it */
#define SHMIPC_ADOPTED_BUFFER	4	/* a struct shmipc_buf */

/**
 * shmipc_adopted_next - what did shmipc_adopt() take over?
 * @ep: the endpoint
 * @item: filled in
 *
 * Listeners come first, then sessions, each followed by its streams that the old program had opened
 * or accepted. Those that it had not accepted come from shmipc_stream_accept(). Buffers come last:
 * all that the old program had, with what it had written there; those that it had freed while they
 * were out, too, and after a crash perhaps one that it never knew. Free those that nobody asks for.
 * Ask until 0 before anything is closed; one thread at a time.
 *
 * Return: 1 there is one; 0 that was all, or the endpoint was not adopted.
 */
int shmipc_adopted_next(struct shmipc_endpoint *ep, struct shmipc_adopted *item);

/**
 * shmipc_adopted_state - how was it left, and with what?
 * @ep: the endpoint
 * @state: filled in: what the old program gave to shmipc_yield(), valid until @ep is closed; or
 *	NULL
 * @len: filled in: bytes of it
 *
 * Return: 0 handed over; 1 the old program died, and there is no state; -ENOENT the endpoint was
 * not adopted.
 */
int shmipc_adopted_state(struct shmipc_endpoint *ep, const void **state, size_t *len);

/* ---- errors ------------------------------------------------------------- */

/** shmipc_strerror - what a (negative) error value means. Return: a constant string. */
const char *shmipc_strerror(int error);

/**
 * shmipc_last_error - a sentence about this thread's last failure, with the next step to take
 *
 * Of shmipc_open(), _listen(), _connect(), _accept(), _adopt(), and what they need; of new streams and
 * buffers, of shmipc_reserve() and of offers. Others leave what was there, so ask after a failure
 * of one of these. "" if there was none, or one of the five has succeeded since. Valid until the
 * thread's next call.
 */
const char *shmipc_last_error(void);

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_SHMIPC_H */
