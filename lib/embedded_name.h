/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * embedded_name.h - names in the abstract namespace of Unix sockets
 *
 * The embedded provider listens on "\0shmipc/NAME". Abstract names are apart for each socket
 * type, so neither provider stumbles over the other's: each listener also binds a *marker*, a
 * datagram socket that nobody reads, and who finds nobody looks for the other one's marker.
 * Like shmipc's own names they belong to a network namespace.
 */
#ifndef SHMIPC_EMBEDDED_NAME_H
#define SHMIPC_EMBEDDED_NAME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "list.h"

enum name_kind { NAME_LISTENER, NAME_KERNEL, NAME_EMBEDDED };

socklen_t name_address(struct sockaddr_un *address, enum name_kind kind, const char *name);

/* True when @name begins with "u<uid>/": then that uid alone may have it. */
bool name_reserved(const char *name, uint32_t *uid);

/* A marker of that kind; a descriptor or -errno. */
int name_mark(enum name_kind kind, const char *name);
bool name_marked(enum name_kind kind, const char *name);

/*
 * A socket whose life others watch: a forked child's copy is closed at the fork, when the child
 * first runs, so that a dead server's name is free and its peers see the end although its
 * child lives. Only fork() does this: a child made by a raw clone() keeps its copies until
 * it execs or ends.
 */
struct held {
	struct list node;	/* (protected by a lock of embedded_name.c) */
	int fd;			/* -1 in a child, where its number may already be another's */
};

int held_init(struct held *held, int fd);
void held_close(struct held *held);

#endif
