// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* endpoint.c - opening and closing, bells, event sources, cookies, and the fork check */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include "barrier.h"
#include "error.h"
#include "handover.h"
#include "session.h"

#ifdef __SANITIZE_THREAD__
uint32_t tsan_fence_word;
#endif

/* ---- fork --------------------------------------------------------------- */

/*
 * A page that a fork leaves empty in the child. A child that opens endpoints of its own writes its
 * own mark, which is none that it inherited: so what it inherited stays foreign to it. The pid
 * would not do: the first process of a PID namespace can fork the first of another.
 */
uint32_t *process_word;

static uint32_t *map_word(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	uint32_t *word = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0);

	if (word == MAP_FAILED)
		return NULL;
	if (!madvise(word, page, MADV_WIPEONFORK))
		return word;
	munmap(word, page);
	return NULL;
}

/* GRND_INSECURE: never blocks; nobody has to guess it. 0 stands for a fork. */
static int random_mark(uint32_t *mark)
{
	do
		if (getrandom(mark, sizeof(*mark), GRND_INSECURE) < 0)
			return -errno;
	while (!*mark);
	return 0;
}

/* The page, made by whoever is first. NULL: no memory. */
static uint32_t *get_word(void)
{
	uint32_t *word = __atomic_load_n(&process_word, __ATOMIC_ACQUIRE), *mine;

	if (word)
		return word;
	mine = map_word();
	if (!mine || __atomic_compare_exchange_n(&process_word, &word, mine, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return mine;
	munmap(mine, sysconf(_SC_PAGESIZE));
	return word;
}

/* Without a lock, which a fork could copy while another thread holds it. */
static int process_mark(uint32_t *mark)
{
	uint32_t *word = get_word(), mine;
	int err;

	if (!word)
		return -ENOMEM;
	*mark = load_relaxed(word);
	if (*mark)
		return 0;
	err = random_mark(&mine);
	if (err)
		return err;
	/* Of two threads the first one's counts. */
	if (__atomic_compare_exchange_n(word, mark, mine, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		*mark = mine;
	return 0;
}

/* ---- opening and closing ------------------------------------------------ */

int endpoint_new(struct provider *pv, struct shmipc_endpoint **out)
{
	struct shmipc_endpoint *ep = calloc(1, sizeof(*ep));
	int err;

	if (!ep)
		return -ENOMEM;
	err = process_mark(&ep->process);
	if (err) {
		free(ep);
		return err;
	}
	ep->pv = pv;
	ep->poll_fd = -1;
	spin_init(&ep->spin);
	list_init(&ep->hot);
	list_init(&ep->bufs);
	list_init(&ep->sessions);
	list_init(&ep->listeners);
	list_init(&ep->followers);
	list_init(&ep->corked);
	list_init(&ep->sources);
	source_init(&ep->offer.source, SOURCE_ENDPOINT, ep);
	*out = ep;
	return 0;
}

int shmipc_open(struct shmipc_endpoint **ep, unsigned int flags)
{
	struct provider *pv;
	int err;

	if (flags)
		return error_set(-EINVAL, "shmipc_open() knows no flags yet: pass 0");
	err = provider_open(&pv);
	if (err)
		return err;
	err = endpoint_new(pv, ep);
	if (err) {
		pv->ops->close(pv, false);
		return err;
	}
	error_clear();
	return 0;
}

static void close_poll_fd(struct shmipc_endpoint *ep)
{
	if (ep->poll_fd < 0)
		return;
	close(ep->poll_fd);
	close(ep->news);
}

void shmipc_close(struct shmipc_endpoint *ep)
{
	bool moved = ep && endpoint_moved(ep);
	struct list *pos, *n;

	if (!ep)
		return;
	if (moved)
		ep->process = ep->moved;
	if (endpoint_foreign(ep)) {
		/* Locks may be held by threads that the fork did not copy: touch nothing else. */
		close_poll_fd(ep);
		ep->pv->ops->close(ep->pv, true);
		return;
	}
	list_for_each_safe(pos, n, &ep->sessions) {
		struct shmipc_session *s = container_of(pos, struct shmipc_session, node);

		/* There is nobody to tell, and no memory to tell it in. */
		if (moved)
			session_destroy(s);
		else
			shmipc_session_close(s);
	}
	list_for_each_safe(pos, n, &ep->listeners)
		shmipc_listener_close(container_of(pos, struct shmipc_listener, node));
	buf_destroy_all(ep);
	offer_end(ep);
	adopted_free(ep);
	close_poll_fd(ep);
	ep->pv->ops->close(ep->pv, false);
	free(ep->cookies);
	free(ep);
}

const char *shmipc_provider(const struct shmipc_endpoint *ep)
{
	return ep->pv->ops->name;
}

const char *shmipc_version(void)
{
	return SHMIPC_VERSION;
}

/* ---- shmipc_fd() -------------------------------------------------------- */

/*
 * The provider's descriptor alone would not do: another thread that blocks takes from it what the
 * one that polls sleeps for.
 */
static int make_poll_fd(struct shmipc_endpoint *ep)
{
	struct epoll_event event = { .events = EPOLLIN };
	/* Readable at first: shmipc_wait() may have found nothing before anybody could leave word. */
	int news = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	int fd = epoll_create1(EPOLL_CLOEXEC);
	int err;

	if (news >= 0 && fd >= 0 && !epoll_ctl(fd, EPOLL_CTL_ADD, news, &event) &&
	    !epoll_ctl(fd, EPOLL_CTL_ADD, ep->pv->fd, &event)) {
		ep->news = news;
		atomic_store(&ep->news_rung, true);
		atomic_store(&ep->poll_fd, fd);
		return fd;
	}
	err = -errno;
	if (news >= 0)
		close(news);
	if (fd >= 0)
		close(fd);
	return err;
}

int shmipc_fd(const struct shmipc_endpoint *const_ep)
{
	/* Made when it is first asked for. */
	struct shmipc_endpoint *ep = (void *)(uintptr_t)const_ep;
	int fd;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	lock(&ep->lock);
	fd = atomic_load(&ep->poll_fd);
	if (fd < 0)
		fd = make_poll_fd(ep);
	unlock(&ep->lock);
	return fd;
}

/*
 * Who has news made it under ep->lock or poll_lock, then asks @polled. Who polls sets @polled, then
 * looks under those locks: one of the two sees the other. A thread that still looks is told without
 * a system call, for most news in that look is of its own finding. @news_rung comes after the
 * write, so that who reads it can't be too early.
 */
void endpoint_tell_poller(struct shmipc_endpoint *ep)
{
	static const uint64_t one = 1;
	int polled = atomic_load(&ep->polled);
	ssize_t done;

	if (polled == POLL_LOOKS &&
	    atomic_compare_exchange_strong(&ep->polled, &polled, POLL_NEWS))
		return;
	/* By now it may have gone to sleep; or have come back, and looks again by itself. */
	if (polled != POLL_SLEEPS ||
	    !atomic_compare_exchange_strong(&ep->polled, &polled, POLL_NONE))
		return;
	done = write(ep->news, &one, sizeof(one));
	(void)done;
	atomic_store(&ep->news_rung, true);
}

int shmipc_get_stats(struct shmipc_endpoint *ep, struct shmipc_stats *stats, size_t size)
{
	struct shmipc_stats sum;
	struct list *pos, *n;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	/* poll_lock keeps sessions; their own locks come inside of it, endpoint.lock last. */
	lock(&ep->poll_lock);
	lock(&ep->lock);
	sum = ep->gone;
	unlock(&ep->lock);
	list_for_each_safe(pos, n, &ep->sessions) {
		struct shmipc_session *s = container_of(pos, struct shmipc_session, node);

		lock(&s->rx.lock);
		sum.messages_received += s->rx.messages;
		sum.bytes_received += s->rx.bytes;
		unlock(&s->rx.lock);
		lock(&s->tx.lock);
		sum.messages_sent += s->tx.messages;
		sum.bytes_sent += s->tx.payload;
		sum.parked += s->tx.parked;
		unlock(&s->tx.lock);
	}
	unlock(&ep->poll_lock);
	sum.doorbells = atomic_load(&ep->doorbells);
	sum.sleeps = atomic_load(&ep->sleeps);
	sum.wakeups = atomic_load(&ep->wakeups);
	sum.stalls = atomic_load(&ep->stalls);
	sum.segments = atomic_load(&ep->segments);
	sum.empty_bells = atomic_load(&ep->empty_bells);
	memset(stats, 0, size);
	memcpy(stats, &sum, size < sizeof(sum) ? size : sizeof(sum));
	return 0;
}

/* ---- cookies ------------------------------------------------------------ */

/* A cookie is {generation, index + 1}; the table only grows. */
uint64_t endpoint_cookie(struct shmipc_endpoint *ep)
{
	struct cookie_entry *grown;
	uint64_t cookie = 0;
	uint32_t i;

	lock(&ep->lock);
	for (i = 0; i < ep->nr_cookies && ep->cookies[i].generation & 1;)
		i++;
	if (i == ep->nr_cookies) {
		grown = realloc(ep->cookies, (2 * i + 4) * sizeof(*grown));
		if (!grown)
			goto out;
		memset(grown + i, 0, (i + 4) * sizeof(*grown));
		ep->cookies = grown;
		ep->nr_cookies = 2 * i + 4;
	}
	ep->cookies[i].generation++;
	ep->cookies[i].early = 0;
	cookie = (uint64_t)ep->cookies[i].generation << 32 | (i + 1);
out:
	unlock(&ep->lock);
	return cookie;
}

static struct cookie_entry *cookie_find(struct shmipc_endpoint *ep, uint64_t cookie)
{
	uint32_t i = (uint32_t)cookie - 1;

	if (i >= ep->nr_cookies || ep->cookies[i].generation != cookie >> 32)
		return NULL;
	return &ep->cookies[i];
}

uint32_t endpoint_attach(struct shmipc_endpoint *ep, uint64_t cookie,
			 struct shmipc_session *session, struct shmipc_listener *listener)
{
	struct cookie_entry *entry;
	uint32_t early;

	lock(&ep->lock);
	entry = cookie_find(ep, cookie);
	entry->session = session;
	entry->listener = listener;
	early = entry->early;
	unlock(&ep->lock);
	return early;
}

void endpoint_forget(struct shmipc_endpoint *ep, uint64_t cookie)
{
	struct cookie_entry *entry;

	lock(&ep->lock);
	entry = cookie_find(ep, cookie);
	if (entry) {
		entry->generation++;
		entry->session = NULL;
		entry->listener = NULL;
	}
	unlock(&ep->lock);
}

/* An event of the provider. poll_lock held, which keeps the object alive. */
bool endpoint_event(struct shmipc_endpoint *ep, const struct shmipc_ready *event)
{
	struct shmipc_session *session = NULL;
	struct shmipc_listener *listener = NULL;
	struct cookie_entry *entry;

	if (event->causes & SHMIPC_CAUSE_OFFER) {
		endpoint_post(ep, &ep->offer.source, SHMIPC_EV_OFFER);
		endpoint_poke(ep, ep);
		return true;
	}
	lock(&ep->lock);
	entry = cookie_find(ep, event->cookie);
	if (entry) {
		session = entry->session;
		listener = entry->listener;
		if (!session && !listener)
			entry->early |= event->causes;
	}
	unlock(&ep->lock);
	if (session)
		return session_event(session, event->causes);
	if (listener)
		listener_event(listener);
	return true;
}

/* ---- bells -------------------------------------------------------------- */

/* Takes sessions off the corked list, and says whom to ring. Returns how many, up to @max. */
unsigned int endpoint_bells(struct shmipc_endpoint *ep, struct shmipc_notify *notify,
			    unsigned int max, bool *found)
{
	unsigned int n = 0;
	bool more = true;

	while (more && n < max) {
		struct shmipc_session *s;
		uint32_t bits = 0;

		lock(&ep->lock);
		if (list_empty(&ep->corked)) {
			unlock(&ep->lock);
			break;
		}
		s = container_of(ep->corked.next, struct shmipc_session, corked);
		list_del(&s->corked);
		more = !list_empty(&ep->corked);
		unlock(&ep->lock);
		if (found && !list_empty(&s->hot) && !session_error(s) && !s->ending)
			*found |= session_arm(s, &bits);
		else
			bits = session_take_bells(s);
		if (bits)
			notify[n++] = (struct shmipc_notify){ .handle = s->handle, .bits = bits };
	}
	return n;
}

/* ---- event sources ------------------------------------------------------ */

void source_init(struct source *source, int kind, void *object)
{
	list_init(&source->node);
	source->kind = kind;
	source->object = object;
}

void endpoint_list_source(struct shmipc_endpoint *ep, struct source *source, uint32_t event)
{
	bool listed = false;

	lock(&ep->lock);
	if (event)
		source->once |= 1U << event;
	if (list_empty(&source->node) && ep->want_events) {
		list_add_tail(&source->node, &ep->sources);
		listed = true;
	}
	unlock(&ep->lock);
	if (listed)
		endpoint_tell_poller(ep);
}

void source_remove(struct shmipc_endpoint *ep, struct source *source)
{
	lock(&ep->lock);
	list_del(&source->node);
	source->once = 0;
	unlock(&ep->lock);
}
