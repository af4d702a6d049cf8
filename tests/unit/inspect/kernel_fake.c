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

static void put(struct kernel_fake *f, uint64_t gva, uint64_t value, size_t bytes)
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
	const struct {
		uint64_t address;
		char type;
		const char *name;
	} all[] = {
		{percpu, absolute ? 'A' : 'D', "__per_cpu_start"},
		{percpu + FAKE_RQ_OFFSET, absolute ? 'A' : 'D', "runqueues"},
		{percpu + 0x1000, absolute ? 'A' : 'D', "__per_cpu_end"},
		{FAKE_IMAGE, 'T', "_stext"},
		{FAKE_IMAGE, 'T', "_text"},
		{FAKE_IMAGE + 0x100, 't', "schedule"},
		{FAKE_IMAGE + 0x180, 't', f->long_name},
		{FAKE_INIT_TASK, 'D', "init_task"},
		{FAKE_JIFFIES, 'D', "jiffies_64"},
		{FAKE_SCX_ROOT, 'D', "scx_root"},
		{FAKE_CPU_IDS, 'D', "nr_cpu_ids"},
		{FAKE_PERCPU, 'D', "__per_cpu_offset"},
		{FAKE_NUM_SYMS, 'r', "kallsyms_num_syms"},
		{btf, 'R', flags & FAKE_NO_BTF ? "no_start" : "__start_BTF"},
		{btf + f->btf_len, 'R', flags & FAKE_NO_BTF ? "no_stop" : "__stop_BTF"},
		{FAKE_IMAGE + 0x3f000, 'B', "_end"},
	};
	uint8_t *at = kernel_fake_at(f, FAKE_NAMES);
	uint64_t base = FAKE_IMAGE;
	unsigned first = 0;

	memset(f->long_name, 'x', FAKE_LONG_NAME);
	f->symbols = ARRAY_SIZE(all);
	if (!absolute)
		first = 3; /* by address: the image's template comes late */
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		/* Last of all comes _end. */
		unsigned n = first && i < ARRAY_SIZE(all) - 1
				     ? (i + first) % (unsigned)(ARRAY_SIZE(all) - 1)
				     : i;
		int64_t offset = (int64_t)(all[n].address - base);

		if (absolute)
			offset = all[n].type == 'A' ? (int64_t)all[n].address : -1 - offset;
		at = put_name(at, all[n].type, all[n].name);
		put(f, FAKE_OFFSETS + 4 * i, (uint64_t)offset, 4);
	}
	put(f, FAKE_NUM_SYMS, f->symbols, 4);
	put(f, FAKE_BASE, base, 8);
	build_tokens(f);
}

/* ---- types and data -------------------------------------------------------------------- */

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* struct list { struct list *next; };
 * struct task_struct { u64 flags; int pid; char comm[16] at 16; task_t *parent at 32;
 *                      union { u64 both; struct { u32 low, high; }; } at 40;
 *                      u32 a : 3, b : 5; struct list tasks at 56; };
 * struct rq { u32 nr_running; task_t *curr at 8; }; struct rq runqueues per CPU;
 * struct scx_sched { int pad; unsigned exit_kind; }; */
static void build_types(struct kernel_fake *f, bool write)
{
	struct btf *b = btf__new_empty();
	int u64, u32, i32, c8, comm, list, list_ptr, task, task_t, task_ptr, pair, both, rq, var;
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
	task = btf__add_struct(b, "task_struct", 64);
	must(task == 13);
	must(!btf__add_field(b, "flags", 12, 0, 0) && !btf__add_field(b, "pid", i32, 64, 0) &&
	     !btf__add_field(b, "comm", comm, 128, 0) &&
	     !btf__add_field(b, "parent", task_ptr, 256, 0) &&
	     !btf__add_field(b, NULL, both, 320, 0) && !btf__add_field(b, "a", u32, 384, 3) &&
	     !btf__add_field(b, "b", u32, 387, 5) && !btf__add_field(b, "tasks", list, 448, 0));
	rq = btf__add_struct(b, "rq", 16);
	must(!btf__add_field(b, "nr_running", u32, 0, 0) &&
	     !btf__add_field(b, "curr", task_ptr, 64, 0));
	must(btf__add_struct(b, "scx_sched", 8) > 0);
	must(!btf__add_field(b, "pad", i32, 0, 0) && !btf__add_field(b, "exit_kind", u32, 32, 0));
	var = btf__add_var(b, "runqueues", BTF_VAR_GLOBAL_ALLOCATED, rq);
	must(var > 0 && btf__add_datasec(b, ".data..percpu", 0x1000) > 0);
	must(!btf__add_datasec_var_info(b, var, FAKE_RQ_OFFSET, 16));
	raw = btf__raw_data(b, &len);
	must(raw && len < 0x7000);
	f->btf_len = len;
	if (write)
		memcpy(kernel_fake_at(f, FAKE_BTF), raw, len);
	btf__free(b);
}

static void build_data(struct kernel_fake *f, unsigned flags)
{
	uint64_t percpu = flags & FAKE_PERCPU_IN_IMAGE ? FAKE_RELATIVE : 0;

	put(f, FAKE_INIT_TASK + 8, 0, 4);
	memcpy(kernel_fake_at(f, FAKE_INIT_TASK + 16), "swapper/0", 10);
	put(f, FAKE_INIT_TASK + 32, FAKE_INIT_TASK, 8);
	put(f, FAKE_JIFFIES, 4294892945, 8);
	put(f, FAKE_SCX_ROOT, f->direct + FAKE_SCHED_GPA, 8);
	put(f, FAKE_CPU_IDS, 2, 4);
	memcpy(f->ram + FAKE_SCHED_GPA + 4, &(uint32_t){1025}, 4);
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		uint8_t *rq = f->ram + FAKE_PERCPU_GPA(cpu) + FAKE_RQ_OFFSET;

		put(f, FAKE_PERCPU + 8 * cpu, f->direct + FAKE_PERCPU_GPA(cpu) - percpu, 8);
		memcpy(rq, &(uint32_t){cpu + 5}, 4);
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
}
