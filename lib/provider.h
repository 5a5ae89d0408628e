/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * provider.h - where memory and wake-ups come from
 *
 * A provider does for one endpoint what /dev/shmipc does: segments that one process writes and
 * another reads, names, sessions, doorbells. The rest of the library (rings, streams, flow
 * control) knows no other way to reach the outside.
 *
 * Every call returns 0 (or a count) or -errno, with the meanings of uapi/shmipc.h. Handles
 * are the provider's, never 0. All calls but @sync with a wait return at once,
 * @connect after its timeout at the latest. They may be called from several threads at
 * once, except that one thread at a time waits in @sync.
 */
#ifndef SHMIPC_PROVIDER_H
#define SHMIPC_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uapi/shmipc.h>

/* Doorbell bits: the low half of SHMIPC_CAUSE_*, which belongs to the library. */
#define BELL_DATA	(1U << 0)	/* frames were published */
#define BELL_SPACE	(1U << 1)	/* frames were returned, or ring slots passed */

/* A segment that this endpoint owns, mapped writable. */
struct pv_segment {
	uint32_t handle;
	void *addr;
	size_t len;
};

/* A peer's segment, mapped read-only. */
struct pv_mapping {
	const void *addr;
	size_t len;
};

struct pv_bind {
	const char *name;	/* checked by the provider */
	uint32_t mode;
	uint32_t backlog;
	uint32_t max_per_uid;
	uint64_t cookie;
	uint32_t orphan_ms;	/* > 0: by its name a successor may adopt the endpoint */
	bool fresh;		/* an orphan that has the name ends first */
};

struct pv_connect {
	const char *name;
	const struct pv_segment *segment;	/* granted as slot 0 */
	bool check_uid;
	uint32_t expect_uid;
	uint64_t cookie;
	int64_t timeout_ns;			/* < 0: for ever */
};

/*
 * Ring, then take events, and wait for one if @wait. Returns how many events; 0 when the time
 * was over or a signal came.
 */
struct pv_sync {
	const struct shmipc_notify *notify;
	unsigned int nr_notify;		/* a bad or dead entry is no error */
	struct shmipc_ready *events;
	unsigned int max_events;	/* 0: only ring */
	bool wait;
	int64_t timeout_ns;		/* < 0: for ever */
};

struct provider;

struct provider_ops {
	const char *name;
	int (*open)(struct provider **pv);
	/* Ends everything. In a forked child: frees memory and descriptors, tells nobody. */
	void (*close)(struct provider *pv, bool in_child);

	/* @sealed: nobody can ever map it writable again, where the provider can't say who may. */
	int (*segment_create)(struct provider *pv, size_t len, bool sealed,
			      struct pv_segment *segment);
	void (*segment_destroy)(struct provider *pv, struct pv_segment *segment);
	int (*segment_grant)(struct provider *pv, uint32_t session,
			     const struct pv_segment *segment, uint32_t slot);
	int (*segment_map)(struct provider *pv, uint32_t session, uint32_t slot,
			   struct pv_mapping *mapping);
	void (*segment_unmap)(struct provider *pv, struct pv_mapping *mapping);
	/*
	 * Ends a grant. The peer's mapping reads as zeros then, or, where the provider can't take it
	 * away, as it did: only the slot is free.
	 */
	void (*segment_revoke)(struct provider *pv, uint32_t session, uint32_t slot);

	/*
	 * Ownership, as in uapi/shmipc.h. All NULL where it can't be moved.
	 * @segment_take: what @mapping shows is this endpoint's from now on, writable at the same
	 * address; @mapping is empty then. On an error all is as it was, but for -ESTALE: then @mapping
	 * is gone as well.
	 * @segment_state: is it ours? 0, -EBUSY it is given and not taken, -ESTALE the peer took it.
	 */
	int (*segment_freeze)(struct provider *pv, const struct pv_segment *segment);
	int (*segment_give)(struct provider *pv, uint32_t session, uint32_t slot);
	int (*segment_take)(struct provider *pv, uint32_t session, uint32_t slot,
			    struct pv_mapping *mapping, struct pv_segment *segment);
	void (*segment_refuse)(struct provider *pv, uint32_t session, uint32_t slot);
	int (*segment_state)(struct provider *pv, const struct pv_segment *segment);

	int (*bind)(struct provider *pv, const struct pv_bind *bind, uint32_t *listener);
	int (*accept)(struct provider *pv, uint32_t listener, const struct pv_segment *segment,
		      uint64_t cookie, uint32_t *session, struct shmipc_peer *peer);
	int (*connect)(struct provider *pv, const struct pv_connect *connect, uint32_t *session,
		       struct shmipc_peer *peer);
	int (*sync)(struct provider *pv, struct pv_sync *sync);
	/*
	 * Ends the wait of another thread in @sync, or of the next one, with an event whose cookie is 0.
	 * Any lock of the library's may be held.
	 */
	void (*kick)(struct provider *pv);
	/*
	 * Who a session's peer is now, and whether it has stopped for a handover, or died and waits
	 * for a successor; and whether causes come for that, too, as one does for each change. Both
	 * NULL where peers never change.
	 */
	int (*peer)(struct provider *pv, uint32_t session, struct shmipc_peer *peer, bool *paused);
	int (*peer_watch)(struct provider *pv, uint32_t session, uint64_t cookie, bool on);
	/* Of a session (the peer gets PEER_CLOSED) or a listener. */
	void (*drop)(struct provider *pv, uint32_t handle, uint32_t reason);

	const struct handover_ops *handover;
};

/* Offered, or offered by name too if @by_name. */
struct pv_offer {
	bool by_name;
	uint32_t blob;			/* handle of a segment; 0: none */
	uint64_t timeout_ns;
	uint32_t handle;		/* filled in */
	int fd;				/* filled in; polls as in uapi/shmipc.h */
};

/* All that an endpoint has. */
struct pv_list {
	struct shmipc_item *items;	/* the caller frees them */
	uint32_t nr;
	uint32_t flags;			/* SHMIPC_LIST_* */
};

/* An endpoint passes to another process: docs/handover.md. NULL in provider_ops where it can't. */
struct handover_ops {
	int (*offer)(struct provider *pv, struct pv_offer *offer);
	/* Is the offer of which @fd is over? */
	bool (*over)(struct provider *pv, int fd);
	/*
	 * Stops, and waits for the end of the offer of which @fd is. 0: handed over; -ECANCELED it
	 * goes on here, and the offer is over; -EAGAIN nobody has adopted; others: it goes on here.
	 */
	int (*yield)(struct provider *pv, int fd);

	/* By @name, or with NULL by the offer @fd. @pv serves what follows alone until commit. */
	int (*adopt)(struct provider *by, const char *name, int fd, struct provider **pv);
	/* Waits until the holder has stopped. -ECANCELED: it will not; -ETIMEDOUT. */
	int (*pause)(struct provider *pv, int64_t timeout_ns);
	int (*list)(struct provider *pv, uint32_t session, struct pv_list *list);
	int (*view)(struct provider *pv, uint64_t offset, size_t len, struct pv_mapping *mapping);
	int (*commit)(struct provider *pv);
	/* Makes the view of an own segment, at @offset, writable where it is. */
	int (*own)(struct provider *pv, const struct pv_segment *segment, uint64_t offset);
	/* Of a listener: with its @name; of a session: NULL. */
	int (*watch)(struct provider *pv, uint32_t handle, const char *name, uint64_t cookie);
};

/* The common head of every provider's own structure. */
struct provider {
	const struct provider_ops *ops;
	int fd;					/* for poll() */
	const volatile struct shmipc_anchor *anchor;	/* or NULL: nothing to spin on */
};

extern const struct provider_ops provider_kernel;
extern const struct provider_ops provider_embedded;
/* Both ends in one process over one mapping: for ThreadSanitizer, never chosen by itself. */
extern const struct provider_ops provider_local;

/* By SHMIPC_PROVIDER (kernel, embedded, local), else what the machine has. */
int provider_open(struct provider **pv);

/* -EINVAL unless 1 to SHMIPC_NAME_MAX bytes of [A-Za-z0-9._:/-]. */
int provider_check_name(const char *name);

#endif
