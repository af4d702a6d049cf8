/* Guest RAM on the host's reserved 2 MiB pages (hugetlbfs), where a person asks for it. Control
 * thread. */
#ifndef STASIS_GUEST_HUGEPAGES_H
#define STASIS_GUEST_HUGEPAGES_H

#include "guest/memory.h"

#define HUGEPAGE_SIZE MIB(2)

/* How many 2 MiB pages the regions take: what of a region is no whole page stays on small ones. */
uint64_t hugepages_needed(const struct guest_memory *mem);
/* How many the host could give now: free and not promised, and what it may still make on demand
 * (Documentation/admin-guide/mm/hugetlbpage.rst). dir: its folder of the 2 MiB pool; NULL is
 * /sys/kernel/mm/hugepages/hugepages-2048kB. 0 where there is no such pool. */
uint64_t hugepages_free(const char *dir);
/* Puts the regions on 2 MiB pages, all or none. After guest_memory_init, before anything is in
 * them. Too few: contention, which says how many are missing and how to get them; mem is as it
 * was. */
int hugepages_use(struct guest_memory *mem, struct error *err) MUST_CHECK;

/* Brings every one of them in, so that one that the host promised and can't give where this process
 * may have it (a cpuset, a binding to nodes) is contention here, and no SIGBUS later. After such a
 * binding. Does nothing where mem is not on them, or the kernel can't (before 5.14). */
int hugepages_populate(struct guest_memory *mem, struct error *err) MUST_CHECK;

#endif
