/* Looks into a file that is a guest's physical memory, as inspect.sh makes them, and prints what
 * src/inspect finds there, one KEY VALUE a line. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"
#include "inspect/inspect.h"

struct image {
	const char *bytes;
	uint64_t size;
};

static int image_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	const struct image *i = arg;

	if (gpa >= i->size || len > i->size - gpa)
		return -EFAULT;
	memcpy(dst, i->bytes + gpa, len);
	return 0;
}

static int fails(const struct error *err)
{
	fprintf(stderr, "inspect_file: %s%s%s\n", err->what, err->hint[0] ? "; " : "", err->hint);
	return 1;
}

static int print_place(const struct inspect *in, const char *expr)
{
	struct inspect_place place;
	struct error err = {0};
	char text[64];
	uint64_t value;

	if (inspect_place(in, expr, 0, &place, &err))
		return fails(&err);
	inspect_format(in, place.gva, text, sizeof(text));
	printf("%s.gva 0x%" PRIx64 "\n%s.place %s\n", expr, place.gva, expr, text);
	if ((place.value.size == 4 || place.value.size == 8) &&
	    !space_read_uint(&in->space, place.gva, (unsigned)place.value.size, &value))
		printf("%s %" PRIu64 "\n", expr, value);
	else if (!space_read_text(&in->space, place.gva, text, MIN(place.value.size + 1, 64u)))
		printf("%s %s\n", expr, text);
	return 0;
}

int main(int argc, char **argv)
{
	struct guest_reader mem = {.read = image_read};
	struct types_value pid;
	struct error err = {0};
	struct inspect *in;
	struct image image;
	uint64_t start = now_ns(), gva;
	struct stat st;
	int fd = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1, rc = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		fprintf(stderr, "usage: inspect_file MEMORY [EXPR...]\n");
		return 2;
	}
	image.size = (uint64_t)st.st_size;
	image.bytes = mmap(NULL, image.size, PROT_READ, MAP_SHARED, fd, 0);
	fd_close(&fd);
	if (image.bytes == MAP_FAILED) {
		perror(argv[1]);
		return 2;
	}
	mem.arg = &image;
	mem.layout.count = 1;
	mem.layout.range[0].size = image.size;
	if (inspect_new(&mem, 0, &in, &err))
		return fails(&err);
	printf("time_us %" PRIu64 "\n", (now_ns() - start) / 1000);
	printf("release %s\n", in->release);
	printf("kaslr_offset 0x%" PRIx64 "\n", in->kaslr_offset);
	printf("root 0x%" PRIx64 "\nva_bits %u\n", in->space.paging.root_gpa,
	       arch_paging_va_bits(&in->space.paging));
	printf("symbols %u\ncpus %u\n", in->symbols.count, inspect_cpus(in));
	for (unsigned i = 0; i < 3; i++) {
		static const char *const names[] = {"_stext", "jiffies_64", "init_task"};

		if (inspect_symbol(in, names[i], &gva, &err))
			return fails(&err);
		printf("at:%s 0x%" PRIx64 "\n", names[i], gva);
	}
	if (inspect_member(in, "task_struct.pid", &pid, &err))
		return fails(&err);
	printf("task_struct.pid %" PRIu64 "\n", pid.offset);
	if (inspect_symbol(in, "jifies_64", &gva, &err) == 0)
		return 1;
	printf("misspelt %s\n", err.hint);
	for (int i = 2; i < argc; i++)
		rc |= print_place(in, argv[i]);
	inspect_free(in);
	munmap((void *)(uintptr_t)image.bytes, image.size);
	return rc;
}
