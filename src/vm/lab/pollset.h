/* The descriptors of one poll(2), gathered anew for each turn. Owned by one thread. */
#ifndef STASIS_VM_LAB_POLLSET_H
#define STASIS_VM_LAB_POLLSET_H

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/compiler.h"

struct pollset {
	struct pollfd *fds;
	size_t count, cap;
};

static inline void pollset_done(struct pollset *p)
{
	free(p->fds);
	*p = (struct pollset){0};
}

/* Returns the slot for pollset_got; -1, which never gets anything, for fd -1 or no memory. */
static inline int pollset_add(struct pollset *p, int fd, short events)
{
	if (fd < 0)
		return -1;
	if (p->count == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 16;
		struct pollfd *fds = reallocarray(p->fds, cap, sizeof(*fds));

		if (!fds)
			return -1;
		p->fds = fds;
		p->cap = cap;
	}
	p->fds[p->count] = (struct pollfd){.fd = fd, .events = events};
	return (int)p->count++;
}

static inline short pollset_got(const struct pollset *p, int slot)
{
	return slot < 0 ? 0 : p->fds[slot].revents;
}

/* Negative: for ever. An interrupted wait got nothing. Any other failure is -errno. */
static inline int pollset_wait(struct pollset *p, int timeout_ms)
{
	if (poll(p->fds, p->count, timeout_ms) >= 0)
		return 0;
	for (size_t i = 0; i < p->count; i++)
		p->fds[i].revents = 0;
	return errno == EINTR ? 0 : -errno;
}

#endif
