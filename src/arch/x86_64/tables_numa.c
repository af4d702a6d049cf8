/* The ACPI tables that say which CPUs and which memory are near: SRAT, SLIT, HMAT (ACPI 6.5).
 * Control thread. */
#include "arch/x86_64/tables.h"

#define HMAT_MAX_ENTRY 0xfffeu /* 5.2.28.4: ffffh is "out of reach", 0 "not said" */

void tables_write_srat(struct tables_writer *w, const struct topology *t,
		       const struct guest_layout *layout)
{
	size_t at = tables_begin(w, "SRAT", 3);
	struct aml *out = &w->out;

	put32(out, 1);
	put64(out, 0);
	for (unsigned i = 0; i < topology_vcpus(t); i++) { /* 5.2.16.3 */
		put8(out, 2);
		put8(out, 24);
		put16(out, 0);
		put32(out, topology_locate(t, i).node);
		put32(out, arch_vcpu_id(t, i));
		put32(out, 1);
		put32(out, 0);
		put32(out, 0);
	}
	for (unsigned i = 0; i < layout->count; i++) { /* 5.2.16.2 */
		put8(out, 1);
		put8(out, 40);
		put32(out, layout->range[i].node);
		put16(out, 0);
		put64(out, layout->range[i].gpa);
		put64(out, layout->range[i].size);
		put32(out, 0);
		put32(out, 1);
		put64(out, 0);
	}
	tables_end(w, at);
}

void tables_write_slit(struct tables_writer *w, const struct topology *t)
{
	size_t at = tables_begin(w, "SLIT", 1);

	put64(&w->out, t->nodes);
	for (unsigned a = 0; a < t->nodes; a++)
		put(&w->out, t->distance[a], t->nodes);
	tables_end(w, at);
}

/* ---- HMAT ---------------------------------------------------------------------------------- */

enum figure { FIGURE_LATENCY = 0, FIGURE_BANDWIDTH = 3 }; /* 5.2.28.4, data type: access */

/* The node with CPUs that is nearest to a node's memory. */
static unsigned nearest(const struct topology *t, unsigned target)
{
	unsigned best = target;

	for (unsigned n = 0; n < t->nodes; n++)
		if (t->node[n].llcs > 0 &&
		    (t->node[best].llcs == 0 || t->distance[n][target] < t->distance[best][target]))
			best = n;
	return best;
}

/* What was typed is what the nearest CPUs see; from elsewhere it is as much slower as it is
 * farther. Nanoseconds or MB/s; 0: not said. */
static uint64_t figure_from(const struct topology *t, enum figure figure, unsigned from,
			    unsigned target)
{
	const struct topology_node *node = &t->node[target];
	unsigned far = t->distance[from][target];
	unsigned near = t->distance[nearest(t, target)][target];

	if (figure == FIGURE_LATENCY)
		return (uint64_t)node->latency_ns * far / near;
	return (uint64_t)node->bandwidth_mbs * near / far;
}

/* 5.2.28.3: the memory of one node, and the node whose CPUs are directly at it. */
static void write_domain(struct aml *out, const struct topology *t, unsigned node)
{
	bool attached = t->node[node].llcs > 0;

	put16(out, 0);
	put16(out, 0);
	put32(out, 40);
	put16(out, attached); /* the initiator is valid */
	put16(out, 0);
	put32(out, attached ? node : 0);
	put32(out, node);
	zeros(out, 4 + 8 + 8);
}

/* The nearest that 16 bits can say; 0 would mean that nobody said. */
static uint16_t entry(uint64_t figure, uint64_t scale)
{
	return (uint16_t)(figure ? MAX((figure + scale / 2) / scale, UINT64_C(1)) : 0);
}

/* 5.2.28.4: one figure for every pair of a node with CPUs and a node with memory. */
static void write_matrix(struct aml *out, const struct topology *t, enum figure figure)
{
	uint32_t initiators = 0, targets = 0;
	uint64_t most = 0, scale;

	for (unsigned n = 0; n < t->nodes; n++) {
		initiators += t->node[n].llcs > 0;
		targets += t->node[n].memory_bytes > 0;
		for (unsigned from = 0; from < t->nodes; from++)
			if (t->node[from].llcs > 0)
				most = MAX(most, figure_from(t, figure, from, n));
	}
	if (most == 0)
		return; /* nobody said */
	/* Entries have 16 bits: larger figures are told in larger units. */
	scale = (most + HMAT_MAX_ENTRY - 1) / HMAT_MAX_ENTRY;
	put16(out, 1);
	put16(out, 0);
	put32(out, 32 + 4 * (initiators + targets) + 2 * initiators * targets);
	put8(out, 0); /* memory, not a cache before it */
	put8(out, (uint8_t)figure);
	put8(out, 0);
	put8(out, 0);
	put32(out, initiators);
	put32(out, targets);
	put32(out, 0);
	put64(out, figure == FIGURE_LATENCY ? scale * 1000 : scale); /* picoseconds, or MB/s */
	for (unsigned n = 0; n < t->nodes; n++)
		if (t->node[n].llcs > 0)
			put32(out, n);
	for (unsigned n = 0; n < t->nodes; n++)
		if (t->node[n].memory_bytes > 0)
			put32(out, n);
	for (unsigned from = 0; from < t->nodes; from++)
		for (unsigned n = 0; t->node[from].llcs > 0 && n < t->nodes; n++)
			if (t->node[n].memory_bytes > 0)
				put16(out, entry(figure_from(t, figure, from, n), scale));
}

/* 5.2.28.5: direct-mapped, write-back, lines of 64 bytes, the only level. */
static void write_memory_cache(struct aml *out, const struct topology *t, unsigned node)
{
	put16(out, 2);
	put16(out, 0);
	put32(out, 32);
	put32(out, node);
	put32(out, 0);
	put64(out, t->node[node].cache_bytes);
	put32(out, 1 | 1 << 4 | 1 << 8 | 1 << 12 | 64 << 16);
	put16(out, 0);
	put16(out, 0); /* no SMBIOS handles */
}

void tables_write_hmat(struct tables_writer *w, const struct topology *t)
{
	size_t at = tables_begin(w, "HMAT", 2);
	struct aml *out = &w->out;

	put32(out, 0);
	for (unsigned n = 0; n < t->nodes; n++)
		if (t->node[n].memory_bytes > 0)
			write_domain(out, t, n);
	write_matrix(out, t, FIGURE_LATENCY);
	write_matrix(out, t, FIGURE_BANDWIDTH);
	for (unsigned n = 0; n < t->nodes; n++)
		if (t->node[n].cache_bytes > 0)
			write_memory_cache(out, t, n);
	tables_end(w, at);
}
