/* Guest RAM: one reservation of host address space, regions inside it, and the one function that
 * turns a guest address into a pointer. Set up by the control thread before any vCPU runs; the
 * layout never changes afterwards, so every thread may look addresses up.
 *
 *   reservation  |<-------------- size of the guest's physical space used -------------->|
 *   gpa          0            hole                 4 GiB
 *   host         [ region 0 ] [ PROT_NONE        ] [ region 1 (node 0) ][ region 2 ] …
 */
#ifndef STASIS_GUEST_MEMORY_H
#define STASIS_GUEST_MEMORY_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"

#define GUEST_MAX_REGIONS 128

struct guest_range {
	uint64_t gpa;  /* first byte; 4 KiB aligned */
	uint64_t size; /* bytes; 4 KiB aligned, not 0 */
	unsigned node; /* NUMA node of the guest */
};

/* Which RAM is where: arch_memory_layout makes it. Ascending, disjoint. */
struct guest_layout {
	struct guest_range range[GUEST_MAX_REGIONS];
	unsigned count;
};

struct guest_region {
	struct guest_range range;
	uint8_t *host; /* range.size bytes, readable and writable, lazily backed */
};

struct guest_memory {
	uint8_t *reservation; /* MAP_NORESERVE, PROT_NONE but for the regions */
	uint64_t reservation_size;
	struct guest_region region[GUEST_MAX_REGIONS];
	unsigned count;
	bool hugepages; /* on 2 MiB pages of hugetlbfs: guest/hugepages.h */
	bool copies;	/* a file is copied into it and not mapped: its pages stay what they are */
};

/* Reserves and maps. -ENOMEM is contention. On failure nothing is left. */
int guest_memory_init(struct guest_memory *mem, const struct guest_layout *layout,
		      struct error *err) MUST_CHECK;
/* Accepts a zeroed or half-built object. After the VM descriptor is closed. */
void guest_memory_done(struct guest_memory *mem);

/* The pointer to [gpa, gpa + len), or NULL unless all of it is RAM; it may cross from a region to
 * one that follows without a gap, since the host side is one reservation. len 0 is NULL.
 * The bytes are the guest's: they change under the reader. Copy before checking. Any thread. */
void *guest_ptr(const struct guest_memory *mem, uint64_t gpa, uint64_t len);

/* Copies; -EFAULT unless guest_ptr would succeed. */
static inline int guest_read(const struct guest_memory *mem, uint64_t gpa, void *dst, uint64_t len)
{
	const void *src = guest_ptr(mem, gpa, len);

	if (!src)
		return -EFAULT;
	memcpy(dst, src, len);
	return 0;
}

static inline int guest_write(const struct guest_memory *mem, uint64_t gpa, const void *src,
			      uint64_t len)
{
	void *dst = guest_ptr(mem, gpa, len);

	if (!dst)
		return -EFAULT;
	memcpy(dst, src, len);
	return 0;
}

/* Lays len bytes of fd (from 0) over the RAM at gpa, private and copy-on-write; on huge pages,
 * which nothing can be laid over, they are copied. gpa and len are host-page aligned. Before any
 * vCPU runs; KVM may have the memory by then, and follows what is mapped at the same address. */
int guest_map_private(struct guest_memory *mem, uint64_t gpa, uint64_t len, int fd,
		      struct error *err) MUST_CHECK;
/* … from offset of the file, host-page aligned as well. */
int guest_map_private_at(struct guest_memory *mem, uint64_t gpa, uint64_t len, int fd,
			 uint64_t offset, struct error *err) MUST_CHECK;
/* What stasis wants of the host's memory manager for guest RAM: not in a core file, not in a forked
 * child, a name in /proc/PID/maps. For who maps parts of a region anew. */
void guest_advise(uint8_t *host, size_t len);

#endif
