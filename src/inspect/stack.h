/* A guest kernel's stack as a list of addresses. Any thread, one at a time; the guest had better
 * stand still. Everything on it is hostile: bounded in frames, reads and turns. */
#ifndef STASIS_INSPECT_STACK_H
#define STASIS_INSPECT_STACK_H

#include "inspect/code.h"

#define STACK_FRAMES_MAX 256

struct stack_frame {
	uint64_t pc;
	enum arch_unwind_by by;
	bool back; /* an address to return to; false: of an instruction that would be next */
};

struct stack {
	struct stack_frame frame[STACK_FRAMES_MAX]; /* the innermost first */
	unsigned count;
	bool complete; /* down to where the kernel was entered, or its thread began */
};

/* Unwinds from the registers at. Always gives a stack, of the first frame at least. */
void stack_walk(struct code *code, const struct inspect *in, const struct arch_unwind *at,
		struct stack *ret_stack);
/* The same in passing: at most max frames, nothing guessed at. Of code that code_prepare was called
 * for: many threads at once, while the guest runs. */
void stack_walk_briefly(const struct code *code, const struct inspect *in,
			const struct arch_unwind *at, unsigned max, struct stack *ret_stack);
/* "orc", "frame pointer", …: as a dump says it. */
const char *stack_by_name(enum arch_unwind_by by);

#endif
