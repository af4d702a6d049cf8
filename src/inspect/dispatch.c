/* Finds and reads dispatch queues: the global ones in an array of pointers, the others in a hash
 * table (include/linux/rhashtable.h) that may change under the reader, or lie. */
#include "inspect/dispatch.h"

#include "base/util.h"

#define OFFSET_MAX  MIB(1)
#define NODES_MAX   64u
#define BUCKETS_MAX 4096u
#define CHUNK	    64u /* buckets that are read at once */
#define LINKS_MAX   512u
#define NULLS	    UINT64_C(1) /* in a link: the end; in a bucket: it is locked */

/* ---- finding ----------------------------------------------------------------------------- */

/* size 0: of any. */
static bool find(const struct inspect *in, const char *path, unsigned size, uint32_t *ret_offset)
{
	struct types_value v;

	if (inspect_member(in, path, &v, NULL) || v.bit_size || v.offset > OFFSET_MAX ||
	    (size && v.size != size))
		return false;
	*ret_offset = (uint32_t)v.offset;
	return true;
}

/* Since 6.16 a scheduler has them; before, there was but one. */
static bool find_roots(struct dispatch *d)
{
	const struct kallsyms *symbols = &d->in->symbols;
	uint32_t hash, global;

	d->hash = kallsyms_address_or_0(symbols, "dsq_hash");
	d->global = kallsyms_address_or_0(symbols, "global_dsqs");
	if (d->hash && d->global)
		return true;
	d->root = kallsyms_address_or_0(symbols, "scx_root");
	if (!d->root || !find(d->in, "scx_sched.dsq_hash", 0, &hash) ||
	    !find(d->in, "scx_sched.global_dsqs", 8, &global))
		return false;
	d->hash = hash;
	d->global = global;
	return true;
}

void dispatch_find(const struct inspect *in, struct lacks *lacks, struct dispatch *ret_d)
{
	struct dispatch d = {.in = in, .nodes = 1};
	uint64_t gva, nodes;

	*ret_d = (struct dispatch){0};
	if (!in->types || !kallsyms_address_or_0(&in->symbols, "ext_sched_class"))
		return;
	if (!find_roots(&d) || !find(in, "scx_dispatch_q.id", 8, &d.id) ||
	    !find(in, "scx_dispatch_q.nr", 4, &d.nr) ||
	    !find(in, "scx_dispatch_q.hash_node", 8, &d.node) ||
	    !find(in, "rhashtable.tbl", 8, &d.table) ||
	    !find(in, "bucket_table.size", 4, &d.size) ||
	    !find(in, "bucket_table.nest", 4, &d.nested) ||
	    !find(in, "bucket_table.buckets", 0, &d.buckets)) {
		lacks_add(lacks, "scx_dispatch_q");
		return;
	}
	/* A variable only where there may be several. */
	gva = kallsyms_address_or_0(&in->symbols, "nr_node_ids");
	if (gva && !space_read_uint(&in->space, gva, 4, &nodes))
		d.nodes = (uint32_t)MIN(nodes, (uint64_t)NODES_MAX);
	*ret_d = d;
}

/* ---- looking ----------------------------------------------------------------------------- */

struct look {
	const struct dispatch *d;
	struct dispatch_queue *queue;
	unsigned count, max;
	bool cut;
};

static uint64_t load(const struct dispatch *d, uint64_t gva, unsigned bytes)
{
	return space_uint_or_0(&d->in->space, gva, bytes);
}

static void take(struct look *l, const struct dispatch_queue *q)
{
	if (l->count < l->max)
		l->queue[l->count++] = *q;
	else
		l->cut = true;
}

static void look_global(struct look *l, uint64_t base)
{
	uint64_t array = load(l->d, base + l->d->global, 8), queue;

	for (uint32_t node = 0; array && node < l->d->nodes; node++) {
		queue = load(l->d, array + 8 * (uint64_t)node, 8);
		if (queue)
			take(l,
			     &(struct dispatch_queue){.id = node,
						      .tasks = (uint32_t)load(l->d,
									      queue + l->d->nr, 4),
						      .global = true});
	}
}

/* One bucket's queues. Returns how many links may still be followed. */
static unsigned look_chain(struct look *l, uint64_t link, unsigned left)
{
	const struct dispatch *d = l->d;

	link &= ~NULLS;
	while (link && left) {
		uint64_t queue = link - d->node;

		take(l, &(struct dispatch_queue){.id = load(d, queue + d->id, 8),
						 .tasks = (uint32_t)load(d, queue + d->nr, 4)});
		link = load(d, link, 8);
		left--;
		if (link & NULLS)
			return left;
	}
	l->cut |= link != 0;
	return left;
}

static void look_hash(struct look *l, uint64_t base)
{
	const struct dispatch *d = l->d;
	uint64_t table = load(d, base + d->hash + d->table, 8), bucket[CHUNK];
	unsigned size, n, left = LINKS_MAX;

	if (!table)
		return;
	size = (unsigned)load(d, table + d->size, 4);
	/* A nested table is one that was short of memory as it grew. */
	if (size > BUCKETS_MAX || load(d, table + d->nested, 4)) {
		l->cut = true;
		return;
	}
	for (unsigned i = 0; i < size && left; i += n) {
		n = MIN(size - i, CHUNK);
		if (space_read(&d->in->space, table + d->buckets + 8 * (uint64_t)i, bucket,
			       n * sizeof(*bucket)))
			return;
		for (unsigned k = 0; k < n; k++)
			left = look_chain(l, bucket[k], left);
	}
}

unsigned dispatch_look(const struct dispatch *d, struct dispatch_queue *ret_queue, unsigned max,
		       bool *ret_cut)
{
	struct look l = {.d = d, .queue = ret_queue, .max = max};
	uint64_t base = 0;

	/* No scheduler: no queues. */
	if (d->in && (!d->root || (base = load(d, d->root, 8)))) {
		look_global(&l, base);
		look_hash(&l, base);
	}
	*ret_cut = l.cut;
	return l.count;
}
