/* An ELF core of a frozen guest: all of its RAM, its vCPUs' registers, and what its kernel says of
 * itself, for crash, drgn and gdb. Control thread; the guest stays frozen until done().
 *
 *   0        Elf64_Ehdr
 *   64       Elf64_Phdr: PT_NOTE, PT_LOAD of the kernel's text where known, PT_LOAD per region
 *   …        notes: NT_PRSTATUS "CORE" of each vCPU that started, "QEMU" of each, "VMCOREINFO"
 *   aligned  the regions one after another; pages that hold nothing are holes of the file
 *
 * The layout is the one that kdump's /proc/vmcore has (fs/proc/vmcore.c), which all of them know.
 * Everything but the first page is written before it: what has its magic is whole. */
#ifndef STASIS_FREEZE_VMCORE_H
#define STASIS_FREEZE_VMCORE_H

#include "arch/arch.h"
#include "loop/loop.h"

struct memory_table;
struct layers_reader; /* freeze/snapshot_layers.h */

/* What is known of the guest's kernel; zeroed where nothing is. */
struct vmcore_kernel {
	const char *info; /* VMCOREINFO's text, info_len bytes; NULL: none */
	size_t info_len;
	bool has_direct; /* RAM at gpa is mapped at direct + gpa */
	uint64_t direct;
	uint64_t text_gva, text_gpa, text_len; /* the kernel's image; text_len 0: not known */
};

/* ---- vmcore_head.c: what stands before the memory. Pure ------------------------------------- */

struct vmcore_head {
	uint8_t *data; /* owned; aligned for direct writes, zeros up to len */
	size_t len;    /* where the memory begins: a multiple of VMCORE_ALIGN */
	uint64_t region_at[GUEST_MAX_REGIONS]; /* of the file */
	uint64_t size;			       /* of the whole file */
};
#define VMCORE_ALIGN KIB(64)

/* cpu: their states; NULL for one whose registers are not known. -ENOMEM. */
int vmcore_head_make(const struct guest_memory *mem, const struct arch_vcpu_state *const *cpu,
		     unsigned cpus, const struct vmcore_kernel *kernel,
		     struct vmcore_head *ret_head) MUST_CHECK;
/* Without anything before the memory. */
void vmcore_head_raw(const struct guest_memory *mem, struct vmcore_head *ret_head);
void vmcore_head_done(struct vmcore_head *head); /* accepts a zeroed one */

/* How long the core in fd is, which has to be whole. -ENODATA: it is none. */
int vmcore_length(int fd, uint64_t *ret_len) MUST_CHECK;

/* ---- vmcore.c: the file --------------------------------------------------------------------- */

struct vmcore; /* opaque: a file that is being written */

struct vmcore_config {
	struct loop *loop;
	const struct guest_memory *mem;		  /* nobody else writes to it until done() */
	const struct arch_vcpu_state *const *cpu; /* needed during vmcore_start only */
	unsigned cpus;
	const struct vmcore_kernel *kernel; /* … as is this */
	/* RAM alone, where offset n of the file is guest physical address n: cpu and kernel are not
	 * looked at. */
	bool raw;
	/* … and with it, for snapshots (freeze/snapshot_table.h): */
	struct memory_table *table; /* gets what is written; outlives done(). NULL: not asked */
	bool lz4;		    /* with table: frames, one behind another, and no holes */
	struct layers_reader *base; /* with table: pages that are as there are left out, and those
				     * that are no mapping's own not even looked at; until done() */
	const char *path;	    /* as beside_open has it (base/beside.h) … */
	/* Runs once, never inside vmcore_start or vmcore_cancel: err NULL, and the file is there;
	 * else it isn't, and -ECANCELED is after vmcore_cancel. It may free. */
	void (*done)(struct vmcore *v, const struct error *err, void *arg);
	void *arg;
};

/* Begins. On failure there is no file, and done() does not run. */
int vmcore_start(const struct vmcore_config *config, struct vmcore **ret_v,
		 struct error *err) MUST_CHECK;
/* An early end. */
void vmcore_cancel(struct vmcore *v);
/* Cancels and turns the loop until done() has run. False if the kernel keeps a write for limit_ns:
 * guest memory has to stay then. */
bool vmcore_cancel_wait(struct vmcore *v, uint64_t limit_ns) MUST_CHECK;
/* How much of the guest's memory has been gone through. */
void vmcore_progress(const struct vmcore *v, uint64_t *ret_done, uint64_t *ret_total);
/* How much of it was written: the rest holds nothing. */
uint64_t vmcore_written(const struct vmcore *v);
/* After done(), or inside it. Accepts NULL. */
void vmcore_free(struct vmcore *v);

#endif
