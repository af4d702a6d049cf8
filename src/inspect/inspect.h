/* A guest's Linux kernel from outside: its symbols, types and memory, without symbol files.
 * Any thread, one at a time. The guest may be frozen or running; the tables are copied once, memory
 * is read as it is at that moment. Everything comes from the guest: nothing may crash or hang. */
#ifndef STASIS_INSPECT_INSPECT_H
#define STASIS_INSPECT_INSPECT_H

#include "inspect/kallsyms.h"
#include "inspect/types.h"

struct inspect {
	struct guest_reader mem;
	struct vmcoreinfo info;
	struct space space;
	char release[65]; /* as uname -r */
	uint64_t kaslr_offset;
	uint64_t phys_base; /* two's complement */
	struct kallsyms symbols;
	struct types *types;	 /* NULL: the kernel has no BTF */
	struct error types_lack; /* … and why */
};

/* Finds the kernel and reads its tables. root_gpa: the page-table root of any vCPU in kernel mode
 * (x86: CR3, flags and all), which tells a stale VMCOREINFO from the running kernel's; 0: not
 * known. mem is copied; what it points to outlives the object. -ENODATA: no Linux kernel that says
 * where it and its symbols are (not booted so far, before 6.0); -EBADMSG: one whose tables make no
 * sense. Lacking BTF is no failure: see types_lack. */
int inspect_new(const struct guest_reader *mem, uint64_t root_gpa, struct inspect **ret_in,
		struct error *err) MUST_CHECK;
/* The same, in parts: looks at INSPECT_SEARCH_MAX of what is there (mem->next), and at 64 places
 * that look like a kernel's, from *from on; 0 to begin with. On -ENODATA *from is where the next
 * should go on; 0: all was looked at. */
#define INSPECT_SEARCH_MAX GIB(8) /* well below a second */
int inspect_search(const struct guest_reader *mem, uint64_t root_gpa, uint64_t *from,
		   struct inspect **ret_in, struct error *err) MUST_CHECK;
void inspect_free(struct inspect *in); /* accepts NULL */

/* A symbol's address. -ENOENT, with the nearest name as the hint. */
int inspect_symbol(const struct inspect *in, const char *name, uint64_t *ret_gva,
		   struct error *err) MUST_CHECK;
/* "symbol+0x12/0x34", or "0xffff…" for what no symbol covers. Cut at len. */
void inspect_format(const struct inspect *in, uint64_t gva, char *buf, size_t len);
/* A per-CPU variable's address on one CPU. gva: the variable's symbol. -ERANGE: no such CPU. */
int inspect_percpu(const struct inspect *in, uint64_t gva, unsigned cpu,
		   uint64_t *ret_gva) MUST_CHECK;
/* CPU numbers are below this (nr_cpu_ids), at most 8192; 0 where the kernel doesn't say. */
unsigned inspect_cpus(const struct inspect *in);

/* Where an expression leads, now. */
#define INSPECT_MAX_POINTERS 8
struct inspect_place {
	uint64_t gva;
	struct types_value value; /* offset: unused. Size 0: the type is not known */
	/* The pointers that were read on the way, first to last: while they stay, so does gva. */
	uint64_t pointer_gva[INSPECT_MAX_POINTERS];
	uint64_t pointer[INSPECT_MAX_POINTERS];
	unsigned pointers;
};

/* SYMBOL[[N]][.FIELD[[N]]|->FIELD[[N]]]…: "jiffies_64", "scx_root->exit_kind",
 * "init_task.comm". cpu: for per-CPU symbols. The symbol's type is its variable's in BTF, else that
 * of a few that Linux always has, else the only struct that has the first field.
 * Usage error: it is written wrong, or names what isn't there (the hint has the nearest name).
 * -EFAULT: a pointer on the way leads nowhere now (NULL, unmapped): not yet, ask again;
 * ret_place->pointers then has those that were read, up to that one. */
int inspect_place(const struct inspect *in, const char *expr, unsigned cpu,
		  struct inspect_place *ret_place, struct error *err) MUST_CHECK;
/* "task_struct.comm", "rq.cfs.h_nr_running": a member's place in its struct. No pointers. */
int inspect_member(const struct inspect *in, const char *path, struct types_value *ret_v,
		   struct error *err) MUST_CHECK;

#endif
