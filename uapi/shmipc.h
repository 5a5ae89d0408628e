/* SPDX-License-Identifier: ((GPL-2.0-only WITH Linux-syscall-note) OR MIT) */
/*
 * shmipc.h - the ABI of /dev/shmipc
 *
 * This file is the specification. Every request takes a pointer to a struct
 * whose first word, @size, is the size that the caller was compiled with. A
 * longer struct than the module knows is accepted when the unknown tail is
 * zero, a shorter one (down to the size of the first version) is read as if
 * its missing tail were zero. Fields named @out_* are written by the module,
 * also when the caller's struct is shorter: what does not fit is left out. They mean
 * something only when the request succeeded.
 * Layouts are the same for 32-bit callers.
 *
 * ABI changelog (SHMIPC_ABI):
 *	1	first version: QUERY, SEG_CREATE, SEG_INFO, SEG_GRANT, SEG_REVOKE,
 *		BIND, ACCEPT, CONNECT, SYNC, CLOSE;
 *		with SHMIPC_FEATURE_GIVE: SEG_FREEZE, SEG_GIVE, SEG_TAKE;
 *		with SHMIPC_FEATURE_HANDOVER: OFFER, ADOPT, LIST, YIELD, COMMIT, WATCH; @adopt and
 *		@orphan_ms of BIND, SHMIPC_BIND_FRESH
 *
 * Errors have one meaning each:
 *	ENOTTY		unknown request
 *	E2BIG		the struct has a non-zero tail that the module does not know
 *	EINVAL		struct too small, reserved field not zero, malformed value
 *	EOPNOTSUPP	known field, unknown flag or value
 *	EFAULT		bad user pointer
 *	ENOENT		no such handle, slot or name (here: in this network namespace)
 *	EBADF		a handle of another kind
 *	EOVERFLOW	arithmetic overflow
 *	EDQUOT		a cap of the user
 *	ENOSPC		a cap of the machine or of this endpoint
 *	ENOMEM		allocator or memory cgroup
 *	EACCES		mode, uid or protection forbids it
 *	EADDRINUSE	the name is taken
 *	ECONNREFUSED	the listener went away before it accepted
 *	EAGAIN		would block: nothing to accept, or the backlog is full
 *	ETIMEDOUT	the timeout passed (CONNECT)
 *	EINTR		a signal came (CONNECT, ACCEPT; SYNC reports it in out_flags)
 *	EBUSY		lost a race, or still in use; by who has yielded, or adopts and may not yet
 *	ESTALE		this attachment was handed over, or the endpoint is dead; or this segment
 *			was given, and taken
 *	EPERM		called by a process that is not the endpoint's
 *	EPIPE		the peer is gone
 *	EEXIST		that slot is in use, or that segment granted already
 *	ENOTCONN	the session is not accepted yet
 *	EOWNERDEAD	an orphan holds the name (BIND)
 *
 * Reserved request numbers, so that programs of the next versions and this one
 * never meet under one number: 0x13-0x1f more about segments,
 * 0x26-0x2f more about handover, 0x30-0x3f files.
 */
#ifndef _UAPI_LINUX_SHMIPC_H
#define _UAPI_LINUX_SHMIPC_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SHMIPC_ABI		1
#define SHMIPC_ABI_OLDEST	1	/* the oldest callers that the module still serves */

#define SHMIPC_IOC_MAGIC	0xe9
#define SHMIPC_IOC(nr)		_IO(SHMIPC_IOC_MAGIC, nr)

#define SHMIPC_IOC_QUERY	SHMIPC_IOC(0x00)
#define SHMIPC_IOC_SYNC		SHMIPC_IOC(0x01)
#define SHMIPC_IOC_CLOSE	SHMIPC_IOC(0x02)
#define SHMIPC_IOC_SEG_CREATE	SHMIPC_IOC(0x03)
#define SHMIPC_IOC_SEG_INFO	SHMIPC_IOC(0x04)
#define SHMIPC_IOC_SEG_GRANT	SHMIPC_IOC(0x05)
#define SHMIPC_IOC_SEG_REVOKE	SHMIPC_IOC(0x06)
#define SHMIPC_IOC_BIND		SHMIPC_IOC(0x07)
#define SHMIPC_IOC_ACCEPT	SHMIPC_IOC(0x08)
#define SHMIPC_IOC_CONNECT	SHMIPC_IOC(0x09)
#define SHMIPC_IOC_SEG_FREEZE	SHMIPC_IOC(0x10)
#define SHMIPC_IOC_SEG_GIVE	SHMIPC_IOC(0x11)
#define SHMIPC_IOC_SEG_TAKE	SHMIPC_IOC(0x12)

#define SHMIPC_IOC_OFFER	SHMIPC_IOC(0x20)
#define SHMIPC_IOC_ADOPT	SHMIPC_IOC(0x21)
#define SHMIPC_IOC_LIST		SHMIPC_IOC(0x22)
#define SHMIPC_IOC_YIELD	SHMIPC_IOC(0x23)
#define SHMIPC_IOC_COMMIT	SHMIPC_IOC(0x24)
#define SHMIPC_IOC_WATCH	SHMIPC_IOC(0x25)

/* Limits that are part of the ABI. Those that may change are in QUERY. */
#define SHMIPC_NAME_MAX		63	/* bytes, [A-Za-z0-9._:/-], no terminator needed */
#define SHMIPC_META_MAX		256	/* bytes of metadata with a CONNECT */
#define SHMIPC_NOTIFY_MAX	1024	/* notify[] entries a SYNC */
#define SHMIPC_EVENTS_MAX	1024	/* events a SYNC */
#define SHMIPC_BACKLOG_MAX	4096
#define SHMIPC_SLOTS_MAX	1024	/* grants a session and direction */
#define SHMIPC_OFFER_NS_MAX	3600000000000ULL	/* longest deadline of an offer: an hour */
#define SHMIPC_TIMEOUT_NONE	((__u64)~0ULL)	/* wait for ever */
#define SHMIPC_UID_ANY		((__u32)~0U)

/*
 * Handles are 32-bit, local to an endpoint, never 0 and not reused soon.
 * Handle 0 means "none", in CLOSE the endpoint itself.
 */

/* ---- the anchor page ---------------------------------------------------- */

/**
 * struct shmipc_anchor - what the module writes for an endpoint
 *
 * The first mmap of a file opened on /dev/shmipc is its anchor: offset 0, one
 * page, PROT_READ, MAP_SHARED, once. It binds the endpoint to the address space
 * that made it. The endpoint dies when this mapping goes (exit, kill, exec,
 * munmap), whoever still holds the file. Every other request but QUERY needs
 * the anchor first (EINVAL without).
 *
 * @ready: bumped each time an object is put on the empty or non-empty ready
 *	list. A program that spins reads this word instead of calling SYNC. It is
 *	a hint that is never late: it changes before the waiter is woken.
 * @state: SHMIPC_STATE_*.
 */
struct shmipc_anchor {
	__u32 ready;
	__u32 state;
};

#define SHMIPC_STATE_LIVE	0
#define SHMIPC_STATE_DEAD	1
#define SHMIPC_STATE_MOVED	2	/* handed over */
#define SHMIPC_STATE_ADOPTING	3	/* the anchor of a successor before its COMMIT */

/* ---- QUERY -------------------------------------------------------------- */

/**
 * struct shmipc_query - version, features, limits and the caller's usage
 *
 * @size: sizeof(struct shmipc_query)
 * @flags: 0
 * @out_abi: SHMIPC_ABI of the module
 * @out_abi_oldest: oldest SHMIPC_ABI that it still serves
 * @out_features: SHMIPC_FEATURE_* bits
 * @out_page_size: granularity of segment lengths and offsets
 * @out_max_notify: notify[] entries a SYNC
 * @out_max_segment: largest segment, bytes
 * @out_user_pages: pages charged to the caller's user
 * @out_user_pages_max: cap of those
 * @out_total_pages: pages charged on the machine
 * @out_total_pages_max: cap of those
 * @out_endpoints_max: cap on endpoints
 * @out_sessions_max: cap on sessions
 * @out_version: text of the module's version, zero-terminated
 */
struct shmipc_query {
	__u32 size;
	__u32 flags;
	__u32 out_abi;
	__u32 out_abi_oldest;
	__aligned_u64 out_features;
	__u32 out_page_size;
	__u32 out_max_notify;
	__aligned_u64 out_max_segment;
	__aligned_u64 out_user_pages;
	__aligned_u64 out_user_pages_max;
	__aligned_u64 out_total_pages;
	__aligned_u64 out_total_pages_max;
	__u32 out_endpoints_max;
	__u32 out_sessions_max;
	__u8 out_version[32];
};

#define SHMIPC_FEATURE_STREAMS	(1ULL << 0)	/* all that ABI 1 describes, but for what follows */
#define SHMIPC_FEATURE_GIVE	(1ULL << 1)	/* SEG_FREEZE, SEG_GIVE, SEG_TAKE */
#define SHMIPC_FEATURE_HANDOVER	(1ULL << 2)	/* OFFER and what follows from it */

/* ---- segments ----------------------------------------------------------- */

/**
 * struct shmipc_seg_create - allocate pinned, zeroed, charged pages
 *
 * The endpoint becomes the owner: the only one that may map them writable.
 *
 * @size: sizeof(struct shmipc_seg_create)
 * @flags: 0; SHMIPC_SEG_PINNABLE is reserved (EOPNOTSUPP)
 * @length: bytes, > 0, rounded up to whole pages
 * @out_length: bytes that were allocated
 * @out_offset: where mmap finds it on this endpoint's file
 * @out_handle: the segment
 * @__reserved: 0
 *
 * Errors: EINVAL length 0 or over out_max_segment, EOVERFLOW, EDQUOT, ENOSPC,
 * ENOMEM, EINTR (killed while it allocated), ESTALE.
 */
struct shmipc_seg_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 length;
	__aligned_u64 out_length;
	__aligned_u64 out_offset;
	__u32 out_handle;
	__u32 __reserved;
};

#define SHMIPC_SEG_PINNABLE	(1U << 0)

/**
 * struct shmipc_seg_info - describe an own segment, or one that a peer granted
 *
 * @size: sizeof(struct shmipc_seg_info)
 * @flags: 0: @handle is a segment of this endpoint. SHMIPC_SEG_OF_PEER:
 *	@handle is a session and @slot the slot that its peer granted.
 * @handle: segment or session
 * @slot: 0 without SHMIPC_SEG_OF_PEER
 * @out_length: bytes
 * @out_offset: where mmap finds it on this endpoint's file
 * @out_rights: SHMIPC_RIGHT_* that this endpoint has now. Of an own segment: none while it is
 *	given, no WRITE when it is frozen
 * @out_grants: how many grants of it exist (own segments; else 0)
 *
 * Errors: ENOENT, EBADF, ENOTCONN (session not accepted yet), ESTALE its peer has taken it.
 */
struct shmipc_seg_info {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 slot;
	__aligned_u64 out_length;
	__aligned_u64 out_offset;
	__u32 out_rights;
	__u32 out_grants;
};

#define SHMIPC_SEG_OF_PEER	(1U << 0)

#define SHMIPC_RIGHT_READ	(1U << 0)
#define SHMIPC_RIGHT_WRITE	(1U << 1)
#define SHMIPC_RIGHT_TAKE	(1U << 2)	/* of a peer's: it is given to us */

/**
 * struct shmipc_seg_grant - let a session's peer map a segment read-only
 *
 * @size: sizeof(struct shmipc_seg_grant)
 * @flags: 0
 * @session: the session
 * @segment: a segment that this endpoint owns
 * @slot: the name that the peer will know it by, < SHMIPC_SLOTS_MAX, chosen by
 *	the caller, unique among its grants in this session. Slot 0 is the
 *	segment that came with CONNECT or ACCEPT.
 * @__reserved: 0
 *
 * Errors: ENOENT, EBADF, EINVAL slot, EEXIST the slot is in use, or the segment is granted in this
 * session already; ENOTCONN, EPIPE, ENOSPC the peer has no offsets left, ENOMEM; EBUSY it is given,
 * ESTALE its peer has taken it: so do CONNECT and ACCEPT answer for their @segment.
 */
struct shmipc_seg_grant {
	__u32 size;
	__u32 flags;
	__u32 session;
	__u32 segment;
	__u32 slot;
	__u32 __reserved;
};

/**
 * struct shmipc_seg_revoke - take a grant back
 *
 * When it returns, the peer's mappings of it are gone: a touch is SIGBUS, or finds zeros where the
 * peer asked for that (SHMIPC_CONNECT_ZERO_REVOKED).
 *
 * @size: sizeof(struct shmipc_seg_revoke)
 * @flags: 0
 * @session: the session
 * @slot: the slot that it was granted under
 *
 * Errors: ENOENT, EBADF, EINVAL slot.
 */
struct shmipc_seg_revoke {
	__u32 size;
	__u32 flags;
	__u32 session;
	__u32 slot;
};

/**
 * struct shmipc_seg_freeze - give up the own right to write, and stay the owner
 *
 * When it returns, the bytes can't change any more. What the owner had mapped writable can be read
 * as before, a write there is SIGBUS; a new mapping can't be writable (EACCES), nor be made so by
 * mprotect. Nothing that the owner does brings the right back. Who takes it, when it is given away,
 * may write. To freeze what is frozen is no error.
 *
 * @size: sizeof(struct shmipc_seg_freeze)
 * @flags: 0
 * @segment: a segment that this endpoint owns
 * @__reserved: 0
 *
 * Errors: ENOENT, EBADF, EBUSY it is given, ESTALE its peer has taken it.
 */
struct shmipc_seg_freeze {
	__u32 size;
	__u32 flags;
	__u32 segment;
	__u32 __reserved;
};

/**
 * struct shmipc_seg_give - offer the ownership of a granted segment to the session's peer
 *
 * When it returns, nobody can write: what the giver has mapped is SIGBUS to touch, also to read,
 * and can't be mapped. The peer reads on, and gets CAUSE_GIVEN; it may SEG_TAKE. Until then the
 * segment is in limbo: the giver owns it and is charged, without any right.
 *
 * It comes back, with the rights that it had before and CAUSE_RETURNED for the giver, when the peer
 * refuses (the grant stays), or when the grant ends: by SEG_REVOKE, by CLOSE of the session with
 * REVOKE, or because the peer closed its side or died. The cause is told on the session, as long as
 * the giver has not closed that. If the giver dies, closes the session without REVOKE, or closes
 * the segment, the peer can still take it.
 *
 * @size: sizeof(struct shmipc_seg_give)
 * @flags: 0
 * @session: the session
 * @slot: what it was granted under. It must be the only grant.
 *
 * Errors: ENOENT (also: the segment was closed), EBADF, EINVAL slot, ENOTCONN, EPIPE, EBUSY given
 * already, or granted elsewhere too (a CONNECT or ACCEPT under way counts).
 */
struct shmipc_seg_give {
	__u32 size;
	__u32 flags;
	__u32 session;
	__u32 slot;
};

/**
 * struct shmipc_seg_take - become the owner of what the session's peer gave, or refuse it
 *
 * The slot is free then, the segment has a handle here and is charged to this endpoint's user (not
 * to its memory cgroup). What was mapped stays mapped, for reading; to write, map it again, over
 * the old mapping if pointers shall stay. The giver's handle is of no use any more but for CLOSE
 * (ESTALE); nobody is told.
 *
 * @size: sizeof(struct shmipc_seg_take)
 * @flags: SHMIPC_TAKE_REFUSE: it goes back, and stays granted; outputs are not written
 * @session: the session
 * @slot: what it was given under
 * @out_length: bytes
 * @out_offset: where mmap finds it on this endpoint's file: where it was when it was granted
 * @out_handle: the segment
 * @__reserved: 0
 *
 * Errors: ENOENT (also: nothing is given there, or not any more), EBADF, EINVAL slot, ENOTCONN,
 * EDQUOT this user's cap (it stays in limbo), ENOSPC handles, ENOMEM, ESTALE.
 */
struct shmipc_seg_take {
	__u32 size;
	__u32 flags;
	__u32 session;
	__u32 slot;
	__aligned_u64 out_length;
	__aligned_u64 out_offset;
	__u32 out_handle;
	__u32 __reserved;
};

#define SHMIPC_TAKE_REFUSE	(1U << 0)

/* ---- names and sessions ------------------------------------------------- */

/**
 * struct shmipc_bind - take a name and listen
 *
 * @size: sizeof(struct shmipc_bind)
 * @flags: SHMIPC_BIND_OWNER: @uid and @gid are set. SHMIPC_BIND_FRESH: if an orphan has the name,
 *	and the caller might adopt it, end it first. Others EOPNOTSUPP.
 * @name: pointer to the name
 * @name_len: bytes of it, 1 to SHMIPC_NAME_MAX
 * @mode: permission bits 0222: who may connect (write permission, as a file's)
 * @uid: owner in the caller's user namespace; needs SHMIPC_BIND_OWNER and, when it
 *	is not the caller's, CAP_CHOWN. Default: the caller's euid.
 * @gid: likewise; a group that the caller is in
 * @backlog: connections that may wait for ACCEPT, 1 to SHMIPC_BACKLOG_MAX
 * @max_per_uid: sessions that one uid may have on this listener; 0: 64
 * @causes: causes that the caller wants for the listener (SHMIPC_CAUSE_ACCEPT)
 * @out_handle: the listener
 * @cookie: comes back in events
 * @adopt: SHMIPC_ADOPT_NOBODY or SHMIPC_ADOPT_EUID: who may adopt this endpoint by this name, when
 *	it was offered or is an orphan
 * @orphan_ms: when the endpoint loses its address space without CLOSE of handle 0, it stays as an
 *	orphan for so long: sessions, segments and names as they are, for a successor to ADOPT. The
 *	largest of its listeners counts, cut to the module's parameter orphan_max_ms. 0: it dies.
 *
 * A name that begins with "u<uid>/" may be bound by that uid alone (EACCES).
 * Names are of the caller's network namespace.
 *
 * Errors: EINVAL name, backlog; EOPNOTSUPP @adopt; EACCES; EADDRINUSE; EOWNERDEAD an orphan has it
 * that the caller might adopt; EBUSY FRESH, and it is being adopted; EDQUOT the user has its share
 * of all listeners; ENOSPC; ENOMEM; ESTALE.
 */
struct shmipc_bind {
	__u32 size;
	__u32 flags;
	__aligned_u64 name;
	__u32 name_len;
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 backlog;
	__u32 max_per_uid;
	__u32 causes;
	__u32 out_handle;
	__aligned_u64 cookie;
	__u32 adopt;
	__u32 orphan_ms;
};

#define SHMIPC_BIND_OWNER	(1U << 0)
#define SHMIPC_BIND_FRESH	(1U << 1)

/* Who may adopt. CAP_SYS_ADMIN of the initial user namespace always may. */
#define SHMIPC_ADOPT_NOBODY	0
#define SHMIPC_ADOPT_HOLDER	1	/* who has the offer's file, whatever its uid */
#define SHMIPC_ADOPT_EUID	2	/* same euid and user namespace; by file or name */

/**
 * struct shmipc_peer - who is at the other end, as the kernel knows it
 *
 * @uid: euid when the peer opened /dev/shmipc, in the reader's user namespace
 * @gid: egid likewise
 * @pid: process, in the reader's pid namespace; 0 when it can't be seen there, or is none
 * @generation: how often its endpoint was handed over or adopted until now; wraps
 */
struct shmipc_peer {
	__u32 uid;
	__u32 gid;
	__u32 pid;
	__u32 generation;
};

/**
 * struct shmipc_accept - take one connection off a listener
 *
 * Does not block: EAGAIN when none waits; SYNC tells when one comes.
 *
 * @size: sizeof(struct shmipc_accept)
 * @flags: SHMIPC_ACCEPT_HOME: the session is made on the endpoint behind @home_fd.
 *	SHMIPC_ACCEPT_ZERO_REVOKED: as SHMIPC_CONNECT_ZERO_REVOKED
 * @listener: the listener
 * @segment: a segment of the endpoint that gets the session; granted to the peer
 *	as slot 0 together with the acceptance
 * @home_fd: an open /dev/shmipc of the same address space; 0 without the flag
 * @causes: causes wanted for the session
 * @cookie: comes back in events
 * @meta: buffer for the connector's metadata, or 0
 * @meta_len: its size; the rest is cut off
 * @out_meta_len: bytes that the connector sent
 * @out_session: the session's handle, on the endpoint that got it
 * @__reserved: 0
 * @out_peer: the connector
 *
 * Errors: ENOENT, EBADF (also @home_fd), EAGAIN, EFAULT, EACCES the home has another uid than the
 * listener, ESTALE the home is dead, ENOSPC, ENOMEM.
 */
struct shmipc_accept {
	__u32 size;
	__u32 flags;
	__u32 listener;
	__u32 segment;
	__s32 home_fd;
	__u32 causes;
	__aligned_u64 cookie;
	__aligned_u64 meta;
	__u32 meta_len;
	__u32 out_meta_len;
	__u32 out_session;
	__u32 __reserved;
	struct shmipc_peer out_peer;
};

#define SHMIPC_ACCEPT_HOME		(1U << 0)
#define SHMIPC_ACCEPT_ZERO_REVOKED	(1U << 1)

/**
 * struct shmipc_connect - ask a listener for a session
 *
 * @size: sizeof(struct shmipc_connect)
 * @flags: SHMIPC_CONNECT_NONBLOCK: return at once; CAUSE_CONNECTED tells when it
 *	was accepted, CAUSE_PEER_CLOSED or CAUSE_PEER_DIED when it will not be.
 *	SHMIPC_CONNECT_EXPECT_UID: only a listener whose endpoint has @expect_uid.
 *	SHMIPC_CONNECT_ZERO_REVOKED: what the peer granted in this session and takes back reads
 *	as zeros from then on, where it is mapped; without, a touch is SIGBUS. For who reads
 *	control words of a peer that it does not trust.
 * @name: pointer to the name
 * @name_len: bytes of it
 * @expect_uid: in the caller's user namespace; 0 without the flag
 * @segment: a segment of this endpoint, granted to the acceptor as slot 0
 * @causes: causes wanted for the session
 * @cookie: comes back in events
 * @timeout_ns: how long to wait for the acceptance; SHMIPC_TIMEOUT_NONE
 * @meta: metadata for the acceptor, or 0
 * @meta_len: bytes of it, up to SHMIPC_META_MAX
 * @out_session: the session's handle
 * @out_peer: who accepted; with NONBLOCK the listener's endpoint
 *
 * A blocking CONNECT that fails leaves nothing behind.
 *
 * Errors: EINVAL name, meta; ENOENT no such listener; EACCES mode or uid; EAGAIN
 * backlog full; EDQUOT sessions of this uid; ENOSPC; ENOMEM; ECONNREFUSED closed or
 * died meanwhile; ETIMEDOUT; EINTR; ESTALE this endpoint was closed meanwhile.
 */
struct shmipc_connect {
	__u32 size;
	__u32 flags;
	__aligned_u64 name;
	__u32 name_len;
	__u32 expect_uid;
	__u32 segment;
	__u32 causes;
	__aligned_u64 cookie;
	__aligned_u64 timeout_ns;
	__aligned_u64 meta;
	__u32 meta_len;
	__u32 out_session;
	struct shmipc_peer out_peer;
};

#define SHMIPC_CONNECT_NONBLOCK		(1U << 0)
#define SHMIPC_CONNECT_EXPECT_UID	(1U << 1)
#define SHMIPC_CONNECT_ZERO_REVOKED	(1U << 2)

/* ---- events ------------------------------------------------------------- */

/*
 * Causes. The low half belongs to the two peers of a session: what one rings, the
 * other receives, and the module gives it no meaning. The high half is the module's.
 * Only causes that were enabled (@causes of BIND, ACCEPT, CONNECT) are delivered;
 * the low half is always enabled.
 */
#define SHMIPC_CAUSE_USER		0x0000ffffU
#define SHMIPC_CAUSE_ACCEPT		(1U << 16)	/* a connection waits on a listener */
#define SHMIPC_CAUSE_CONNECTED		(1U << 17)	/* a CONNECT was accepted */
#define SHMIPC_CAUSE_PEER_CLOSED	(1U << 18)	/* the peer closed its side */
#define SHMIPC_CAUSE_PEER_DIED		(1U << 19)	/* the peer's address space ended */
#define SHMIPC_CAUSE_PEER_CHANGED	(1U << 20)	/* this side or the peer's moved */
#define SHMIPC_CAUSE_GIVEN		(1U << 21)	/* the peer gave a segment: SEG_TAKE */
#define SHMIPC_CAUSE_FD			(1U << 22)	/* reserved: a file was sent */
#define SHMIPC_CAUSE_OFFER		(1U << 23)	/* somebody has adopted */
#define SHMIPC_CAUSE_RETURNED		(1U << 24)	/* a segment that was given came back */
#define SHMIPC_CAUSE_PEER_LOST		(1U << 25)	/* the peer died, and may be adopted */
#define SHMIPC_CAUSE_PEER_PAUSE		(1U << 26)	/* the peer has yielded, or goes on */

/**
 * struct shmipc_notify - ring a session's peer
 * @handle: the session
 * @bits: causes of the low half, not 0
 */
struct shmipc_notify {
	__u32 handle;
	__u32 bits;
};

/**
 * struct shmipc_ready - one object that has causes pending
 * @cookie: from BIND, ACCEPT, CONNECT, OFFER or WATCH
 * @handle: the object
 * @causes: SHMIPC_CAUSE_*, taken: they will not come again
 */
struct shmipc_ready {
	__aligned_u64 cookie;
	__u32 handle;
	__u32 causes;
};

/**
 * struct shmipc_sync - ring doorbells, then wait for events
 *
 * First every notify entry in order: the bits are OR-ed into the peer side's causes,
 * the side goes on its endpoint's ready list, one waiter wakes. Then, with
 * SHMIPC_SYNC_WAIT, events are taken off the own ready list; if there is none the call
 * sleeps until there is one, the timeout, or a signal. Without SHMIPC_SYNC_WAIT
 * and with @max_events > 0 it takes what is there.
 *
 * @size: sizeof(struct shmipc_sync)
 * @flags: SHMIPC_SYNC_WAIT
 * @notify: pointer to struct shmipc_notify[], or 0 to use @one when nr_notify is 1
 * @nr_notify: 0 to SHMIPC_NOTIFY_MAX
 * @max_events: 0 to SHMIPC_EVENTS_MAX; > 0 with SHMIPC_SYNC_WAIT
 * @events: pointer to struct shmipc_ready[], or 0 to use @out_one when max_events is 1
 * @wait_on: session whose events alone are taken and waited for; 0: all
 * @out_nr_events: how many were taken
 * @timeout_ns: relative; SHMIPC_TIMEOUT_NONE; 0 never sleeps. On return: what is left
 *	of it (unchanged when SHMIPC_TIMEOUT_NONE)
 * @one: the notify entry when @notify is 0
 * @out_one: the event when @events is 0
 * @out_flags: SHMIPC_SYNC_INTERRUPTED a signal ended the wait, SHMIPC_SYNC_TIMED_OUT,
 *	SHMIPC_SYNC_NOTIFY_FAILED a notify entry was bad (then it did not wait),
 *	SHMIPC_SYNC_ENDED something was rung, then the endpoint or the session of @wait_on
 *	ended, or the endpoint has yielded: the next call answers ESTALE, ENOENT or EBUSY
 * @out_errno: with NOTIFY_FAILED: the first entry's errno (positive), else 0
 * @out_index: with NOTIFY_FAILED: that entry's index
 * @__reserved: 0
 *
 * A bad entry stops no other. A peer that is gone is no error here: its death comes
 * as an event. Ringing is a release, taking an event an acquire; ringing is fully
 * ordered. Events that could not be copied out go back to the head of the list.
 *
 * Errors: EINVAL, EOPNOTSUPP, EFAULT, ENOENT/EBADF for wait_on, EPERM, ESTALE, EBUSY (YIELD). Never
 * EINTR or a restart: INTERRUPTED in out_flags.
 */
struct shmipc_sync {
	__u32 size;
	__u32 flags;
	__aligned_u64 notify;
	__aligned_u64 events;
	__u32 nr_notify;
	__u32 max_events;
	__u32 wait_on;
	__u32 out_nr_events;
	__aligned_u64 timeout_ns;
	struct shmipc_notify one;
	struct shmipc_ready out_one;
	__u32 out_flags;
	__u32 out_errno;
	__u32 out_index;
	__u32 __reserved;
};

#define SHMIPC_SYNC_WAIT		(1U << 0)

#define SHMIPC_SYNC_INTERRUPTED		(1U << 0)
#define SHMIPC_SYNC_TIMED_OUT		(1U << 1)
#define SHMIPC_SYNC_NOTIFY_FAILED	(1U << 2)
#define SHMIPC_SYNC_ENDED		(1U << 3)

/* ---- handover ----------------------------------------------------------- */

/*
 * A whole endpoint passes from one file to another, with all that it has; handles, slots, offsets,
 * names, pending causes and who waits on its listeners stay as they are:
 *
 *	holder               successor
 *	OFFER        ----->  ADOPT: a new fd; mmap its anchor, then what it may see
 *	CAUSE_OFFER  <-----  LIST, SEG_INFO: look, while the holder serves on
 *	YIELD        ----->  its fd polls IN: the pause; rebuild
 *	poll HUP     <-----  COMMIT
 *
 * At any moment one file's mappings at most may write a segment. The offer is over, with all as
 * before OFFER, when it is closed (its handle, or the last of its fd), when its deadline passes,
 * and when holder or successor dies or closes before COMMIT: the successor's mappings are gone
 * then, its requests answer ESTALE, its fd polls HUP.
 *
 * An orphan (BIND) is adopted by name with the same calls, without OFFER and YIELD.
 */

/**
 * struct shmipc_offer - offer this endpoint to a successor
 *
 * The holder serves on. One offer at a time.
 *
 * @size: sizeof(struct shmipc_offer)
 * @flags: SHMIPC_OFFER_KEEP: the offer outlives who made it: when its address space ends (exit,
 *	exec) before COMMIT, the endpoint waits as an orphan for who adopts by this offer's fd. The
 *	time is cut to orphan_max_ms then.
 * @adopt: SHMIPC_ADOPT_HOLDER or SHMIPC_ADOPT_EUID
 * @blob: a segment of this endpoint that LIST will mark for the successor; 0: none
 * @timeout_ns: until COMMIT, > 0, at most SHMIPC_OFFER_NS_MAX
 * @cookie: comes back with SHMIPC_CAUSE_OFFER, which needs no enabling
 * @out_handle: to CLOSE it by, which cancels whoever else has the fd
 * @out_fd: the offer, O_CLOEXEC. It polls IN while a successor has adopted, HUP when it is over. It
 *	can be passed through a socket and kept over an exec.
 *
 * Errors: EINVAL, EOPNOTSUPP @adopt; ENOENT, EBADF @blob; EBUSY there is an offer; EMFILE, ENFILE;
 * ENOSPC; ENOMEM; ESTALE.
 */
struct shmipc_offer {
	__u32 size;
	__u32 flags;
	__u32 adopt;
	__u32 blob;
	__aligned_u64 timeout_ns;
	__aligned_u64 cookie;
	__u32 out_handle;
	__s32 out_fd;
};

#define SHMIPC_OFFER_KEEP	(1U << 0)

/**
 * struct shmipc_adopt - begin to take an endpoint over
 *
 * Asked with any endpoint of the caller's, whose credentials count. All that COMMIT will need is
 * charged now; where the holder's user is the same nothing is charged twice.
 *
 * @size: sizeof(struct shmipc_adopt)
 * @flags: 0
 * @offer_fd: the offer; 0 with a name
 * @name_len: bytes of @name; 0: by @offer_fd
 * @name: pointer to a name that the endpoint has in the caller's network namespace
 * @out_fd: an open file like that of /dev/shmipc, O_CLOEXEC, for the endpoint that is adopted. Its
 *	anchor comes first. Until COMMIT it serves QUERY, LIST, SEG_INFO, COMMIT, CLOSE of handle 0
 *	(which gives up) and mmap for reading; EBUSY the rest. What it maps until then finds zeros
 *	where a right has ended, also after COMMIT. It polls IN when COMMIT can be called.
 * @__reserved: 0
 *
 * Adopting what the caller holds itself is no error: its older file goes stale by the COMMIT.
 *
 * Errors: EBADF no offer; ENOENT no such name; EACCES; EBUSY adopted by another, or neither offered
 * nor an orphan; ESTALE the offer is over; EDQUOT a cap of the caller's user; EMFILE, ENFILE,
 * ENOMEM.
 */
struct shmipc_adopt {
	__u32 size;
	__u32 flags;
	__s32 offer_fd;
	__u32 name_len;
	__aligned_u64 name;
	__s32 out_fd;
	__u32 __reserved;
};

/**
 * struct shmipc_item - one thing that an endpoint has
 * @kind: SHMIPC_ITEM_*, which tells what else is set; the rest is 0
 * @flags: SHMIPC_ITEM_* flags below
 * @handle: of a segment, listener, session; GRANT: the own segment, 0 when it was closed; SLOT: the
 *	session
 * @slot: GRANT, SLOT; SESSION: the @reason of the peer's CLOSE, if that was how it ended
 * @length: bytes of a segment; GRANT: 0 when the peer's close has ended it
 * @offset: where mmap finds it (SEGMENT, SLOT)
 * @causes: pending and not taken (LISTENER, SESSION); what they tell of, the item shows
 * @enabled: causes enabled, until WATCH (LISTENER, SESSION)
 * @count: SEGMENT: grants of it; LISTENER: connections that wait; SESSION: GRANTs and SLOTs
 * @name_len: LISTENER
 * @peer: SESSION: who is at the other end now; of an orphan the last holder, without its @pid
 * @name: LISTENER, not terminated
 */
struct shmipc_item {
	__u32 kind;
	__u32 flags;
	__u32 handle;
	__u32 slot;
	__aligned_u64 length;
	__aligned_u64 offset;
	__u32 causes;
	__u32 enabled;
	__u32 count;
	__u32 name_len;
	struct shmipc_peer peer;
	__u8 name[64];
};

#define SHMIPC_ITEM_SEGMENT	1
#define SHMIPC_ITEM_LISTENER	2
#define SHMIPC_ITEM_SESSION	3
#define SHMIPC_ITEM_GRANT	4	/* of a session: granted to the peer */
#define SHMIPC_ITEM_SLOT	5	/* of a session: granted by the peer */

#define SHMIPC_ITEM_BLOB	(1U << 0)	/* SEGMENT: @blob of the last OFFER */
#define SHMIPC_ITEM_CONNECTOR	(1U << 1)	/* SESSION: it connected; else it accepted */
#define SHMIPC_ITEM_PENDING	(1U << 2)	/* SESSION: not accepted yet */
#define SHMIPC_ITEM_PEER_CLOSED	(1U << 3)	/* SESSION: the peer has closed, or refused */
#define SHMIPC_ITEM_PEER_DIED	(1U << 4)	/* SESSION: by dying */
#define SHMIPC_ITEM_ZERO	(1U << 5)	/* SESSION: made with ZERO_REVOKED */
#define SHMIPC_ITEM_FROZEN	(1U << 6)	/* SEGMENT: by SEG_FREEZE, and not given */
#define SHMIPC_ITEM_GIVEN	(1U << 7)	/* SEGMENT, GRANT, SLOT: not taken yet */
#define SHMIPC_ITEM_TAKEN	(1U << 8)	/* SEGMENT: a peer's now; the handle is left */
#define SHMIPC_ITEM_PEER_PAUSED	(1U << 9)	/* SESSION: the peer has yielded, or is an orphan */

/**
 * struct shmipc_list - what an endpoint has
 *
 * For a successor and for the holder. Things that come and go meanwhile may be told or not; after
 * YIELD only peers change anything.
 *
 * @size: sizeof(struct shmipc_list)
 * @flags: 0
 * @session: 0: segments, listeners and sessions, by rising handles. A session: its grants, then its
 *	slots, both by rising numbers
 * @item_size: sizeof(struct shmipc_item)
 * @items: pointer to struct shmipc_item[]
 * @max: room in @items, 1 to SHMIPC_EVENTS_MAX
 * @cursor: in and out: 0 begins; what comes back goes on, 0: that was all. Without @session a
 *	handle begins there, so that with @max 1 it tells of this one, if it is there
 * @out_nr: items written
 * @out_flags: SHMIPC_LIST_*
 * @out_remaining_ns: until the offer's deadline or the orphan's end; 0 if there is none
 *
 * Errors: EINVAL; ENOENT, EBADF @session; EFAULT; ESTALE.
 */
struct shmipc_list {
	__u32 size;
	__u32 flags;
	__u32 session;
	__u32 item_size;
	__aligned_u64 items;
	__u32 max;
	__u32 cursor;
	__u32 out_nr;
	__u32 out_flags;
	__aligned_u64 out_remaining_ns;
};

#define SHMIPC_LIST_YIELDED	(1U << 0)	/* the holder has stopped where it meant to */
#define SHMIPC_LIST_ORPHAN	(1U << 1)	/* the holder has died wherever it was */

/**
 * struct shmipc_yield - the holder has stopped; the successor may COMMIT
 *
 * From here on the holder is served QUERY, LIST, SEG_INFO, and CLOSE of its offer and of handle 0;
 * EBUSY the rest, also for who waits in SYNC. It keeps its mappings, and must not write: what it
 * writes until COMMIT takes them away the successor may have seen or not. It waits by polling the
 * offer's fd for HUP; then the anchor tells MOVED, or LIVE: it goes on.
 *
 * @size: sizeof(struct shmipc_yield)
 * @flags: 0
 *
 * Errors: ENOENT no offer; EAGAIN nobody has adopted it; EDQUOT what was made since ADOPT is over a
 * cap of the successor's user; EBUSY yielded already; ESTALE.
 */
struct shmipc_yield {
	__u32 size;
	__u32 flags;
};

/**
 * struct shmipc_commit - take the endpoint over
 *
 * When it returns, the former holder's mappings are gone (a touch is SIGBUS) and this file holds
 * the endpoint: mmap with PROT_WRITE and MAP_FIXED over what was mapped for reading. Charges have
 * moved to this endpoint's user (not between memory cgroups: pages stay where they were allocated).
 * Cookies are 0 (WATCH); each session has CAUSE_PEER_CHANGED pending on both sides (at the peer if
 * it was enabled), each listener where somebody waits CAUSE_ACCEPT. Where the uid is another now,
 * sessions whose connector made them with EXPECT_UID are closed instead. It can't be interrupted.
 *
 * @size: sizeof(struct shmipc_commit)
 * @flags: 0
 *
 * Errors: ENOENT not asked on the file of an ADOPT; EAGAIN the holder has not yielded; ESTALE the
 * offer is over; EDQUOT what a holder that was lost had made since ADOPT is over a cap of this
 * endpoint's user. None once it has begun.
 */
struct shmipc_commit {
	__u32 size;
	__u32 flags;
};

/**
 * struct shmipc_watch - name a session or listener anew, and what is wanted of it
 *
 * @size: sizeof(struct shmipc_watch)
 * @flags: 0
 * @handle: a session or listener
 * @causes: as in CONNECT, or in BIND. What came while it was not enabled does not come again.
 * @cookie: comes back in events, pending ones included
 *
 * Errors: ENOENT; EBADF a segment or an offer; EOPNOTSUPP @causes; ESTALE.
 */
struct shmipc_watch {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 causes;
	__aligned_u64 cookie;
};

/* ---- CLOSE -------------------------------------------------------------- */

/**
 * struct shmipc_close - drop a handle
 *
 * Closing a session ends every grant made through it by this side when
 * SHMIPC_CLOSE_REVOKE is set (the peer's mappings are zapped at once); without, the
 * peer keeps what it mapped until it closes too, charged to its user from now on unless that would
 * be over its cap.
 * Closing a segment drops the owner's right and mappings; peers it was granted or given to keep
 * theirs. Closing a listener refuses who still waits. Closing an offer cancels it. Closing handle 0
 * gives up an adoption before its COMMIT; else it ends the endpoint
 * in good order: peers get CAUSE_PEER_CLOSED and not CAUSE_PEER_DIED.
 *
 * @size: sizeof(struct shmipc_close)
 * @flags: SHMIPC_CLOSE_REVOKE
 * @handle: what to close
 * @reason: for the peer of a session, whom LIST tells it; 0 for the others
 *
 * Errors: ENOENT, EINVAL.
 */
struct shmipc_close {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 reason;
};

#define SHMIPC_CLOSE_REVOKE	(1U << 0)

/* ---- layout, checked wherever the compiler can --------------------------- */

#if defined(__cplusplus) && __cplusplus >= 201103L
#define __SHMIPC_ASSERT(cond)	static_assert(cond, #cond)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define __SHMIPC_ASSERT(cond)	_Static_assert(cond, #cond)
#else
#define __SHMIPC_ASSERT(cond)	extern char __shmipc_assert[(cond) ? 1 : -1]
#endif

__SHMIPC_ASSERT(sizeof(struct shmipc_anchor) == 8);
__SHMIPC_ASSERT(sizeof(struct shmipc_query) == 112);
__SHMIPC_ASSERT(sizeof(struct shmipc_seg_create) == 40);
__SHMIPC_ASSERT(sizeof(struct shmipc_seg_info) == 40);
__SHMIPC_ASSERT(sizeof(struct shmipc_seg_grant) == 24);
__SHMIPC_ASSERT(sizeof(struct shmipc_seg_revoke) == 16);
__SHMIPC_ASSERT(sizeof(struct shmipc_seg_freeze) == 16);
__SHMIPC_ASSERT(sizeof(struct shmipc_seg_give) == 16);
__SHMIPC_ASSERT(sizeof(struct shmipc_seg_take) == 40);
__SHMIPC_ASSERT(sizeof(struct shmipc_bind) == 64);
__SHMIPC_ASSERT(sizeof(struct shmipc_peer) == 16);
__SHMIPC_ASSERT(sizeof(struct shmipc_accept) == 72);
__SHMIPC_ASSERT(sizeof(struct shmipc_connect) == 80);
__SHMIPC_ASSERT(sizeof(struct shmipc_notify) == 8);
__SHMIPC_ASSERT(sizeof(struct shmipc_ready) == 16);
__SHMIPC_ASSERT(sizeof(struct shmipc_sync) == 88);
__SHMIPC_ASSERT(sizeof(struct shmipc_close) == 16);
__SHMIPC_ASSERT(sizeof(struct shmipc_offer) == 40);
__SHMIPC_ASSERT(sizeof(struct shmipc_adopt) == 32);
__SHMIPC_ASSERT(sizeof(struct shmipc_item) == 128);
__SHMIPC_ASSERT(sizeof(struct shmipc_list) == 48);
__SHMIPC_ASSERT(sizeof(struct shmipc_yield) == 8);
__SHMIPC_ASSERT(sizeof(struct shmipc_commit) == 8);
__SHMIPC_ASSERT(sizeof(struct shmipc_watch) == 24);

/* Where the module writes: a field that moves is another ABI, also when the size stays. */
#define __SHMIPC_AT(name, field, offset) \
	__SHMIPC_ASSERT(__builtin_offsetof(struct shmipc_##name, field) == (offset))

__SHMIPC_AT(query, out_abi, 8);
__SHMIPC_AT(query, out_abi_oldest, 12);
__SHMIPC_AT(query, out_features, 16);
__SHMIPC_AT(query, out_page_size, 24);
__SHMIPC_AT(query, out_max_notify, 28);
__SHMIPC_AT(query, out_max_segment, 32);
__SHMIPC_AT(query, out_user_pages, 40);
__SHMIPC_AT(query, out_user_pages_max, 48);
__SHMIPC_AT(query, out_total_pages, 56);
__SHMIPC_AT(query, out_total_pages_max, 64);
__SHMIPC_AT(query, out_endpoints_max, 72);
__SHMIPC_AT(query, out_sessions_max, 76);
__SHMIPC_AT(query, out_version, 80);
__SHMIPC_AT(seg_create, out_length, 16);
__SHMIPC_AT(seg_create, out_offset, 24);
__SHMIPC_AT(seg_create, out_handle, 32);
__SHMIPC_AT(seg_info, out_length, 16);
__SHMIPC_AT(seg_info, out_offset, 24);
__SHMIPC_AT(seg_info, out_rights, 32);
__SHMIPC_AT(seg_info, out_grants, 36);
__SHMIPC_AT(seg_take, out_length, 16);
__SHMIPC_AT(seg_take, out_offset, 24);
__SHMIPC_AT(seg_take, out_handle, 32);
__SHMIPC_AT(bind, out_handle, 44);
__SHMIPC_AT(accept, out_meta_len, 44);
__SHMIPC_AT(accept, out_session, 48);
__SHMIPC_AT(accept, out_peer, 56);
__SHMIPC_AT(connect, out_session, 60);
__SHMIPC_AT(connect, out_peer, 64);
__SHMIPC_AT(sync, out_nr_events, 36);
__SHMIPC_AT(sync, out_one, 56);
__SHMIPC_AT(sync, out_flags, 72);
__SHMIPC_AT(sync, out_errno, 76);
__SHMIPC_AT(sync, out_index, 80);
__SHMIPC_AT(offer, out_handle, 32);
__SHMIPC_AT(offer, out_fd, 36);
__SHMIPC_AT(adopt, out_fd, 24);
__SHMIPC_AT(list, cursor, 28);
__SHMIPC_AT(list, out_nr, 32);
__SHMIPC_AT(list, out_flags, 36);
__SHMIPC_AT(list, out_remaining_ns, 40);
__SHMIPC_AT(item, length, 16);
__SHMIPC_AT(item, causes, 32);
__SHMIPC_AT(item, peer, 48);
__SHMIPC_AT(item, name, 64);
__SHMIPC_AT(bind, cookie, 48);
__SHMIPC_AT(anchor, state, 4);
__SHMIPC_AT(ready, handle, 8);
__SHMIPC_AT(ready, causes, 12);

#endif /* _UAPI_LINUX_SHMIPC_H */
