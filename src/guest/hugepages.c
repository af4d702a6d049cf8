/* 2 MiB pages for guest RAM: reserved when they are mapped and brought in before anything is put
 * there, so that nobody runs into a SIGBUS for want of one later. Control thread. */
#include "guest/hugepages.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mman.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/text.h"
#include "base/util.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB"

/* The whole 2 MiB pages of a region: host address and length in bytes. */
static uint64_t whole_pages(const struct guest_region *r, uint8_t **ret_host)
{
	uint64_t start = ALIGN_UP(r->range.gpa, HUGEPAGE_SIZE);
	uint64_t end = (r->range.gpa + r->range.size) / HUGEPAGE_SIZE * HUGEPAGE_SIZE;

	*ret_host = r->host + (start - r->range.gpa);
	return end > start ? end - start : 0;
}

uint64_t hugepages_needed(const struct guest_memory *mem)
{
	uint64_t bytes = 0;
	uint8_t *host;

	for (unsigned i = 0; i < mem->count; i++)
		bytes += whole_pages(&mem->region[i], &host);
	return bytes / HUGEPAGE_SIZE;
}

static uint64_t pool_number(const char *dir, const char *name)
{
	CLEANUP_FREE char *path = text_format("%s/%s", dir, name);
	CLEANUP_FREE char *text = NULL;
	size_t len;

	if (!path || file_read(path, KIB(8), &text, &len) < 0)
		return 0;
	return strtoull(text, NULL, 10);
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

uint64_t hugepages_free(const char *dir)
{
	if (!dir)
		dir = POOL;
	return minus(pool_number(dir, "free_hugepages"), pool_number(dir, "resv_hugepages")) +
	       minus(pool_number(dir, "nr_overcommit_hugepages"),
		     pool_number(dir, "surplus_hugepages"));
}

static int map(uint8_t *host, uint64_t len, int more_flags)
{
	if (mmap(host, (size_t)len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | more_flags, -1, 0) == MAP_FAILED)
		return -errno;
	guest_advise(host, (size_t)len);
	return 0;
}

int hugepages_use(struct guest_memory *mem, struct error *err)
{
	uint64_t need = hugepages_needed(mem), have;
	unsigned i = 0;
	int r = 0;

	for (; i < mem->count && r == 0; i++) {
		uint8_t *host;
		uint64_t len = whole_pages(&mem->region[i], &host);

		if (len > 0)
			r = map(host, len, MAP_HUGETLB | MAP_HUGE_2MB);
	}
	if (r == 0) {
		mem->hugepages = true;
		return 0;
	}
	/* A failed MAP_FIXED may have left a hole: small pages again, up to where it failed. */
	while (i-- > 0) {
		uint8_t *host;
		uint64_t len = whole_pages(&mem->region[i], &host);

		if (len > 0 && map(host, len, MAP_NORESERVE) < 0)
			return error_set_shortage(err, -errno, "putting guest memory back");
	}
	have = hugepages_free(NULL);
	error_contention(err,
			 "--hugepages: the guest takes %" PRIu64 " pages of 2 MiB, %" PRIu64
			 " are free: %" PRIu64 " are missing (%s)",
			 need, have, minus(need, have), strerror(-r));
	error_hint(err, "echo %" PRIu64 " >" POOL "/nr_hugepages",
		   pool_number(POOL, "nr_hugepages") + minus(need, have));
	return -ENOMEM;
}

int hugepages_populate(struct guest_memory *mem, struct error *err)
{
	for (unsigned i = 0; mem->hugepages && i < mem->count; i++) {
		uint8_t *host;
		uint64_t len = whole_pages(&mem->region[i], &host);

		if (len == 0 || madvise(host, (size_t)len, MADV_POPULATE_WRITE) == 0 ||
		    errno == EINVAL)
			continue;
		error_contention(err,
				 "--hugepages: node %u's %" PRIu64
				 " pages of 2 MiB are not to be had "
				 "from the host's nodes that may be used (%s)",
				 mem->region[i].range.node, len / HUGEPAGE_SIZE, strerror(errno));
		error_hint(err, "/sys/devices/system/node/node*/hugepages tells where they are");
		return -ENOMEM;
	}
	return 0;
}
