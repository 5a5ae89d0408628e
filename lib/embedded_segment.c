// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Segments of the embedded provider: sealed memfds that peers get a read-only descriptor of. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "embedded.h"
#include "error.h"
#include "provider_error.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL	0x0008U	/* linux/memfd.h; not in older headers */
#endif

static int memory_error(int err, size_t len)
{
	if (err == -ENOENT)
		return error_set(err, "a segment could not be opened read-only: mount /proc");
	return provider_memory_error(err, len);
}

/*
 * A memfd is born with mode 0777: before anybody has a descriptor of it, nobody but this uid may
 * be able to open it anew for writing. Returns the descriptor for the peers.
 */
static int open_read_only(int fd, size_t len)
{
	char path[32];
	int ro;

	if (ftruncate(fd, (off_t)len) || fchmod(fd, 0600))
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? -errno : ro;
}

/*
 * The seals forbid what would make a peer's reads SIGBUS, and if @sealed every way to write but the
 * mapping that is there already, also to this uid.
 */
static int map_and_seal(struct segment *segment, int fd, size_t len, bool sealed)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | (sealed ? F_SEAL_FUTURE_WRITE : 0);
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int err;

	if (addr == MAP_FAILED)
		return -errno;
	/* A child that writes here would be a second writer. */
	if (madvise(addr, len, MADV_DONTFORK) || fcntl(fd, F_ADD_SEALS, seals)) {
		err = -errno;
		munmap(addr, len);
		return err;
	}
	segment->addr = addr;
	segment->len = len;
	return 0;
}

/* Where the machine demands it (vm.memfd_noexec): never to be executed. Before Linux 6.3 that can't be said. */
int embedded_memfd(void)
{
	int fd = memfd_create("shmipc", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	return fd >= 0 || errno != EINVAL ? fd :
	       memfd_create("shmipc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

static int make(struct segment *segment, size_t len, bool sealed)
{
	int fd = embedded_memfd();
	int err = 0;

	if (fd < 0)
		return -errno;
	segment->fd = open_read_only(fd, len);
	if (segment->fd < 0) {
		close(fd);
		return segment->fd;
	}
	err = map_and_seal(segment, fd, len, sealed);
	if (err)
		close(segment->fd);
	close(fd);
	return err;
}

int embedded_segment_create(struct provider *pv, size_t len, bool sealed,
			    struct pv_segment *segment)
{
	struct embedded *e = embedded(pv);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct segment *s;
	int err;

	if (!len || len > SESSION_BYTES_MAX)
		return error_set(-EINVAL, "a segment of %zu bytes can't be", len);
	len = (len + page - 1) & ~(page - 1);
	s = calloc(1, sizeof(*s));
	err = s ? make(s, len, sealed) : -ENOMEM;
	if (err) {
		free(s);
		return memory_error(err, len);
	}
	lock(&e->lock);
	err = object_add_locked(e, &s->object, OBJECT_SEGMENT);
	unlock(&e->lock);
	if (err) {
		segment_free(s);
		return memory_error(err, len);
	}
	*segment = (struct pv_segment){ s->object.handle, s->addr, s->len };
	return 0;
}

void segment_free(struct segment *segment)
{
	if (segment->addr)
		munmap(segment->addr, segment->len);
	close(segment->fd);
	free(segment);
}

void embedded_segment_destroy(struct provider *pv, struct pv_segment *segment)
{
	struct embedded *e = embedded(pv);
	struct object *object;

	lock(&e->lock);
	object = object_find_locked(e, segment->handle, OBJECT_SEGMENT);
	if (object) {
		struct segment *s = container_of(object, struct segment, object);

		/* A successor's view, which it did not come to own. */
		if (!s->addr) {
			s->addr = segment->addr;
			s->len = segment->len;
		}
		object_remove_locked(e, object);
	}
	unlock(&e->lock);
	*segment = (struct pv_segment){ 0 };
}

struct segment *segment_get(struct embedded *e, uint32_t handle)
{
	struct object *object;

	lock(&e->lock);
	object = object_find_locked(e, handle, OBJECT_SEGMENT);
	if (object)
		atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
	unlock(&e->lock);
	return object ? container_of(object, struct segment, object) : NULL;
}

int segment_given(struct session *session, const struct segment *segment, uint32_t slot)
{
	struct given *given = session->given;

	if (session->nr_given == session->max_given) {
		unsigned int max = session->max_given ? session->max_given * 2 : 2;

		given = realloc(given, max * sizeof(*given));
		if (!given)
			return -ENOMEM;
		session->given = given;
		session->max_given = max;
	}
	given[session->nr_given++] = (struct given){ slot, segment->object.handle };
	return 0;
}

static int send_grant_locked(struct session *session, const struct segment *segment, uint32_t slot)
{
	int err;

	/* The peer would end the session for it. */
	if (segment->len > SESSION_BYTES_MAX - session->bytes_out)
		return -ENOSPC;
	err = segment_given(session, segment, slot);
	if (err)
		return err;
	err = link_send(session->link.fd, LINK_GRANT, slot, &segment->fd, 1);
	if (err)
		session->nr_given--;
	else
		session->bytes_out += segment->len;
	return err;
}

int embedded_segment_grant(struct provider *pv, uint32_t session,
			   const struct pv_segment *segment, uint32_t slot)
{
	struct embedded *e = embedded(pv);
	struct segment *s = segment_get(e, segment->handle);
	struct object *object;
	int err = -ENOENT;

	if (!s)
		return -ENOENT;
	lock(&e->lock);
	object = object_find_locked(e, session, OBJECT_SESSION);
	if (object && (!slot || slot >= SHMIPC_SLOTS_MAX))
		err = -EINVAL;
	else if (object)
		err = send_grant_locked(container_of(object, struct session, object), s, slot);
	unlock(&e->lock);
	object_put(&s->object);
	if (err == -ENOSPC)
		return error_set(err, "one side of a session can't have more than %zu GiB of "
				 "segments with the embedded provider: lower max_memory",
				 SESSION_BYTES_MAX >> 30);
	if (err == -EAGAIN || err == -ETOOMANYREFS)
		return error_set(-ENOSPC, "the peer has not taken the segments before this "
				 "one: try again when it has read");
	return err;
}

/* Its descriptor is kept if there is memory to remember it. */
static void keep_taken(struct session *session, struct grant *grant)
{
	struct grant *taken;

	if (session->nr_taken == session->max_taken) {
		unsigned int max = session->max_taken ? session->max_taken * 2 : 2;

		taken = realloc(session->taken, max * sizeof(*taken));
		if (!taken) {
			session->stuck = true;
			close(grant->fd);
			return;
		}
		session->taken = taken;
		session->max_taken = max;
	}
	session->taken[session->nr_taken++] = *grant;
}

/* Takes the grant of a slot. */
static int take_grant_locked(struct session *session, uint32_t slot, struct pv_mapping *mapping)
{
	for (unsigned int i = 0; i < session->nr_grants; i++) {
		if (session->grants[i].slot != slot)
			continue;
		*mapping = session->grants[i].mapping;
		session->nr_ahead -= session->grants[i].ahead;
		session->grants[i].ahead = false;
		if (session->grants[i].fd >= 0)
			keep_taken(session, &session->grants[i]);
		session->grants[i] = session->grants[--session->nr_grants];
		return 0;
	}
	return -ENOENT;
}

int embedded_segment_map(struct provider *pv, uint32_t session, uint32_t slot,
			 struct pv_mapping *mapping)
{
	struct embedded *e = embedded(pv);
	struct object *object;
	int err = -ENOENT;

	lock(&e->lock);
	object = object_find_locked(e, session, OBJECT_SESSION);
	if (object) {
		struct session *s = container_of(object, struct session, object);

		err = take_grant_locked(s, slot, mapping);
		if (err) {
			session_pump_locked(e, s, true, (int)slot);
			err = take_grant_locked(s, slot, mapping);
		}
		/* What was left in the socket when there were as many as may be says nothing any more. */
		if (!err && s->nr_ahead == GRANTS_AHEAD - 1)
			session_pump_locked(e, s, true, -1);
	}
	unlock(&e->lock);
	return err;
}

int segment_map(int fd, size_t max, struct pv_mapping *mapping)
{
	size_t len;
	void *addr;
	int err = link_check_segment(fd, &len);

	if (!err && len > max)
		err = -EBADMSG;
	if (err)
		return err;
	addr = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	if (madvise(addr, len, MADV_DONTFORK)) {
		err = -errno;
		munmap(addr, len);
		return err;
	}
	*mapping = (struct pv_mapping){ addr, len };
	return 0;
}

/* Who keeps the descriptor keeps the memory. */
static void forget_taken_locked(const struct embedded *e, const void *addr)
{
	for (unsigned int i = 0; i < e->table_size; i++) {
		struct object *object = e->table[i];
		struct session *s;

		if (!object || object->kind != OBJECT_SESSION)
			continue;
		s = container_of(object, struct session, object);
		for (unsigned int at = 0; at < s->nr_taken; at++) {
			if (s->taken[at].mapping.addr != addr)
				continue;
			close(s->taken[at].fd);
			s->taken[at] = s->taken[--s->nr_taken];
			return;
		}
	}
}

void embedded_segment_unmap(struct provider *pv, struct pv_mapping *mapping)
{
	struct embedded *e = embedded(pv);

	lock(&e->lock);
	forget_taken_locked(e, mapping->addr);
	unlock(&e->lock);
	munmap((void *)(uintptr_t)mapping->addr, mapping->len);
	*mapping = (struct pv_mapping){ 0 };
}
