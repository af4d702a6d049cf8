/* Looks at a CPU in passing. Any thread: what is known of the kernel was read before. */
#include "inspect/glimpse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "inspect/sched.h"
#include "inspect/stack.h"

#define USER_STRIDE_MAX MIB(1) /* a frame is smaller */

/* Addresses; 0: not known. */
struct newest {
	uint64_t module, program;
};

struct glimpse_kernel {
	const struct inspect *in;
	struct code *code;
	struct sched *sched;
	uint64_t modules, programs; /* heads of their lists, or 0 */
	struct newest newest;	    /* before they were read */
	struct lacks lacks;
};

/* ---- what comes and goes ----------------------------------------------------------------- */

/* list: its head; end: 0 for the next object, 8 for the previous one (struct list_head). */
static uint64_t at_end_of(const struct glimpse_kernel *k, uint64_t list, unsigned end)
{
	return list ? space_uint_or_0(&k->in->space, list + end, 8) : 0;
}

/* A module comes to the head of its list, a program to the tail (kernel/module/main.c,
 * kernel/bpf/core.c). */
static struct newest newest(const struct glimpse_kernel *k)
{
	return (struct newest){
		.module = at_end_of(k, k->modules, 0),
		.program = at_end_of(k, k->programs, 8),
	};
}

bool glimpse_is_stale(const struct glimpse_kernel *kernel)
{
	struct newest now = newest(kernel);

	return now.module != kernel->newest.module || now.program != kernel->newest.program;
}

/* ---- the object -------------------------------------------------------------------------- */

int glimpse_open(const struct inspect *in, struct glimpse_kernel **ret_kernel)
{
	struct glimpse_kernel *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	k->in = in;
	k->modules = kallsyms_address_or_0(&in->symbols, "modules");
	k->programs = kallsyms_address_or_0(&in->symbols, "bpf_kallsyms");
	k->newest = newest(k);
	r = code_open(in, &k->lacks, &k->code);
	if (r == 0)
		r = code_prepare(k->code, &k->lacks);
	if (r == 0)
		r = sched_open_tasks(in, &k->lacks, &k->sched);
	if (r < 0) {
		glimpse_close(k);
		return r;
	}
	*ret_kernel = k;
	return 0;
}

void glimpse_close(struct glimpse_kernel *kernel)
{
	if (!kernel)
		return;
	sched_free(kernel->sched);
	code_free(kernel->code);
	free(kernel);
}

const struct lacks *glimpse_lacks(const struct glimpse_kernel *kernel)
{
	return &kernel->lacks;
}

/* ---- the task ---------------------------------------------------------------------------- */

static void task_number(const char *name, int64_t value, void *arg)
{
	if (!strcmp(name, "pid"))
		((struct glimpse *)arg)->pid = (int32_t)value;
}

static void task_text(const char *name, const char *value, void *arg)
{
	struct glimpse *g = arg;

	if (!strcmp(name, "name"))
		snprintf(g->comm, sizeof(g->comm), "%s", value);
}

/* ---- stacks ------------------------------------------------------------------------------ */

static void look_in_kernel(const struct glimpse_kernel *k, const struct glimpse_at *at,
			   struct glimpse *g)
{
	struct stack stack;

	stack_walk_briefly(k->code, k->in, &at->registers, GLIMPSE_FRAMES, &stack);
	g->count = stack.count;
	g->complete = stack.complete;
	for (unsigned i = 0; i < stack.count; i++) {
		const struct stack_frame *f = &stack.frame[i];

		/* An address to return to may lie past its function's end. */
		g->frame[i] = code_function(k->code, f->pc - f->back) ?: f->pc;
	}
}

/* Where every architecture's kernel is, and nobody else. */
static bool is_upper_half(uint64_t gva)
{
	return gva >> 63;
}

/* By the chain of frame pointers, as long as each leads to a call. */
static void look_in_user(const struct guest_reader *mem, const struct glimpse_at *at,
			 struct glimpse *g)
{
	const struct space space = {.mem = mem, .paging = *at->user};
	uint64_t fp = arch_user_address(at->user, at->registers.fp, false);
	uint64_t floor = arch_user_address(at->user, at->registers.sp, false);

	while (g->count < GLIMPSE_USER) {
		uint8_t code[ARCH_CALL_BYTES];
		uint64_t record[2], back;

		if (fp % 8 || fp < floor || fp - floor > USER_STRIDE_MAX || is_upper_half(fp) ||
		    space_read(&space, fp, record, sizeof(record)))
			return;
		back = arch_user_address(at->user, record[1], true);
		if (back < ARCH_CALL_BYTES || is_upper_half(back) ||
		    space_read(&space, back - ARCH_CALL_BYTES, code, sizeof(code)) ||
		    !arch_unwind_after_call(code))
			return;
		g->frame[g->count++] = back;
		floor = fp + sizeof(record);
		fp = arch_user_address(at->user, record[0], false);
	}
}

void glimpse_look(const struct glimpse_kernel *kernel, const struct guest_reader *mem,
		  const struct glimpse_at *at, struct glimpse *g)
{
	const struct sched_sink sink = {.number = task_number, .text = task_text, .arg = g};

	g->pid = 0;
	g->comm[0] = '\0';
	g->complete = false;
	g->frame[0] = at->registers.pc;
	g->count = 1;
	g->has_task = kernel && sched_task(kernel->sched, at->cpu, at->task_gva, &sink);
	if (at->in_kernel && kernel)
		look_in_kernel(kernel, at, g);
	else if (!at->in_kernel && at->user)
		look_in_user(mem, at, g);
}

/* ---- names ------------------------------------------------------------------------------- */

void glimpse_name(struct glimpse_kernel *kernel, uint64_t gva, char *buf, size_t len,
		  bool *ret_known)
{
	char *plus, *owner;

	*ret_known = code_is_known(kernel->code, gva);
	if (!*ret_known) {
		snprintf(buf, len, "0x%" PRIx64, gva);
		return;
	}
	code_format(kernel->code, gva, false, buf, len);
	plus = strstr(buf, "+0x");
	if (!plus)
		return;
	owner = strstr(plus, " [");
	if (owner)
		memmove(plus, owner, strlen(owner) + 1);
	else
		*plus = '\0';
}
