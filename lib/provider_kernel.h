/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * provider_kernel.h - what the files of the kernel provider share, and where tests put something
 * else in the module's place
 */
#ifndef SHMIPC_PROVIDER_KERNEL_H
#define SHMIPC_PROVIDER_KERNEL_H

#include "embedded_name.h"
#include "lock.h"
#include "provider.h"

#define SESSION_CAUSES	(SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_DIED | \
			 SHMIPC_CAUSE_PEER_CHANGED)

/* Those that shmipc_session_watch_peer() adds. */
#define PAUSE_CAUSES	(SHMIPC_CAUSE_PEER_PAUSE | SHMIPC_CAUSE_PEER_LOST)

/* Says to embedded clients that this name is served by the kernel provider. */
struct marker {
	struct list node;	/* in kernel_provider.markers */
	struct held socket;
	uint32_t listener;
	char name[SHMIPC_NAME_MAX + 1];
};

struct kernel_provider {
	struct provider base;
	struct lock lock;
	struct list markers;	/* (protected by lock) */
	uint32_t own_bell;	/* (protected by lock) see kernel_kick(); 0: none yet */
};

static inline struct kernel_provider *kernel(struct provider *pv)
{
	return container_of(pv, struct kernel_provider, base);
}

int kernel_request(struct provider *pv, unsigned long number, void *arg);
/* For an open file, which is its own on success. */
int kernel_new(int fd, struct provider **pv);
void kernel_add_marker(struct provider *pv, const char *name, uint32_t listener);

/* kernel_handover.c */
int kernel_peer(struct provider *pv, uint32_t session, struct shmipc_peer *peer, bool *paused);
int kernel_peer_watch(struct provider *pv, uint32_t session, uint64_t cookie, bool on);
extern const struct handover_ops kernel_handover;

/* As ioctl(2): -1 and errno on failure. */
extern int (*provider_kernel_ioctl)(int fd, unsigned long request, void *arg);
extern const char *provider_kernel_device;

#endif
