/* Which pages of guest memory the host has given so far: one that nobody wrote to or read need not
 * be looked at, and a look would bring it in. Control thread. */
#ifndef STASIS_GUEST_BACKING_H
#define STASIS_GUEST_BACKING_H

#include "guest/memory.h"

struct guest_backing {
	int pagemap;	/* owned; -1: this host doesn't tell, so that every page counts */
	size_t page;	/* bytes that it tells of at once: a host page, or 4 KiB */
	uint64_t *file; /* pairs of host addresses, ascending: where files are mapped, which have
			 * content that no page table shows yet */
	size_t files;
	bool tells_own; /* … else all pages count as own, too */
};

/* As memory is mapped now. */
void guest_backing_init(struct guest_backing *b, const struct guest_memory *mem);
/* Accepts a zeroed one. */
void guest_backing_done(struct guest_backing *b);

/* At most so many pages at once. */
#define GUEST_BACKING_PAGES 1024
/* Page i from host on is there, or may have content: there[i]. host is page-aligned guest memory.
 */
void guest_backing_look(const struct guest_backing *b, const uint8_t *host, size_t pages,
			bool there[GUEST_BACKING_PAGES]);
/* Which of them are the mapping's own: what a file is mapped under, privately, is not, until
 * somebody writes to it, be it the guest, a device or the kernel. An own page stays one. */
void guest_backing_look_own(const struct guest_backing *b, const uint8_t *host, size_t pages,
			    bool own[GUEST_BACKING_PAGES]);

/* A walk over what is there, for guest_reader's next. */
struct guest_search {
	struct guest_backing backing;
	const struct guest_memory *mem;
	uint64_t from, to; /* what there[] tells of */
	bool there[GUEST_BACKING_PAGES];
};
void guest_search_init(struct guest_search *s, const struct guest_memory *mem);
void guest_search_done(struct guest_search *s);
/* arg: a struct guest_search. */
uint64_t guest_search_next(void *arg, uint64_t gpa);

#endif
