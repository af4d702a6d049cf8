/* Looks into a file that is a guest's physical memory, as inspect.sh makes them, and prints what
 * src/inspect finds there, one KEY VALUE a line. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"
#include "inspect/sched.h"
#include "inspect/stack.h"

#define TASKS_MAX 4096

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

/* ---- the scheduler, and stacks of tasks that wait ----------------------------------------- */

static void print_number(const char *name, int64_t value, void *arg)
{
	printf("cpu%u.%s %" PRId64 "\n", *(unsigned *)arg, name, value);
}

static void print_text(const char *name, const char *value, void *arg)
{
	printf("cpu%u.%s %s\n", *(unsigned *)arg, name, value);
}

static void print_cpus(const struct inspect *in, const struct sched *sched)
{
	for (unsigned cpu = 0; cpu < inspect_cpus(in); cpu++) {
		struct sched_sink sink = {print_number, print_text, &cpu};

		if (!sched_task(sched, cpu, 0, &sink) || !sched_queue(sched, cpu, &sink))
			printf("cpu%u.unknown\n", cpu);
	}
}

/* Of x86's struct inactive_task_frame and task_struct. */
struct sleeper {
	uint64_t tasks, comm, on_cpu, sp, bp, ret;
};

static int offset_of(const struct inspect *in, const char *path, uint64_t *ret_offset)
{
	struct types_value v;
	struct error err = {0};

	if (inspect_member(in, path, &v, &err))
		return fails(&err);
	*ret_offset = v.offset;
	return 0;
}

/* Whether the task waits, and where. */
static bool waits(const struct inspect *in, const struct sleeper *s, uint64_t task,
		  struct arch_unwind *ret_u)
{
	uint64_t on_cpu, sp;

	*ret_u = (struct arch_unwind){0};
	if (space_read_uint(&in->space, task + s->on_cpu, 4, &on_cpu) || on_cpu ||
	    space_read_uint(&in->space, task + s->sp, 8, &sp) ||
	    space_read_uint(&in->space, sp + s->bp, 8, &ret_u->fp) ||
	    space_read_uint(&in->space, sp + s->ret, 8, &ret_u->pc))
		return false;
	ret_u->sp = sp + s->ret + 8;
	return true;
}

static void print_stack(struct code *code, const char *comm, const struct stack *s)
{
	char text[KALLSYMS_NAME_MAX + 64];

	printf("stack:%s", comm);
	for (unsigned i = 0; i < s->count; i++) {
		code_format(code, s->frame[i].pc, s->frame[i].back, text, sizeof(text));
		printf(" %s", text);
	}
	printf("%s\n", s->complete ? " end" : "");
}

static int print_sleepers(const struct inspect *in, struct code *code)
{
	static struct stack stack;
	unsigned sleepers = 0, complete = 0, frames = 0, by_orc = 0;
	uint64_t head, at, start;
	struct sleeper s;
	struct error err = {0};

	if (offset_of(in, "task_struct.tasks", &s.tasks) ||
	    offset_of(in, "task_struct.comm", &s.comm) ||
	    offset_of(in, "task_struct.on_cpu", &s.on_cpu) ||
	    offset_of(in, "task_struct.thread.sp", &s.sp) ||
	    offset_of(in, "inactive_task_frame.bp", &s.bp) ||
	    offset_of(in, "inactive_task_frame.ret_addr", &s.ret))
		return 1;
	if (inspect_symbol(in, "init_task", &head, &err))
		return fails(&err);
	head += s.tasks;
	at = head;
	start = now_ns();
	for (unsigned i = 0; i < TASKS_MAX; i++) {
		struct arch_unwind u;
		char comm[17];

		if (space_read_uint(&in->space, at, 8, &at) || at == head)
			break;
		if (!waits(in, &s, at - s.tasks, &u) ||
		    space_read_text(&in->space, at - s.tasks + s.comm, comm, sizeof(comm)))
			continue;
		stack_walk(code, in, &u, &stack);
		print_stack(code, comm, &stack);
		sleepers++;
		complete += stack.complete;
		frames += stack.count - 1;
		for (unsigned j = 1; j < stack.count; j++)
			by_orc += stack.frame[j].by == ARCH_BY_ORC;
	}
	printf("sleepers %u\ncomplete %u\nframes %u\nby_orc %u\nstacks_us %" PRIu64 "\n", sleepers,
	       complete, frames, by_orc, (now_ns() - start) / 1000);
	return 0;
}

static int print_scheduler(const struct inspect *in)
{
	uint64_t start = now_ns();
	struct lacks lacks = {0};
	struct sched *sched;
	struct code *code;
	int rc;

	if (code_open(in, &lacks, &code) || sched_open(in, &lacks, &sched))
		return 1;
	printf("open_us %" PRIu64 "\n", (now_ns() - start) / 1000);
	for (unsigned i = 0; i < lacks.count; i++)
		printf("lacks %s\n", lacks.what[i]);
	print_cpus(in, sched);
	rc = print_sleepers(in, code);
	sched_free(sched);
	code_free(code);
	return rc;
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
	rc |= print_scheduler(in);
	inspect_free(in);
	munmap((void *)(uintptr_t)image.bytes, image.size);
	return rc;
}
