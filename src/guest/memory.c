/* Guest RAM in one reservation: host address = reservation + gpa, so RAM that is side by side in
 * the guest is side by side here. Set up and torn down by the control thread; looked up by all. */
#include "guest/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define GUEST_PAGE KIB(4)
/* Guest and host addresses agree modulo this, so that KVM can map a host huge page as one. */
#define RESERVATION_ALIGN MIB(2)
/* No machine that stasis models has more physical address bits; keeps every sum below 2^64. */
#define GUEST_TOP_MAX (UINT64_C(1) << 52)

static int check_layout(const struct guest_layout *layout, uint64_t *ret_top, struct error *err)
{
	uint64_t top = 0;

	if (layout->count == 0 || layout->count > GUEST_MAX_REGIONS)
		return error_set(err, -EINVAL, "laying out guest memory: %u regions (1 to %d)",
				 layout->count, GUEST_MAX_REGIONS);
	for (unsigned i = 0; i < layout->count; i++) {
		const struct guest_range *r = &layout->range[i];

		if (r->size == 0 || r->gpa % GUEST_PAGE || r->size % GUEST_PAGE || r->gpa < top ||
		    r->gpa > GUEST_TOP_MAX || r->size > GUEST_TOP_MAX - r->gpa)
			return error_set(err, -EINVAL,
					 "laying out guest memory: region %u (0x%" PRIx64
					 " bytes at 0x%" PRIx64 ") is empty, misaligned, out of "
					 "order or too high",
					 i, r->size, r->gpa);
		top = r->gpa + r->size;
	}
	*ret_top = top;
	return 0;
}

/* Maps an address range of PROT_NONE, aligned to RESERVATION_ALIGN. */
static int reserve(uint64_t size, uint8_t **ret_base)
{
	uint64_t with_slack = size + RESERVATION_ALIGN;
	uint8_t *map, *base;
	uint64_t before;

	if (with_slack > SIZE_MAX)
		return -ENOMEM;
	map = mmap(NULL, (size_t)with_slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	before = ALIGN_UP((uintptr_t)map, RESERVATION_ALIGN) - (uintptr_t)map;
	base = map + before;
	if (before)
		munmap(map, (size_t)before);
	if (before < RESERVATION_ALIGN)
		munmap(base + size, (size_t)(RESERVATION_ALIGN - before));
	*ret_base = base;
	return 0;
}

/* Neither advice changes what the guest sees, so failures are let pass: guest RAM stays out of
 * stasis's own core files, and a forked helper doesn't turn it copy-on-write under KVM. */
void guest_advise(uint8_t *host, size_t len)
{
	(void)madvise(host, len, MADV_DONTDUMP);
	(void)madvise(host, len, MADV_DONTFORK);
#ifdef PR_SET_VMA
	/* A name in /proc/PID/maps; kernels without CONFIG_ANON_VMA_NAME refuse it. */
	(void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, (unsigned long)(uintptr_t)host, len,
		    "stasis-guest-ram");
#endif
}

static int map_anonymous(uint8_t *host, size_t len)
{
	if (mmap(host, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

int guest_memory_init(struct guest_memory *mem, const struct guest_layout *layout,
		      struct error *err)
{
	uint64_t top = 0;
	int r;

	*mem = (struct guest_memory){0};
	r = check_layout(layout, &top, err);
	if (r < 0)
		return r;
	r = reserve(top, &mem->reservation);
	if (r < 0)
		return error_set_shortage(err, r,
					  "reserving %" PRIu64
					  " MiB of address space for the guest",
					  top >> 20);
	mem->reservation_size = top;

	for (unsigned i = 0; i < layout->count; i++) {
		const struct guest_range *range = &layout->range[i];
		uint8_t *host = mem->reservation + range->gpa;

		r = map_anonymous(host, (size_t)range->size);
		if (r < 0) {
			error_set_shortage(err, r, "mapping %" PRIu64 " MiB of guest memory",
					   range->size >> 20);
			guest_memory_done(mem);
			return r;
		}
		guest_advise(host, (size_t)range->size);
		mem->region[i] = (struct guest_region){.range = *range, .host = host};
		mem->count = i + 1;
	}
	return 0;
}

void guest_memory_done(struct guest_memory *mem)
{
	/* The regions lie inside the reservation, so one call unmaps all. */
	if (mem->reservation)
		munmap(mem->reservation, (size_t)mem->reservation_size);
	*mem = (struct guest_memory){0};
}

void *guest_ptr(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *r = &mem->region[i];
		uint64_t offset = gpa - r->range.gpa;
		uint64_t rest;

		if (offset >= r->range.size)
			continue; /* below (wrapped around) or above this region */
		if (len == 0)
			return NULL;
		rest = r->range.size - offset;
		/* Linux merges buffers that touch, and those may cross from node to node. */
		while (len > rest && ++i < mem->count &&
		       mem->region[i].range.gpa == r->range.gpa + r->range.size) {
			r = &mem->region[i];
			rest += r->range.size;
		}
		return len <= rest ? mem->reservation + gpa : NULL;
	}
	return NULL;
}

static int copy_file(uint8_t *host, uint64_t len, int fd, uint64_t offset, struct error *err)
{
	uint64_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, host + done, (size_t)(len - done), (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, -errno, "copying a file into guest memory");
		if (n == 0)
			break; /* it ends within its last page: the rest is zero already */
		done += (uint64_t)n;
	}
	return 0;
}

int guest_map_private_at(struct guest_memory *mem, uint64_t gpa, uint64_t len, int fd,
			 uint64_t offset, struct error *err)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint8_t *host = guest_ptr(mem, gpa, len);
	struct stat st;

	if (!host || gpa % page || len % page || offset % page)
		return error_set(err, -EINVAL,
				 "mapping a file of 0x%" PRIx64 " bytes at 0x%" PRIx64
				 " in guest memory",
				 len, gpa);
	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "mapping a file into guest memory");
	/* Past the end of the file a touch would be SIGBUS. */
	if (st.st_size < 0 || offset > (uint64_t)st.st_size ||
	    ALIGN_UP((uint64_t)st.st_size, page) - offset < len)
		return error_set(
			err, -EINVAL,
			"mapping a file into guest memory: it has %lld bytes, not %" PRIu64,
			(long long)st.st_size, offset + len);
	if (mem->hugepages || mem->copies)
		return copy_file(host, len, fd, offset, err);
	if (mmap(host, (size_t)len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED,
		 fd, (off_t)offset) == MAP_FAILED) {
		int code = -errno;

		/* A failed MAP_FIXED may have left a hole: put RAM back. */
		if (map_anonymous(host, (size_t)len) == 0)
			guest_advise(host, (size_t)len);
		return error_set_shortage(err, code, "mapping a file into guest memory");
	}
	guest_advise(host, (size_t)len);
	return 0;
}

int guest_map_private(struct guest_memory *mem, uint64_t gpa, uint64_t len, int fd,
		      struct error *err)
{
	return guest_map_private_at(mem, gpa, len, fd, 0, err);
}
