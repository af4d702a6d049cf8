/* Asks /proc/self/pagemap and /proc/self/maps which pages there are. Control thread. */
#include "guest/backing.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

/* Documentation/admin-guide/mm/pagemap.rst: an entry of eight bytes for each page. */
#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_SWAPPED (UINT64_C(1) << 62)
#define PAGE_OF_FILE (UINT64_C(1) << 61) /* … or of shared memory: not a private mapping's own */

static bool is_own(uint64_t entry)
{
	return (entry & PAGE_SWAPPED) || (entry & (PAGE_PRESENT | PAGE_OF_FILE)) == PAGE_PRESENT;
}

static int add_file(struct guest_backing *b, uint64_t start, uint64_t end)
{
	uint64_t *more = reallocarray(b->file, b->files + 1, 2 * sizeof(*more));

	if (!more)
		return -ENOMEM;
	b->file = more;
	b->file[2 * b->files] = start;
	b->file[2 * b->files + 1] = end;
	b->files++;
	return 0;
}

/* Memory of files, huge pages' among them, is told from private memory by its inode. */
static int find_files(struct guest_backing *b, const struct guest_memory *mem)
{
	uint64_t low = (uintptr_t)mem->reservation, high = low + mem->reservation_size;
	FILE *maps = fopen("/proc/self/maps", "re");
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	int r = 0;

	if (!maps)
		return -errno;
	while (r == 0 && getline(&line, &room, maps) > 0) {
		uint64_t start, end, inode;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %" SCNu64, &start, &end,
			   &inode) == 3 &&
		    inode && start < high && end > low)
			r = add_file(b, start, end);
	}
	if (r == 0 && ferror(maps))
		r = -EIO;
	fclose(maps);
	return r;
}

/* Whether this host's page tables tell a page that was written to from a file's: a snapshot that
 * believes them must not be the first to find out. */
static bool tells_own(int pagemap)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	CLEANUP_FD int fd = memfd_create("stasis-own", MFD_CLOEXEC);
	volatile uint8_t *map;
	uint64_t entry[2] = {0};
	bool r;

	if (pagemap < 0 || fd < 0 || ftruncate(fd, (off_t)(2 * page)) < 0)
		return false;
	map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return false;
	map[0] = 1;
	r = map[page] == 0 &&
	    pread(pagemap, entry, sizeof(entry), (off_t)((uintptr_t)map / page * sizeof(*entry))) ==
		    (ssize_t)sizeof(entry);
	munmap((void *)(uintptr_t)map, 2 * page);
	return r && is_own(entry[0]) && !is_own(entry[1]);
}

void guest_backing_init(struct guest_backing *b, const struct guest_memory *mem)
{
	*b = (struct guest_backing){.pagemap = -1, .page = (size_t)sysconf(_SC_PAGESIZE)};
	for (unsigned i = 0; i < mem->count; i++)
		if (mem->region[i].range.gpa % b->page || mem->region[i].range.size % b->page) {
			b->page = KIB(4);
			return;
		}
	if (find_files(b, mem) == 0)
		b->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	b->tells_own = tells_own(b->pagemap);
}

void guest_backing_done(struct guest_backing *b)
{
	if (!b->page)
		return;
	fd_close(&b->pagemap);
	free(b->file);
	*b = (struct guest_backing){.pagemap = -1};
}

/* False: this host doesn't tell. */
static bool read_entries(const struct guest_backing *b, const uint8_t *host, size_t pages,
			 uint64_t entry[GUEST_BACKING_PAGES])
{
	size_t len = pages * sizeof(*entry);

	assert(pages <= GUEST_BACKING_PAGES);
	return b->pagemap >= 0 &&
	       pread(b->pagemap, entry, len, (off_t)((uintptr_t)host / b->page * sizeof(*entry))) ==
		       (ssize_t)len;
}

void guest_backing_look_own(const struct guest_backing *b, const uint8_t *host, size_t pages,
			    bool own[GUEST_BACKING_PAGES])
{
	uint64_t entry[GUEST_BACKING_PAGES];
	bool all = !b->tells_own || !read_entries(b, host, pages, entry);

	for (size_t i = 0; i < pages; i++)
		own[i] = all || is_own(entry[i]);
}

void guest_backing_look(const struct guest_backing *b, const uint8_t *host, size_t pages,
			bool there[GUEST_BACKING_PAGES])
{
	uint64_t entry[GUEST_BACKING_PAGES];
	uint64_t first = (uintptr_t)host, end = first + pages * b->page;
	bool all = !read_entries(b, host, pages, entry);

	for (size_t i = 0; i < pages; i++)
		there[i] = all || (entry[i] & (PAGE_PRESENT | PAGE_SWAPPED));
	for (size_t i = 0; i < b->files; i++) {
		uint64_t from = MAX(b->file[2 * i], first), to = MIN(b->file[2 * i + 1], end);

		for (uint64_t at = from; at < to; at += b->page)
			there[(at - first) / b->page] = true;
	}
}

void guest_search_init(struct guest_search *s, const struct guest_memory *mem)
{
	s->mem = mem;
	s->from = s->to = 0;
	guest_backing_init(&s->backing, mem);
}

void guest_search_done(struct guest_search *s)
{
	guest_backing_done(&s->backing);
}

/* Looks at what lies around gpa, which is in r. */
static void look_around(struct guest_search *s, const struct guest_region *r, uint64_t gpa)
{
	size_t page = s->backing.page;
	uint64_t at = ALIGN_DOWN(gpa - r->range.gpa, (uint64_t)page);
	size_t pages = (size_t)MIN((r->range.size - at) / page, (uint64_t)GUEST_BACKING_PAGES);

	guest_backing_look(&s->backing, r->host + at, pages, s->there);
	s->from = r->range.gpa + at;
	s->to = s->from + pages * page;
}

uint64_t guest_search_next(void *arg, uint64_t gpa)
{
	struct guest_search *s = arg;
	size_t page = s->backing.page;

	for (unsigned i = 0; i < s->mem->count; i++) {
		const struct guest_region *r = &s->mem->region[i];

		gpa = MAX(gpa, r->range.gpa);
		while (gpa - r->range.gpa < r->range.size) {
			if (gpa < s->from || gpa >= s->to)
				look_around(s, r, gpa);
			if (s->there[(gpa - s->from) / page])
				return gpa;
			gpa = ALIGN_DOWN(gpa, (uint64_t)page) + page;
		}
	}
	return UINT64_MAX;
}
