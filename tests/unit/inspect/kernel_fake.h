/* A tiny kernel in memory, as src/inspect sees one: page tables, VMCOREINFO, kallsyms, BTF, two
 * CPUs. For unit tests and the fuzz target, which then spoil it.
 *
 *   gpa      0x1000 VMCOREINFO · 0x2000 to 0x8fff page tables · 0x9000 a scx_sched, "by slab"
 *            0xa000, 0xb000 per-CPU areas · 0x10000 the image, 64 pages; its second is the root
 *   gva      FAKE_IMAGE: the image, by 4 KiB · FAKE_DIRECT: all RAM, by one 2 MiB page
 */
#ifndef STASIS_TESTS_KERNEL_FAKE_H
#define STASIS_TESTS_KERNEL_FAKE_H

#include "guest/reader.h"

#define FAKE_RAM	   0x50000u
#define FAKE_INFO	   0x1000u
#define FAKE_IMAGE_GPA	   0x10000u
#define FAKE_IMAGE_PAGES   64u
#define FAKE_ROOT_GPA	   (FAKE_IMAGE_GPA + 0x1000u)
#define FAKE_KERNEL_MAP	   UINT64_C(0xffffffff80000000)
#define FAKE_KASLR	   UINT64_C(0x27000000)
#define FAKE_IMAGE	   (UINT64_C(0xffffffff81000000) + FAKE_KASLR)
#define FAKE_PHYS_BASE	   ((int64_t)FAKE_IMAGE_GPA - (int64_t)(FAKE_IMAGE - FAKE_KERNEL_MAP))
#define FAKE_DIRECT	   UINT64_C(0xffff888000000000)
#define FAKE_DIRECT_FIVE   UINT64_C(0xff11000000000000)
#define FAKE_SCHED_GPA	   0x9000u
#define FAKE_PERCPU_GPA(c) (0xa000u + 0x1000u * (c))
#define FAKE_RQ_OFFSET	   0x40u /* of runqueues in a per-CPU area */
#define FAKE_RELEASE	   "6.12.0-fake"

/* Places in the image. */
#define FAKE_INIT_TASK (FAKE_IMAGE + 0x2000)
#define FAKE_JIFFIES   (FAKE_IMAGE + 0x2100)
#define FAKE_SCX_ROOT  (FAKE_IMAGE + 0x2108)
#define FAKE_CPU_IDS   (FAKE_IMAGE + 0x2110)
#define FAKE_PERCPU    (FAKE_IMAGE + 0x2200) /* __per_cpu_offset */
#define FAKE_NUM_SYMS  (FAKE_IMAGE + 0x3000)
#define FAKE_BASE      (FAKE_IMAGE + 0x3008)
#define FAKE_TOKENS    (FAKE_IMAGE + 0x3100)
#define FAKE_INDEX     (FAKE_IMAGE + 0x3800)
#define FAKE_OFFSETS   (FAKE_IMAGE + 0x3a00)
#define FAKE_NAMES     (FAKE_IMAGE + 0x3f80) /* over a page's end */
#define FAKE_BTF       (FAKE_IMAGE + 0x8000)
#define FAKE_RELATIVE  (FAKE_IMAGE + 0x20000) /* per-CPU template, where that isn't at 0 */
#define FAKE_LONG_NAME 200

/* Code, and what unwinds it: see build_code. */
#define FAKE_SCHEDULE	    (FAKE_IMAGE + 0x100)
#define FAKE_DO_IDLE	    (FAKE_IMAGE + 0x200)
#define FAKE_STARTUP	    (FAKE_IMAGE + 0x280) /* where stacks end */
#define FAKE_LOST	    (FAKE_IMAGE + 0x300) /* the tables know nothing of it */
#define FAKE_ETEXT	    (FAKE_IMAGE + 0x1000)
#define FAKE_CLASS	    (FAKE_IMAGE + 0x2300) /* fair_sched_class; ext_sched_class after it */
#define FAKE_STATE	    (FAKE_IMAGE + 0x2340) /* scx_enable_state_var */
#define FAKE_INFO_SCX	    (FAKE_IMAGE + 0x2350) /* a scx_exit_info, and its texts */
#define FAKE_MODULES	    (FAKE_IMAGE + 0x2400) /* heads of lists */
#define FAKE_BPF_LIST	    (FAKE_IMAGE + 0x2410)
#define FAKE_ORC_IP	    (FAKE_IMAGE + 0x10000)
#define FAKE_ORC	    (FAKE_IMAGE + 0x10100)
#define FAKE_MODULE	    (FAKE_IMAGE + 0x11000) /* a struct module, its tables */
#define FAKE_MOD_TEXT	    (FAKE_IMAGE + 0x12000) /* 0x100 bytes, two functions */
#define FAKE_KSYM	    (FAKE_IMAGE + 0x12800) /* a bpf_ksym */
#define FAKE_BPF_TEXT	    (FAKE_IMAGE + 0x13000) /* 0x100 bytes */
#define FAKE_STACK	    (FAKE_IMAGE + 0x14000) /* 16 KiB */
#define FAKE_CURRENT_OFFSET 0x80u		   /* of current_task in a per-CPU area */
#define FAKE_EVENTS_OFFSET  0x100u		   /* of a scx_event_stats */

enum {
	FAKE_FIVE_LEVELS = 1,
	FAKE_PERCPU_IN_IMAGE = 2, /* as of Linux 6.15; else absolute, from 0 */
	FAKE_NO_BTF = 4,
	FAKE_NOTE = 8,	      /* VMCOREINFO as an ELF note, not as a page */
	FAKE_STATIC_SCX = 16, /* scx_exit_kind in scx_root's place, as until Linux 6.15 */
	FAKE_NO_SCX = 32,     /* neither */
};

struct kernel_fake {
	uint8_t ram[FAKE_RAM];
	struct guest_reader mem; /* over ram */
	uint64_t direct;
	unsigned symbols;
	size_t btf_len;
	char long_name[FAKE_LONG_NAME + 1];
};

/* Builds it; f may hold anything before. */
void kernel_fake_build(struct kernel_fake *f, unsigned flags);
/* The bytes of the image at gva. */
void *kernel_fake_at(struct kernel_fake *f, uint64_t gva);
/* Writes value there, little-endian; at most 8 bytes. */
void kernel_fake_put(struct kernel_fake *f, uint64_t gva, uint64_t value, size_t bytes);
/* Writes an entry of a page table; gpa and index within RAM. */
void kernel_fake_entry(struct kernel_fake *f, uint64_t table_gpa, unsigned index, uint64_t entry);

#endif
