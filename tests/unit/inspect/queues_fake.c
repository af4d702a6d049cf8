/* Lays queues out over the tiny kernel. */
#include "queues_fake.h"

#include <bpf/btf.h>
#include <stdlib.h>

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Overlaps what is behind it in a run queue, where only its length is looked at. */
static int types_dispatch(struct btf *b, int u32, int u64, int ptr)
{
	int head, hash, buckets, dsq;

	head = btf__add_struct(b, "rhash_head", 8);
	must(!btf__add_field(b, "next", ptr, 0, 0));
	hash = btf__add_struct(b, "rhashtable", 8);
	must(!btf__add_field(b, "tbl", ptr, 0, 0));
	buckets = btf__add_array(b, u32, ptr, 0);
	must(btf__add_struct(b, "bucket_table", 64) > 0);
	must(!btf__add_field(b, "size", u32, 8 * TABLE_SIZE, 0) &&
	     !btf__add_field(b, "nest", u32, 8 * TABLE_NEST, 0) &&
	     !btf__add_field(b, "buckets", buckets, 8 * TABLE_BUCKETS, 0));
	must(btf__add_struct(b, "scx_sched", 0x50) > 0);
	must(!btf__add_field(b, "dsq_hash", hash, 8 * SCHED_HASH, 0) &&
	     !btf__add_field(b, "global_dsqs", ptr, 8 * SCHED_GLOBAL, 0));
	dsq = btf__add_struct(b, "scx_dispatch_q", 24);
	must(!btf__add_field(b, "nr", u32, 8 * DSQ_NR, 0) &&
	     !btf__add_field(b, "id", u64, 8 * DSQ_ID, 0) &&
	     !btf__add_field(b, "hash_node", head, 8 * DSQ_NODE, 0));
	return dsq;
}

/* As the names say; offsets are the header's. struct sched_domain { parent; u32 flags at 8; char
 * *name at 16; unsigned long span[] at 24; }; struct sd_flag_debug { u32 meta; char *name; }. */
static struct btf *types(void)
{
	struct btf *b = btf__new_empty();
	int u64, u32, i32, c8, comm, ptr, span, info, rt, dsq, scx;

	must(b != NULL);
	u64 = btf__add_int(b, "u64", 8, 0);
	u32 = btf__add_int(b, "u32", 4, 0);
	i32 = btf__add_int(b, "int", 4, BTF_INT_SIGNED);
	c8 = btf__add_int(b, "char", 1, BTF_INT_CHAR);
	comm = btf__add_array(b, u32, c8, 16);
	ptr = btf__add_ptr(b, 0);
	span = btf__add_array(b, u32, u64, 0);
	must(btf__add_struct(b, "task_struct", 72) > 0);
	must(!btf__add_field(b, "pid", i32, 64, 0) && !btf__add_field(b, "comm", comm, 128, 0));
	info = btf__add_struct(b, "sched_info", 8);
	must(!btf__add_field(b, "run_delay", u64, 0, 0));
	rt = btf__add_struct(b, "rt_rq", 8);
	must(!btf__add_field(b, "rt_nr_running", u32, 0, 0) &&
	     !btf__add_field(b, "rr_nr_running", u32, 32, 0));
	dsq = types_dispatch(b, u32, u64, ptr);
	scx = btf__add_struct(b, "scx_rq", 12);
	must(!btf__add_field(b, "local_dsq", dsq, 0, 0) &&
	     !btf__add_field(b, "nr_running", u32, 32, 0) &&
	     !btf__add_field(b, "flags", u32, 64, 0));
	must(btf__add_struct(b, "rq", QUEUE_SIZE) > 0);
	must(!btf__add_field(b, "nr_running", u32, 8 * QUEUE_RUNNING, 0) &&
	     !btf__add_field(b, "curr", ptr, 8 * QUEUE_CURR, 0) &&
	     !btf__add_field(b, "clock", u64, 8 * QUEUE_CLOCK, 0) &&
	     !btf__add_field(b, "nr_switches", u64, 8 * QUEUE_SWITCHES, 0) &&
	     !btf__add_field(b, "ttwu_count", u32, 8 * QUEUE_WAKEUPS, 0) &&
	     !btf__add_field(b, "ttwu_local", u32, 8 * QUEUE_LOCAL, 0) &&
	     !btf__add_field(b, "idle", ptr, 8 * QUEUE_IDLE, 0) &&
	     !btf__add_field(b, "sd", ptr, 8 * QUEUE_SD, 0) &&
	     !btf__add_field(b, "rq_sched_info", info, 8 * QUEUE_DELAY, 0) &&
	     !btf__add_field(b, "rt", rt, 8 * QUEUE_RT, 0) &&
	     !btf__add_field(b, "scx", scx, 8 * QUEUE_SCX_LOCAL, 0));
	must(btf__add_struct(b, "sched_domain", 24) > 0);
	must(!btf__add_field(b, "parent", ptr, 0, 0) && !btf__add_field(b, "flags", i32, 64, 0) &&
	     !btf__add_field(b, "name", ptr, 128, 0) && !btf__add_field(b, "span", span, 192, 0));
	must(btf__add_struct(b, "sd_flag_debug", 16) > 0);
	must(!btf__add_field(b, "meta_flags", u32, 0, 0) && !btf__add_field(b, "name", ptr, 64, 0));
	must(btf__add_enum(b, "scx_rq_flags", 4) > 0 &&
	     !btf__add_enum_value(b, "SCX_RQ_ONLINE", 1) &&
	     !btf__add_enum_value(b, "SCX_RQ_CAN_STOP_TICK", 2));
	return b;
}

static void lay_tasks(struct kernel_fake *f)
{
	kernel_fake_put(f, FAKE_WORKER + 8, 77, 4);
	memcpy(kernel_fake_at(f, FAKE_WORKER + 16), "worker", 7);
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		queues_fake_set(f, cpu, QUEUE_RUNNING, cpu ? 0 : 3, 4);
		queues_fake_set(f, cpu, QUEUE_CURR, cpu ? FAKE_INIT_TASK : FAKE_WORKER, 8);
		queues_fake_set(f, cpu, QUEUE_IDLE, FAKE_INIT_TASK, 8);
		queues_fake_set(f, cpu, QUEUE_SWITCHES, 500 + cpu, 8);
		queues_fake_set(f, cpu, QUEUE_WAKEUPS, 60, 4);
		queues_fake_set(f, cpu, QUEUE_LOCAL, 40, 4);
		queues_fake_set(f, cpu, QUEUE_DELAY, 123456789, 8);
		queues_fake_set(f, cpu, QUEUE_SCX_LOCAL, 4, 4);
		queues_fake_set(f, cpu, QUEUE_SCX_RUNNING, 5, 4);
		queues_fake_set(f, cpu, QUEUE_SCX_FLAGS, 1, 4);
		queues_fake_set(f, cpu, QUEUE_SD, FAKE_DOMAIN(0), 8);
	}
}

static void lay_domains(struct kernel_fake *f)
{
	static const char *const names[] = {"SD_BALANCE_NEWIDLE", "SD_NUMA"};

	for (unsigned n = 0; n < 2; n++) {
		kernel_fake_put(f, FAKE_DOMAIN(n), n ? 0 : FAKE_DOMAIN(1), 8);
		kernel_fake_put(f, FAKE_DOMAIN(n) + 8, n ? 3 : 5, 4);
		kernel_fake_put(f, FAKE_DOMAIN(n) + 16, FAKE_DOMAIN(n) + 0x30, 8);
		kernel_fake_put(f, FAKE_DOMAIN(n) + 24, n ? 3 : 1, 8);
		memcpy(kernel_fake_at(f, FAKE_DOMAIN(n) + 0x30), n ? "PKG" : "MC", n ? 4 : 3);
		kernel_fake_put(f, FAKE_FLAG_NAMES + 16 * n + 8, FAKE_FLAG_NAMES + 0x80 + 32 * n,
				8);
		memcpy(kernel_fake_at(f, FAKE_FLAG_NAMES + 0x80 + 32 * n), names[n],
		       strlen(names[n]) + 1);
	}
}

static void lay_dispatch(struct kernel_fake *f)
{
	static const unsigned ids[] = {0, 2, 7, 9, 11};

	for (unsigned n = 0; n < ARRAY_SIZE(ids); n++) {
		kernel_fake_put(f, FAKE_DSQ(n) + DSQ_NR, FAKE_TASKS(n), 4);
		kernel_fake_put(f, FAKE_DSQ(n) + DSQ_ID, ids[n], 8);
		kernel_fake_put(f, FAKE_DSQ(n) + DSQ_NODE, 1, 8); /* the end */
	}
	kernel_fake_put(f, FAKE_NODES, 4, 4);
	kernel_fake_put(f, FAKE_DSQ_GLOBAL, FAKE_DSQ_NODES, 8);
	kernel_fake_put(f, FAKE_DSQ_NODES, FAKE_DSQ(0), 8);
	kernel_fake_put(f, FAKE_DSQ_NODES + 8, 0, 8);
	kernel_fake_put(f, FAKE_DSQ_NODES + 16, FAKE_DSQ(1), 8);
	kernel_fake_put(f, FAKE_DSQ_HASH, FAKE_DSQ_TABLE, 8);
	kernel_fake_put(f, FAKE_DSQ_TABLE + TABLE_SIZE, 4, 4);
	kernel_fake_put(f, FAKE_DSQ_TABLE + TABLE_NEST, 0, 4);
	kernel_fake_put(f, FAKE_DSQ_TABLE + TABLE_BUCKETS, FAKE_DSQ(2) + DSQ_NODE, 8);
	kernel_fake_put(f, FAKE_DSQ(2) + DSQ_NODE, FAKE_DSQ(3) + DSQ_NODE, 8);
	kernel_fake_put(f, FAKE_DSQ_TABLE + TABLE_BUCKETS + 24, FAKE_DSQ(4) + DSQ_NODE + 1,
			8); /* locked */
}

struct inspect *queues_fake_open(struct kernel_fake *f)
{
	const struct kallsyms_extra extra[] = {
		{FAKE_FLAG_NAMES, "sd_flag_debug", 'R', false},
		{FAKE_SCHEDSTATS, "sched_schedstats", 'D', false},
		{FAKE_DYNTICKS, "tick_nohz_full_running", 'D', false},
		{FAKE_NODES, "nr_node_ids", 'D', false},
		{FAKE_DSQ_HASH, "dsq_hash", 'b', false},
		{FAKE_DSQ_GLOBAL, "global_dsqs", 'b', false},
	};
	struct btf *b = types();
	struct inspect *in = NULL;
	const void *raw;
	__u32 len;

	kernel_fake_build(f, 0);
	lay_tasks(f);
	lay_domains(f);
	lay_dispatch(f);
	kernel_fake_put(f, FAKE_SCHEDSTATS, 1, 4);
	kernel_fake_put(f, FAKE_DYNTICKS, 0, 1);
	must(inspect_new(&f->mem, FAKE_ROOT_GPA, &in, NULL) == 0);
	must(kallsyms_add(&in->symbols, extra, ARRAY_SIZE(extra)) == 0);
	types_free(in->types);
	in->types = NULL;
	raw = btf__raw_data(b, &len);
	must(raw && types_new(raw, len, &in->types, NULL) == 0);
	btf__free(b);
	return in;
}

void queues_fake_move(struct inspect *in, const char *name, uint64_t gva)
{
	for (unsigned i = 0; i < in->symbols.count; i++)
		if (!strcmp(in->symbols.names + in->symbols.entry[i].name, name))
			in->symbols.entry[i].address = gva;
}

void queues_fake_many(struct kernel_fake *f, struct inspect *in, unsigned cpus)
{
	uint64_t offset;

	memcpy(&offset, kernel_fake_at(f, FAKE_PERCPU + 8), sizeof(offset));
	queues_fake_move(in, "__per_cpu_offset", FAKE_MANY);
	for (unsigned cpu = 0; cpu < cpus && cpu < 2048; cpu++)
		kernel_fake_put(f, FAKE_MANY + 8 * (uint64_t)cpu, offset, 8);
	kernel_fake_put(f, FAKE_CPU_IDS, cpus, 4);
}

uint64_t queues_fake_gpa(unsigned cpu, unsigned offset)
{
	return FAKE_PERCPU_GPA(cpu) + FAKE_RQ_OFFSET + offset;
}

void queues_fake_set(struct kernel_fake *f, unsigned cpu, unsigned offset, uint64_t value,
		     size_t bytes)
{
	memcpy(f->ram + queues_fake_gpa(cpu, offset), &value, bytes);
}
