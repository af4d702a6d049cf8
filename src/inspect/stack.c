/* Unwinds: the architecture says how to go on; here is when to stop, and what to do where there is
 * no way on. Any thread, one at a time. */
#include "inspect/stack.h"

#include <stdlib.h>

#include "base/util.h"

#define STACK_BYTES	KIB(16) /* of one; a multiple of every kernel's alignment of them */
#define STRIDE_MAX	(2 * STACK_BYTES) /* a frame is smaller */
#define STACKS_MAX	8		  /* task, soft interrupt, interrupt, NMI, exceptions */
#define GUESS_WORDS_MAX 4096		  /* looked at in one walk */

struct walk {
	struct code *code;
	bool prepared; /* code_prepare was called for it */
	const struct space *space;
	struct arch_unwind_kernel kernel;
	struct arch_unwind u;
	unsigned stacks;     /* moves from stack to stack */
	unsigned words_left; /* that may still be guessed at */
};

/* ---- what the unwinder asks -------------------------------------------------------------- */

static int kernel_read(const void *arg, uint64_t gva, void *dst, size_t len)
{
	const struct walk *w = arg;

	return w->prepared ? code_read(w->code, gva, dst, len)
			   : space_read(w->space, gva, dst, len);
}

static uint64_t kernel_function(const void *arg, uint64_t gva)
{
	const struct walk *w = arg;

	return code_function(w->code, gva);
}

static bool kernel_table(const void *arg, uint64_t gva, struct arch_unwind_table *ret_table)
{
	const struct walk *w = arg;

	return code_table(w->code, gva, ret_table);
}

/* "6.12.3-x" is 0x060c. */
static unsigned release_of(const struct inspect *in)
{
	unsigned long major, minor;
	char *end;

	major = strtoul(in->release, &end, 10);
	if (end == in->release || *end != '.')
		return 0;
	minor = strtoul(end + 1, &end, 10);
	return major > 0xff || minor > 0xff ? 0 : (unsigned)(major << 8 | minor);
}

/* ---- guessing ---------------------------------------------------------------------------- */

static bool looks_like_return(const struct walk *w, uint64_t word)
{
	uint8_t code[ARCH_CALL_BYTES];

	return word > ARCH_CALL_BYTES && code_is_known(w->code, word - 1) &&
	       !space_read(w->space, word - ARCH_CALL_BYTES, code, sizeof(code)) &&
	       arch_unwind_after_call(code);
}

/* The next word that looks like a return address, up to the end of the stack. */
static bool guess(struct walk *w)
{
	uint64_t at = ALIGN_UP(w->u.sp, 8), end = ALIGN_DOWN(w->u.sp, STACK_BYTES) + STACK_BYTES;

	for (; at >= 8 && at < end && w->words_left; at += 8) {
		uint64_t word;

		w->words_left--;
		if (space_read_uint(w->space, at, 8, &word))
			return false;
		if (!looks_like_return(w, word))
			continue;
		w->u.pc = word;
		w->u.sp = at + 8;
		w->u.exact = false;
		w->u.extra_known = false;
		return true;
	}
	return false;
}

/* ---- the walk ---------------------------------------------------------------------------- */

/* A stack only grows, but for a few moves to another one. */
static bool grows(struct walk *w, uint64_t before)
{
	if (w->u.sp > before && w->u.sp - before <= STRIDE_MAX)
		return true;
	return ++w->stacks <= STACKS_MAX;
}

static void push(struct stack *s, const struct arch_unwind *u, enum arch_unwind_by by)
{
	s->frame[s->count++] = (struct stack_frame){.pc = u->pc, .by = by, .back = !u->exact};
}

static void walk_down(struct walk w, const struct inspect *in, unsigned max,
		      struct stack *ret_stack)
{
	w.space = &in->space;
	w.kernel = (struct arch_unwind_kernel){
		.read = kernel_read,
		.function = kernel_function,
		.table = kernel_table,
		.arg = &w,
		.release = release_of(in),
		.va_bits = arch_paging_va_bits(&in->space.paging),
	};
	ret_stack->count = 0;
	ret_stack->complete = false;
	push(ret_stack, &w.u, ARCH_BY_REGISTERS);
	while (ret_stack->count < max) {
		struct arch_unwind before = w.u;
		enum arch_unwind_by by;
		int r = arch_unwind_next(&w.u, &w.kernel, &by);

		if (r == 0) {
			ret_stack->complete = true;
			break;
		}
		/* A return by register moves no stack. */
		if (r > 0 && by != ARCH_BY_LINK_REGISTER && !grows(&w, before.sp)) {
			w.u = before;
			r = -1;
		}
		if (r < 0) {
			if (!w.words_left || !guess(&w))
				break;
			by = ARCH_BY_GUESS;
		}
		push(ret_stack, &w.u, by);
	}
}

void stack_walk(struct code *code, const struct inspect *in, const struct arch_unwind *at,
		struct stack *ret_stack)
{
	walk_down((struct walk){.code = code, .u = *at, .words_left = GUESS_WORDS_MAX}, in,
		  STACK_FRAMES_MAX, ret_stack);
}

void stack_walk_briefly(const struct code *code, const struct inspect *in,
			const struct arch_unwind *at, unsigned max, struct stack *ret_stack)
{
	/* Prepared, code is only read. */
	struct walk w = {.code = (struct code *)(uintptr_t)code, .prepared = true, .u = *at};

	walk_down(w, in, MIN(max, STACK_FRAMES_MAX), ret_stack);
}

const char *stack_by_name(enum arch_unwind_by by)
{
	static const char *const names[] = {
		[ARCH_BY_REGISTERS] = "registers",
		[ARCH_BY_ORC] = "orc",
		[ARCH_BY_CALL] = "call",
		[ARCH_BY_FRAME_POINTER] = "frame pointer",
		[ARCH_BY_FRAME_RECORD] = "frame record",
		[ARCH_BY_LINK_REGISTER] = "link register",
		[ARCH_BY_GUESS] = "guess",
	};

	return names[by];
}
