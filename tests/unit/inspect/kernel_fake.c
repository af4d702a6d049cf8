/* Builds the tiny kernel. Layouts: see src/inspect and src/arch/x86_64/walk.c. */
#include "kernel_fake.h"

#include <assert.h>
#include <bpf/btf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PRESENT UINT64_C(0x63) /* present, writable, accessed, dirty */
#define LARGE	UINT64_C(0x80)

#define FAKE_ORCS 5u /* entries of the image's table */

static int ram_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	const struct kernel_fake *f = arg;

	if (gpa >= FAKE_RAM || len > FAKE_RAM - gpa)
		return -EFAULT;
	memcpy(dst, f->ram + gpa, len);
	return 0;
}

void *kernel_fake_at(struct kernel_fake *f, uint64_t gva)
{
	assert(gva >= FAKE_IMAGE && gva - FAKE_IMAGE < FAKE_IMAGE_PAGES * 4096u);
	return f->ram + FAKE_IMAGE_GPA + (gva - FAKE_IMAGE);
}

void kernel_fake_put(struct kernel_fake *f, uint64_t gva, uint64_t value, size_t bytes)
{
	memcpy(kernel_fake_at(f, gva), &value, bytes);
}

/* ---- page tables ----------------------------------------------------------------------- */

void kernel_fake_entry(struct kernel_fake *f, uint64_t table_gpa, unsigned index, uint64_t entry)
{
	memcpy(f->ram + table_gpa + 8 * (size_t)index, &entry, sizeof(entry));
}

static unsigned index_of(uint64_t gva, unsigned level)
{
	return (unsigned)(gva >> (12 + 9 * (level - 1))) & 511;
}

static void build_tables(struct kernel_fake *f, bool five)
{
	uint64_t top = FAKE_ROOT_GPA;

	f->direct = five ? FAKE_DIRECT_FIVE : FAKE_DIRECT;
	if (five) {
		/* Each half of the address space has its own table below the top. */
		kernel_fake_entry(f, top, index_of(FAKE_IMAGE, 5), 0x2000 | PRESENT);
		kernel_fake_entry(f, top, index_of(f->direct, 5), 0x3000 | PRESENT);
		kernel_fake_entry(f, 0x2000, index_of(FAKE_IMAGE, 4), 0x4000 | PRESENT);
		kernel_fake_entry(f, 0x3000, index_of(f->direct, 4), 0x7000 | PRESENT);
	} else {
		kernel_fake_entry(f, top, index_of(FAKE_IMAGE, 4), 0x4000 | PRESENT);
		kernel_fake_entry(f, top, index_of(f->direct, 4), 0x7000 | PRESENT);
	}
	kernel_fake_entry(f, 0x4000, index_of(FAKE_IMAGE, 3), 0x5000 | PRESENT);
	kernel_fake_entry(f, 0x5000, index_of(FAKE_IMAGE, 2), 0x6000 | PRESENT);
	for (unsigned i = 0; i < FAKE_IMAGE_PAGES; i++)
		kernel_fake_entry(f, 0x6000, index_of(FAKE_IMAGE, 1) + i,
				  (FAKE_IMAGE_GPA + 4096u * i) | PRESENT);
	kernel_fake_entry(f, 0x7000, index_of(f->direct, 3), 0x8000 | PRESENT);
	kernel_fake_entry(f, 0x8000, index_of(f->direct, 2), PRESENT | LARGE);
}

/* ---- VMCOREINFO ------------------------------------------------------------------------ */

static void build_info(struct kernel_fake *f, unsigned flags)
{
	struct {
		uint32_t namesz, descsz, type;
		char name[12];
	} note = {.namesz = 11, .name = "VMCOREINFO"};
	char *at = (char *)f->ram + FAKE_INFO + (flags & FAKE_NOTE ? sizeof(note) : 0);
	int len = snprintf(at, 3000,
			   "OSRELEASE=" FAKE_RELEASE "\nBUILD-ID=00ff\nPAGESIZE=4096\n"
			   "SYMBOL(swapper_pg_dir)=%" PRIx64 "\nSYMBOL(_stext)=%" PRIx64 "\n"
			   "SYMBOL(kallsyms_names)=%" PRIx64 "\nSYMBOL(kallsyms_num_syms)=%" PRIx64
			   "\n"
			   "SYMBOL(kallsyms_token_table)=%" PRIx64
			   "\nSYMBOL(kallsyms_token_index)=%" PRIx64
			   "\nSYMBOL(kallsyms_offsets)=%" PRIx64
			   "\nSYMBOL(kallsyms_relative_base)=%" PRIx64
			   "\nNUMBER(phys_base)=%" PRId64 "\nNUMBER(pgtable_l5_enabled)=%d\n"
			   "KERNELOFFSET=%" PRIx64 "\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824\n",
			   FAKE_IMAGE + 0x1000, FAKE_IMAGE, FAKE_NAMES, FAKE_NUM_SYMS, FAKE_TOKENS,
			   FAKE_INDEX, FAKE_OFFSETS, FAKE_BASE, FAKE_PHYS_BASE,
			   flags & FAKE_FIVE_LEVELS ? 1 : 0, FAKE_KASLR);

	assert(len > 0 && len < 3000);
	note.descsz = (uint32_t)len;
	if (flags & FAKE_NOTE)
		memcpy(f->ram + FAKE_INFO, &note, sizeof(note));
}

/* ---- kallsyms -------------------------------------------------------------------------- */

static const char *const token_texts[] = {"init_", "kallsyms_", "Dscx_", "__per_cpu_"};

/* Tokens 1, 2, … are the texts above; a printable character is its own; the rest are empty. */
static void build_tokens(struct kernel_fake *f)
{
	char *table = kernel_fake_at(f, FAKE_TOKENS);
	uint16_t *index = kernel_fake_at(f, FAKE_INDEX);
	size_t at = 0;

	for (unsigned i = 0; i < 256; i++) {
		index[i] = (uint16_t)at;
		if (i >= 1 && i <= ARRAY_SIZE(token_texts))
			at += (size_t)sprintf(table + at, "%s", token_texts[i - 1]);
		else if (i > 0x20 && i < 0x7f)
			table[at++] = (char)i;
		table[at++] = '\0';
	}
}

static uint8_t *put_name(uint8_t *at, char type, const char *name)
{
	uint8_t code[FAKE_LONG_NAME + 1];
	char whole[FAKE_LONG_NAME + 2];
	size_t len = 0;

	snprintf(whole, sizeof(whole), "%c%s", type, name);
	for (const char *c = whole; *c;) {
		size_t token = 0, best = 1;

		for (size_t i = 0; i < ARRAY_SIZE(token_texts); i++) {
			size_t n = strlen(token_texts[i]);

			if (!strncmp(c, token_texts[i], n) && n > best) {
				token = i + 1;
				best = n;
			}
		}
		code[len++] = token ? (uint8_t)token : (uint8_t)*c;
		c += best;
	}
	if (len < 0x80) {
		*at++ = (uint8_t)len;
	} else {
		*at++ = (uint8_t)(len | 0x80);
		*at++ = (uint8_t)(len >> 7);
	}
	memcpy(at, code, len);
	return at + len;
}

static void build_symbols(struct kernel_fake *f, unsigned flags)
{
	uint64_t percpu = flags & FAKE_PERCPU_IN_IMAGE ? FAKE_RELATIVE : 0;
	uint64_t btf = flags & FAKE_NO_BTF ? FAKE_BTF + 0x7000 : FAKE_BTF;
	bool absolute = !(flags & FAKE_PERCPU_IN_IMAGE);
	const char *scx = flags & FAKE_STATIC_SCX ? "scx_exit_kind"
			  : flags & FAKE_NO_SCX	  ? "no_root"
						  : "scx_root";
	const struct {
		uint64_t address;
		char type;
		const char *name;
	} all[] = {
		{percpu, absolute ? 'A' : 'D', "__per_cpu_start"},
		{percpu + FAKE_RQ_OFFSET, absolute ? 'A' : 'D', "runqueues"},
		{percpu + FAKE_CURRENT_OFFSET, absolute ? 'A' : 'D', "current_task"},
		{percpu + 0x1000, absolute ? 'A' : 'D', "__per_cpu_end"},
		{FAKE_IMAGE, 'T', "_stext"},
		{FAKE_IMAGE, 'T', "_text"},
		{FAKE_SCHEDULE, 't', "schedule"},
		{FAKE_IMAGE + 0x180, 't', f->long_name},
		{FAKE_DO_IDLE, 't', "do_idle"},
		{FAKE_STARTUP, 't', "cpu_startup_entry"},
		{FAKE_LOST, 't', "lost"},
		{FAKE_ETEXT, 'T', "_etext"},
		{FAKE_INIT_TASK, 'D', "init_task"},
		{FAKE_JIFFIES, 'D', "jiffies_64"},
		{FAKE_SCX_ROOT, 'D', scx},
		{FAKE_CPU_IDS, 'D', "nr_cpu_ids"},
		{FAKE_PERCPU, 'D', "__per_cpu_offset"},
		{FAKE_CLASS, 'D', "fair_sched_class"},
		{FAKE_CLASS + 0x10, 'D', "ext_sched_class"},
		{FAKE_STATE, 'd', "scx_enable_state_var"},
		{FAKE_MODULES, 'D', "modules"},
		{FAKE_BPF_LIST, 'd', "bpf_kallsyms"},
		{FAKE_NUM_SYMS, 'r', "kallsyms_num_syms"},
		{btf, 'R', flags & FAKE_NO_BTF ? "no_start" : "__start_BTF"},
		{btf + f->btf_len, 'R', flags & FAKE_NO_BTF ? "no_stop" : "__stop_BTF"},
		{FAKE_ORC_IP, 'R', "__start_orc_unwind_ip"},
		{FAKE_ORC_IP + 4 * FAKE_ORCS, 'R', "__stop_orc_unwind_ip"},
		{FAKE_ORC, 'R', "__start_orc_unwind"},
		{FAKE_IMAGE + 0x3f000, 'B', "_end"},
	};
	uint8_t *at = kernel_fake_at(f, FAKE_NAMES);
	uint64_t base = FAKE_IMAGE;
	unsigned first = 0;

	memset(f->long_name, 'x', FAKE_LONG_NAME);
	f->symbols = ARRAY_SIZE(all);
	if (!absolute)
		first = 4; /* by address: the image's template comes late */
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		/* Last of all comes _end. */
		unsigned n = first && i < ARRAY_SIZE(all) - 1
				     ? (i + first) % (unsigned)(ARRAY_SIZE(all) - 1)
				     : i;
		int64_t offset = (int64_t)(all[n].address - base);

		if (absolute)
			offset = all[n].type == 'A' ? (int64_t)all[n].address : -1 - offset;
		at = put_name(at, all[n].type, all[n].name);
		kernel_fake_put(f, FAKE_OFFSETS + 4 * i, (uint64_t)offset, 4);
	}
	kernel_fake_put(f, FAKE_NUM_SYMS, f->symbols, 4);
	kernel_fake_put(f, FAKE_BASE, base, 8);
	build_tokens(f);
}

/* ---- types and data -------------------------------------------------------------------- */

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* struct scx_sched { int pad; u32 exit_kind; struct scx_exit_info *exit_info;
 *                    struct { char name[16]; } ops at 16; void *event_stats_cpu at 32; };
 * struct scx_exit_info { u64 exit_code; char *reason, *msg; };
 * struct scx_event_stats { u64 SCX_EV_A, SCX_EV_B; }; and two enumerations */
static void build_scx_types(struct btf *b, int u64, int u32, int i32, int name, int ptr)
{
	int ops = btf__add_struct(b, "sched_ext_ops", 16), info, info_ptr;

	must(!btf__add_field(b, "name", name, 0, 0));
	info = btf__add_struct(b, "scx_exit_info", 24);
	must(!btf__add_field(b, "exit_code", u64, 0, 0) &&
	     !btf__add_field(b, "reason", ptr, 64, 0) && !btf__add_field(b, "msg", ptr, 128, 0));
	info_ptr = btf__add_ptr(b, info);
	must(btf__add_struct(b, "scx_sched", 40) > 0);
	must(!btf__add_field(b, "pad", i32, 0, 0) && !btf__add_field(b, "exit_kind", u32, 32, 0) &&
	     !btf__add_field(b, "exit_info", info_ptr, 64, 0) &&
	     !btf__add_field(b, "ops", ops, 128, 0) &&
	     !btf__add_field(b, "event_stats_cpu", ptr, 256, 0));
	must(btf__add_struct(b, "scx_event_stats", 16) > 0);
	must(!btf__add_field(b, "SCX_EV_A", u64, 0, 0) &&
	     !btf__add_field(b, "SCX_EV_B", u64, 64, 0));
	must(btf__add_enum(b, "scx_exit_kind", 4) > 0 &&
	     !btf__add_enum_value(b, "SCX_EXIT_NONE", 0) &&
	     !btf__add_enum_value(b, "SCX_EXIT_ERROR_BPF", 1025));
	must(btf__add_enum(b, "scx_enable_state", 4) > 0 &&
	     !btf__add_enum_value(b, "SCX_ENABLED", 1));
}

/* struct module { struct list list; char name[16]; struct { void *base; u32 size; } mem[5];
 *                 struct { u32 num_orcs; void *orc_unwind_ip, *orc_unwind; } arch;
 *                 struct mod_kallsyms *kallsyms; };
 * struct mod_kallsyms { void *symtab; u32 num_symtab; void *strtab; };
 * struct bpf_ksym { u64 start, end; char name[16]; struct list lnode; }; */
static void build_code_types(struct btf *b, int u64, int u32, int c8, int list, int ptr)
{
	int name = btf__add_array(b, u32, c8, 16), memory, memories, arch;

	memory = btf__add_struct(b, "module_memory", 16);
	must(!btf__add_field(b, "base", ptr, 0, 0) && !btf__add_field(b, "size", u32, 64, 0));
	memories = btf__add_array(b, u32, memory, 5);
	arch = btf__add_struct(b, "mod_arch_specific", 24);
	must(!btf__add_field(b, "num_orcs", u32, 0, 0) &&
	     !btf__add_field(b, "orc_unwind_ip", ptr, 64, 0) &&
	     !btf__add_field(b, "orc_unwind", ptr, 128, 0));
	must(btf__add_struct(b, "module", 136) > 0);
	must(!btf__add_field(b, "list", list, 0, 0) && !btf__add_field(b, "name", name, 64, 0) &&
	     !btf__add_field(b, "mem", memories, 192, 0) &&
	     !btf__add_field(b, "arch", arch, 832, 0) &&
	     !btf__add_field(b, "kallsyms", ptr, 1024, 0));
	must(btf__add_struct(b, "mod_kallsyms", 24) > 0);
	must(!btf__add_field(b, "symtab", ptr, 0, 0) &&
	     !btf__add_field(b, "num_symtab", u32, 64, 0) &&
	     !btf__add_field(b, "strtab", ptr, 128, 0));
	must(btf__add_struct(b, "bpf_ksym", 40) > 0);
	must(!btf__add_field(b, "start", u64, 0, 0) && !btf__add_field(b, "end", u64, 64, 0) &&
	     !btf__add_field(b, "name", name, 128, 0) && !btf__add_field(b, "lnode", list, 256, 0));
}

/* struct list { struct list *next; };
 * struct task_struct { u64 flags; int pid, tgid; char comm[16] at 16; task_t *parent at 32;
 *                      union { u64 both; struct { u32 low, high; }; } at 40;
 *                      u32 a : 3, b : 5; struct list tasks at 56; void *sched_class at 64; };
 * struct rq { u32 nr_running; task_t *curr at 8; u64 clock; struct { u32 nr_running, flags; } scx;
 * }; struct rq runqueues per CPU; struct scx_sched { int pad; unsigned exit_kind; … as in build_scx
 * }. */
static void build_types(struct kernel_fake *f, bool write)
{
	struct btf *b = btf__new_empty();
	int u64, u32, i32, c8, comm, list, list_ptr, task, task_t, task_ptr, pair, both, rq, var,
		scx;
	const void *raw;
	__u32 len;

	must(b != NULL);
	u64 = btf__add_int(b, "long unsigned int", 8, 0);
	u32 = btf__add_int(b, "unsigned int", 4, 0);
	i32 = btf__add_int(b, "int", 4, BTF_INT_SIGNED);
	c8 = btf__add_int(b, "char", 1, BTF_INT_CHAR);
	comm = btf__add_array(b, u32, c8, 16);
	list_ptr = btf__add_ptr(b, 7);
	list = btf__add_struct(b, "list", 8);
	must(list == 7);
	must(!btf__add_field(b, "next", list_ptr, 0, 0));
	pair = btf__add_struct(b, NULL, 8);
	must(!btf__add_field(b, "low", u32, 0, 0) && !btf__add_field(b, "high", u32, 32, 0));
	both = btf__add_union(b, NULL, 8);
	must(!btf__add_field(b, "both", u64, 0, 0) && !btf__add_field(b, NULL, pair, 0, 0));
	task_ptr = btf__add_ptr(b, 11);
	task_t = btf__add_typedef(b, "task_t", 13);
	must(task_t == 11);
	must(btf__add_const(b, u64) == 12);
	task = btf__add_struct(b, "task_struct", 72);
	must(task == 13);
	must(!btf__add_field(b, "flags", 12, 0, 0) && !btf__add_field(b, "pid", i32, 64, 0) &&
	     !btf__add_field(b, "tgid", i32, 96, 0) && !btf__add_field(b, "comm", comm, 128, 0) &&
	     !btf__add_field(b, "parent", task_ptr, 256, 0) &&
	     !btf__add_field(b, NULL, both, 320, 0) && !btf__add_field(b, "a", u32, 384, 3) &&
	     !btf__add_field(b, "b", u32, 387, 5) && !btf__add_field(b, "tasks", list, 448, 0) &&
	     !btf__add_field(b, "sched_class", list_ptr, 512, 0));
	scx = btf__add_struct(b, "scx_rq", 8);
	must(!btf__add_field(b, "nr_running", u32, 0, 0) &&
	     !btf__add_field(b, "flags", u32, 32, 0));
	rq = btf__add_struct(b, "rq", 32);
	must(!btf__add_field(b, "nr_running", u32, 0, 0) &&
	     !btf__add_field(b, "curr", task_ptr, 64, 0) &&
	     !btf__add_field(b, "clock", u64, 128, 0) && !btf__add_field(b, "scx", scx, 192, 0));
	build_scx_types(b, u64, u32, i32, comm, list_ptr);
	build_code_types(b, u64, u32, c8, list, list_ptr);
	var = btf__add_var(b, "runqueues", BTF_VAR_GLOBAL_ALLOCATED, rq);
	must(var > 0 && btf__add_datasec(b, ".data..percpu", 0x1000) > 0);
	must(!btf__add_datasec_var_info(b, var, FAKE_RQ_OFFSET, 32));
	raw = btf__raw_data(b, &len);
	must(raw && len < 0x7000);
	f->btf_len = len;
	if (write)
		memcpy(kernel_fake_at(f, FAKE_BTF), raw, len);
	btf__free(b);
}

/* An ORC entry, by its table's places: see src/arch/x86_64/unwind.c. */
static void put_orc(struct kernel_fake *f, uint64_t places, uint64_t entries, unsigned i,
		    uint64_t code, unsigned type, unsigned sp_reg, int sp_offset)
{
	uint8_t entry[6] = {(uint8_t)sp_offset, (uint8_t)(sp_offset >> 8), 0, 0, (uint8_t)sp_reg,
			    (uint8_t)type};

	kernel_fake_put(f, places + 4 * i, code - (places + 4 * i), 4);
	memcpy(kernel_fake_at(f, entries + 6 * i), entry, sizeof(entry));
}

enum { ORC_UNDEFINED, ORC_END, ORC_CALL, ORC_BY_SP = 5 };

/* schedule keeps 16 bytes and its way back, do_idle 8; cpu_startup_entry is the end; lost has no
 * entry. After the first 0x40 bytes of each stands a call. The module's two functions keep nothing;
 * its second is mod_work. A BPF program has rbp. */
static void build_code(struct kernel_fake *f)
{
	static const char names[] = "\0mod_init\0mod_work";
	uint64_t sym = FAKE_MODULE + 0x200, strings = FAKE_MODULE + 0x300;

	put_orc(f, FAKE_ORC_IP, FAKE_ORC, 0, FAKE_IMAGE, ORC_UNDEFINED, 0, 0);
	put_orc(f, FAKE_ORC_IP, FAKE_ORC, 1, FAKE_SCHEDULE, ORC_CALL, ORC_BY_SP, 24);
	put_orc(f, FAKE_ORC_IP, FAKE_ORC, 2, FAKE_DO_IDLE, ORC_CALL, ORC_BY_SP, 16);
	put_orc(f, FAKE_ORC_IP, FAKE_ORC, 3, FAKE_STARTUP, ORC_END, 0, 0);
	put_orc(f, FAKE_ORC_IP, FAKE_ORC, 4, FAKE_LOST, ORC_UNDEFINED, 0, 0);
	for (uint64_t at = FAKE_SCHEDULE; at <= FAKE_LOST; at += 0x80)
		kernel_fake_put(f, at + 0x40 - 5, 0xe8, 1);

	kernel_fake_put(f, FAKE_MODULES, FAKE_MODULE, 8);
	kernel_fake_put(f, FAKE_MODULE, FAKE_MODULES, 8);
	memcpy(kernel_fake_at(f, FAKE_MODULE + 8), "virtio_fake", 12);
	kernel_fake_put(f, FAKE_MODULE + 24, FAKE_MOD_TEXT, 8);
	kernel_fake_put(f, FAKE_MODULE + 32, 0x100, 4);
	kernel_fake_put(f, FAKE_MODULE + 104, 1, 4);
	kernel_fake_put(f, FAKE_MODULE + 112, FAKE_MODULE + 0x100, 8);
	kernel_fake_put(f, FAKE_MODULE + 120, FAKE_MODULE + 0x110, 8);
	kernel_fake_put(f, FAKE_MODULE + 128, FAKE_MODULE + 0x180, 8);
	put_orc(f, FAKE_MODULE + 0x100, FAKE_MODULE + 0x110, 0, FAKE_MOD_TEXT, ORC_CALL, ORC_BY_SP,
		8);
	kernel_fake_put(f, FAKE_MODULE + 0x180, sym, 8);
	kernel_fake_put(f, FAKE_MODULE + 0x188, 3, 4);
	kernel_fake_put(f, FAKE_MODULE + 0x190, strings, 8);
	memcpy(kernel_fake_at(f, strings), names, sizeof(names));
	for (unsigned i = 1; i < 3; i++) {
		kernel_fake_put(f, sym + 24 * i, i == 1 ? 1 : 10, 4);
		kernel_fake_put(f, sym + 24 * i + 6, 1, 2); /* a section */
		kernel_fake_put(f, sym + 24 * i + 8, FAKE_MOD_TEXT + (i == 1 ? 0 : 0x80), 8);
	}

	kernel_fake_put(f, FAKE_BPF_LIST, FAKE_KSYM + 32, 8);
	kernel_fake_put(f, FAKE_KSYM, FAKE_BPF_TEXT, 8);
	kernel_fake_put(f, FAKE_KSYM + 8, FAKE_BPF_TEXT + 0x100, 8);
	memcpy(kernel_fake_at(f, FAKE_KSYM + 16), "bpf_prog_1_x", 13);
	kernel_fake_put(f, FAKE_KSYM + 32, FAKE_BPF_LIST, 8);
}

/* An exit that is under way, of a scheduler "qmap". */
static void build_scx(struct kernel_fake *f, uint64_t percpu)
{
	uint8_t *sched = f->ram + FAKE_SCHED_GPA;

	kernel_fake_put(f, FAKE_STATE, 1, 4);
	memcpy(sched + 4, &(uint32_t){1025}, 4);
	memcpy(sched + 8, &(uint64_t){FAKE_INFO_SCX}, 8);
	memcpy(sched + 16, "qmap", 5);
	memcpy(sched + 32, &(uint64_t){percpu + FAKE_EVENTS_OFFSET}, 8);
	kernel_fake_put(f, FAKE_INFO_SCX, (uint64_t)-7, 8);
	kernel_fake_put(f, FAKE_INFO_SCX + 8, FAKE_INFO_SCX + 32, 8);
	kernel_fake_put(f, FAKE_INFO_SCX + 16, FAKE_INFO_SCX + 64, 8);
	memcpy(kernel_fake_at(f, FAKE_INFO_SCX + 32), "scx_bpf_error", 14);
	memcpy(kernel_fake_at(f, FAKE_INFO_SCX + 64), "crash at 300", 13);
}

static void build_data(struct kernel_fake *f, unsigned flags)
{
	uint64_t percpu = flags & FAKE_PERCPU_IN_IMAGE ? FAKE_RELATIVE : 0;

	kernel_fake_put(f, FAKE_INIT_TASK + 8, 0, 4);
	memcpy(kernel_fake_at(f, FAKE_INIT_TASK + 16), "swapper/0", 10);
	kernel_fake_put(f, FAKE_INIT_TASK + 12, 3, 4);
	kernel_fake_put(f, FAKE_INIT_TASK + 32, FAKE_INIT_TASK, 8);
	kernel_fake_put(f, FAKE_INIT_TASK + 64, FAKE_CLASS, 8);
	kernel_fake_put(f, FAKE_JIFFIES, 4294892945, 8);
	kernel_fake_put(f, FAKE_SCX_ROOT, f->direct + FAKE_SCHED_GPA, 8);
	kernel_fake_put(f, FAKE_CPU_IDS, 2, 4);
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		uint8_t *rq = f->ram + FAKE_PERCPU_GPA(cpu) + FAKE_RQ_OFFSET;

		kernel_fake_put(f, FAKE_PERCPU + 8 * cpu, f->direct + FAKE_PERCPU_GPA(cpu) - percpu,
				8);
		memcpy(rq, &(uint32_t){cpu + 5}, 4);
		memcpy(rq + 16, &(uint64_t){1000 + cpu}, 8);
		memcpy(rq + 24, &(uint32_t){2 + cpu}, 4);
		memcpy(rq + 28, &(uint32_t){0x21}, 4);
		memcpy(rq - FAKE_RQ_OFFSET + FAKE_CURRENT_OFFSET, &(uint64_t){FAKE_INIT_TASK}, 8);
		memcpy(rq - FAKE_RQ_OFFSET + FAKE_EVENTS_OFFSET, &(uint64_t){10 + cpu}, 8);
		if (cpu == 0) /* CPU 1 runs nothing: a null pointer */
			memcpy(rq + 8, &(uint64_t){FAKE_INIT_TASK}, 8);
	}
}

void kernel_fake_build(struct kernel_fake *f, unsigned flags)
{
	memset(f, 0, sizeof(*f));
	f->mem = (struct guest_reader){.read = ram_read, .arg = f};
	f->mem.layout.count = 1;
	f->mem.layout.range[0].size = FAKE_RAM;
	build_tables(f, flags & FAKE_FIVE_LEVELS);
	build_info(f, flags);
	build_types(f, !(flags & FAKE_NO_BTF));
	build_symbols(f, flags);
	build_data(f, flags);
	build_code(f);
	build_scx(f, flags & FAKE_PERCPU_IN_IMAGE ? FAKE_RELATIVE : 0);
}
