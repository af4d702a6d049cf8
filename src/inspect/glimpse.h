/* A glimpse of a CPU while its guest runs: its task and its stack. On any number of threads at
 * once. Bounded in frames and reads; all of it is the guest's word. */
#ifndef STASIS_INSPECT_GLIMPSE_H
#define STASIS_INSPECT_GLIMPSE_H

#include "inspect/inspect.h"
#include "inspect/lacks.h"

#define GLIMPSE_FRAMES 48u
#define GLIMPSE_USER   32u /* of a user stack */
#define GLIMPSE_COMM   16u
/* Words of 8 bytes that one look reads of a guest's memory, page tables among them, at most. A
 * frame's: 25 steps in a module's unwind table, of 1 word each and 5 of tables, twice where it lies
 * across pages; its entry; an exception's registers or a few words. The task's are less. */
#define GLIMPSE_WORDS_MAX (GLIMPSE_FRAMES * 400u)

struct glimpse_kernel; /* what is known of a kernel; from its opening on only read */

/* in outlives it. What was loaded then has frames; later modules and programs are for the next
 * opening. Milliseconds for a usual kernel; for one that lies, as long as the bounds in
 * code.c take: lists of 16,384, 2^20 symbols that are sorted, 2^21 entries that are copied.
 * -ENOMEM. */
int glimpse_open(const struct inspect *in, struct glimpse_kernel **ret_kernel) MUST_CHECK;
void glimpse_close(struct glimpse_kernel *kernel); /* accepts NULL */
/* Of what tasks, stacks and names are read by, what the kernel lacks; without BTF that is told by
 * inspect's types alone. Its. */
const struct lacks *glimpse_lacks(const struct glimpse_kernel *kernel);

/* Where a CPU is. */
struct glimpse_at {
	unsigned cpu; /* the guest's number */
	bool in_kernel;
	struct arch_unwind registers;
	uint64_t task_gva;		/* where a register says, or 0 */
	const struct arch_paging *user; /* user addresses' tables, or NULL */
};

struct glimpse {
	bool has_task;
	int32_t pid;
	char comm[GLIMPSE_COMM]; /* NUL-terminated */
	/* Innermost first. In the kernel, where functions begin, where they are known; else, and in
	 * user space, addresses. A caller's in user space lies behind a call that is there. */
	uint64_t frame[GLIMPSE_FRAMES];
	unsigned count; /* at least 1 */
	bool complete;	/* in the kernel: down to its end */
};

/* kernel: NULL where none is known: the address alone, and a user stack. */
void glimpse_look(const struct glimpse_kernel *kernel, const struct guest_reader *mem,
		  const struct glimpse_at *at, struct glimpse *ret_glimpse);
/* Whether a module or a BPF program has come since the opening: its code may lie where that of
 * another was. Two reads. */
bool glimpse_is_stale(const struct glimpse_kernel *kernel);
/* A frame of the kernel's in words, without an offset: "schedule", "mod_work [virtio_fake]",
 * "0xffff…". Not with others at once. *ret_known: it is code that is known. */
void glimpse_name(struct glimpse_kernel *kernel, uint64_t gva, char *buf, size_t len,
		  bool *ret_known);

#endif
