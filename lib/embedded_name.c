// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "embedded_name.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "provider.h"

static const char *const prefixes[] = {
	[NAME_LISTENER] = "shmipc/",
	[NAME_KERNEL] = "shmipc.kernel/",
	[NAME_EMBEDDED] = "shmipc.embedded/",
};

/* The longest prefix and the longest name fit behind the leading zero. */
_Static_assert(1 + sizeof("shmipc.embedded/") + SHMIPC_NAME_MAX <
	       sizeof(((struct sockaddr_un *)0)->sun_path), "names fit into a socket address");

socklen_t name_address(struct sockaddr_un *address, enum name_kind kind, const char *name)
{
	size_t prefix = strlen(prefixes[kind]), len = strlen(name);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path + 1, prefixes[kind], prefix);
	memcpy(address->sun_path + 1 + prefix, name, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + prefix + len);
}

bool name_reserved(const char *name, uint32_t *uid)
{
	const char *p = name + 1;
	uint64_t value = 0;

	if (name[0] != 'u')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (value <= UINT32_MAX)
			value = value * 10 + (uint64_t)(*p - '0');
	if (p == name + 1 || *p != '/')
		return false;
	/* A number that is no uid is nobody's name. */
	*uid = value < SHMIPC_UID_ANY ? (uint32_t)value : SHMIPC_UID_ANY;
	return true;
}

int name_mark(enum name_kind kind, const char *name)
{
	struct sockaddr_un address;
	socklen_t len = name_address(&address, kind, name);
	int fd, err;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Nobody reads it: nothing that a stranger sends may pile up. */
	shutdown(fd, SHUT_RD);
	if (!bind(fd, (struct sockaddr *)&address, len))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

bool name_marked(enum name_kind kind, const char *name)
{
	struct sockaddr_un address;
	socklen_t len = name_address(&address, kind, name);
	int fd, err;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	/* Connecting a datagram socket leaves no trace at the other one. */
	err = connect(fd, (struct sockaddr *)&address, len);
	close(fd);
	return !err;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list all_held = { &all_held, &all_held };
static int once_error;

static void fork_prepare(void)
{
	pthread_mutex_lock(&held_lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&held_lock);
}

static void fork_child(void)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &all_held) {
		struct held *held = container_of(pos, struct held, node);

		close(held->fd);
		held->fd = -1;
		list_del(&held->node);
	}
	pthread_mutex_unlock(&held_lock);
}

static void register_handlers(void)
{
	once_error = -pthread_atfork(fork_prepare, fork_parent, fork_child);
}

int held_init(struct held *held, int fd)
{
	held->fd = fd;
	list_init(&held->node);
	pthread_once(&once, register_handlers);
	if (once_error || fd < 0)
		return once_error;
	pthread_mutex_lock(&held_lock);
	list_add_tail(&held->node, &all_held);
	pthread_mutex_unlock(&held_lock);
	return 0;
}

void held_close(struct held *held)
{
	pthread_mutex_lock(&held_lock);
	list_del(&held->node);
	if (held->fd >= 0)
		close(held->fd);
	held->fd = -1;
	pthread_mutex_unlock(&held_lock);
}
