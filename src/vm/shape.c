/* Shows a CPU shape. What it says comes from the functions that the guest's tables come from. */
#include "vm/shape.h"

#include <errno.h>
#include <inttypes.h>

#include "arch/arch.h"
#include "base/parse.h"
#include "base/util.h"

/* Any machine that stasis models has fewer; a host's own limit is the run's affair. */
#define PHYS_BITS 52

static unsigned threads_of_llc(const struct topology *t)
{
	return t->cores_per_llc * t->threads_per_core;
}

/* "0-19", "7", or "" for none. vCPUs of a node, and of a cache, follow one another. */
static const char *cpu_range(unsigned first, unsigned count, char buf[32])
{
	if (count == 0)
		buf[0] = '\0';
	else if (count == 1)
		snprintf(buf, 32, "%u", first);
	else
		snprintf(buf, 32, "%u-%u", first, first + count - 1);
	return buf;
}

static const char *cpus_of_node(const struct topology *t, unsigned node, char buf[32])
{
	const struct topology_node *n = &t->node[node];

	return cpu_range(n->first_llc * threads_of_llc(t), n->llcs * threads_of_llc(t), buf);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static json_t *node_json(const struct topology *t, const struct guest_layout *layout, unsigned node)
{
	const struct topology_node *n = &t->node[node];
	json_t *memory = json_array(), *distances = json_array(), *json;
	char cpus[32];

	for (unsigned i = 0; i < layout->count; i++)
		if (layout->range[i].node == node)
			json_array_append_new(memory,
					      json_pack("{s:I, s:I}", "start",
							(json_int_t)layout->range[i].gpa, "size",
							(json_int_t)layout->range[i].size));
	for (unsigned other = 0; other < t->nodes; other++)
		json_array_append_new(distances, json_integer(t->distance[node][other]));
	json = json_pack("{s:i, s:s, s:i, s:I, s:o, s:o}", "node", (int)node, "cpus",
			 cpus_of_node(t, node, cpus), "llcs", (int)n->llcs, "memory_bytes",
			 (json_int_t)n->memory_bytes, "memory", memory, "distances", distances);
	if (n->latency_ns)
		json_object_set_new(json, "latency_ns", json_integer(n->latency_ns));
	if (n->bandwidth_mbs)
		json_object_set_new(json, "bandwidth_mbs", json_integer(n->bandwidth_mbs));
	if (n->cache_bytes)
		json_object_set_new(json, "memory_cache_bytes",
				    json_integer((json_int_t)n->cache_bytes));
	return json;
}

static json_t *caches_json(const struct topology *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < arch_cache_count; i++) {
		const struct arch_cache *c = &arch_caches[i];
		unsigned each = c->of == CACHE_OF_LLC	 ? threads_of_llc(t)
				: c->of == CACHE_OF_CORE ? t->threads_per_core
							 : 1;

		json_array_append_new(list,
				      json_pack("{s:i, s:s, s:I, s:i, s:i, s:i, s:i}", "level",
						(int)c->level, "type",
						c->type == 'd'	 ? "data"
						: c->type == 'i' ? "instruction"
								 : "unified",
						"bytes", (json_int_t)c->bytes, "ways", (int)c->ways,
						"line_bytes", (int)c->line_bytes, "cpus_each",
						(int)each, "instances",
						(int)(topology_vcpus(t) / each)));
	}
	return list;
}

static json_t *cpus_json(const struct topology *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < topology_vcpus(t); i++) {
		struct topology_place place = topology_locate(t, i);

		json_array_append_new(list,
				      json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "cpu", (int)i,
						"id", (int)arch_vcpu_hardware_id(t, i), "node",
						(int)place.node, "llc", (int)place.llc, "core",
						(int)place.core, "thread", (int)place.thread));
	}
	return list;
}

int shape_json(const struct topology *t, json_t **ret_json, struct error *err)
{
	json_t *nodes = json_array(), *json;
	struct guest_layout layout;
	char text[64];
	int r = arch_memory_layout(t, PHYS_BITS, &layout, err);

	for (unsigned n = 0; r == 0 && n < t->nodes; n++)
		json_array_append_new(nodes, node_json(t, &layout, n));
	if (r < 0) {
		json_decref(nodes);
		return r;
	}
	json = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:o, s:o, s:o}", "topology",
			 topology_format(t, text, sizeof(text)), "arch", arch_name, "vcpus",
			 (int)topology_vcpus(t), "llcs", (int)t->llcs, "cores_per_llc",
			 (int)t->cores_per_llc, "threads_per_core", (int)t->threads_per_core,
			 "top_id", (int)arch_vcpu_hardware_id(t, topology_vcpus(t) - 1),
			 "memory_bytes", (json_int_t)topology_memory(t), "nodes", nodes, "caches",
			 caches_json(t), "cpus", cpus_json(t));
	if (!json)
		return error_set(err, -ENOMEM, "describing the shape");
	*ret_json = json;
	return 0;
}

/* ---- the drawing --------------------------------------------------------------------------- */

static int digits(unsigned n)
{
	return n >= 1000 ? 4 : n >= 100 ? 3 : n >= 10 ? 2 : 1;
}

/* "[0 1] [2 3]": a bracket for each core, its threads inside; wraps at the terminal's edge. */
static void draw_cores(const struct topology *t, unsigned llc, FILE *out, unsigned columns)
{
	const char *margin = "      ";
	int width = digits(topology_vcpus(t) - 1);
	unsigned cell = t->threads_per_core * (unsigned)(width + 1) + 2;
	unsigned per_line = columns > 6 + cell ? (columns - 6) / cell : 1;
	unsigned cpu = llc * threads_of_llc(t);

	for (unsigned core = 0; core < t->cores_per_llc; core++) {
		fprintf(out, "%s[", core % per_line == 0 ? margin : " ");
		for (unsigned thread = 0; thread < t->threads_per_core; thread++)
			fprintf(out, "%s%*u", thread ? " " : "", width, cpu++);
		fputs(core % per_line == per_line - 1 || core == t->cores_per_llc - 1 ? "]\n" : "]",
		      out);
	}
}

static void draw_node(const struct topology *t, unsigned node, const char *llc_size, FILE *out,
		      unsigned columns)
{
	const struct topology_node *n = &t->node[node];
	char size[32], cpus[32];

	fprintf(out, "\nnode %u   %s", node,
		n->memory_bytes ? format_size(n->memory_bytes, size, sizeof(size)) : "no memory");
	if (n->latency_ns)
		fprintf(out, ", %" PRIu32 " ns", n->latency_ns);
	if (n->bandwidth_mbs)
		fprintf(out, ", %" PRIu32 " MB/s", n->bandwidth_mbs);
	if (n->cache_bytes)
		fprintf(out, ", behind a cache of %s",
			format_size(n->cache_bytes, size, sizeof(size)));
	if (n->llcs == 0)
		fputs("   no CPUs\n", out);
	else
		fprintf(out, "   CPUs %s\n", cpus_of_node(t, node, cpus));
	for (unsigned i = 0; i < n->llcs; i++) {
		unsigned llc = n->first_llc + i, first = llc * threads_of_llc(t);

		fprintf(out, "   last-level cache %u (%s)   ids %" PRIu32 "-%" PRIu32 "\n", llc,
			llc_size, arch_vcpu_hardware_id(t, first),
			arch_vcpu_hardware_id(t, first + threads_of_llc(t) - 1));
		draw_cores(t, llc, out, columns);
	}
}

static void draw_distances(const struct topology *t, FILE *out)
{
	fputs("\ndistances\n     ", out);
	for (unsigned b = 0; b < t->nodes; b++)
		fprintf(out, "%4u", b);
	fputc('\n', out);
	for (unsigned a = 0; a < t->nodes; a++) {
		fprintf(out, "%5u", a);
		for (unsigned b = 0; b < t->nodes; b++)
			fprintf(out, "%4u", t->distance[a][b]);
		fputc('\n', out);
	}
}

int shape_draw(const struct topology *t, FILE *out, unsigned columns, struct error *err)
{
	unsigned vcpus = topology_vcpus(t);
	char text[64], size[32];
	uint32_t llc_bytes = 0;

	for (unsigned i = 0; i < arch_cache_count; i++)
		if (arch_caches[i].of == CACHE_OF_LLC)
			llc_bytes = arch_caches[i].bytes;
	fprintf(out, "%s: %u vCPU%s with ids up to %" PRIu32 ", %s of memory\n",
		topology_format(t, text, sizeof(text)), vcpus, vcpus == 1 ? "" : "s",
		arch_vcpu_hardware_id(t, vcpus - 1),
		format_size(topology_memory(t), size, sizeof(size)));
	format_size(llc_bytes, size, sizeof(size));
	for (unsigned node = 0; node < t->nodes; node++)
		draw_node(t, node, size, out, columns);
	if (t->nodes > 1)
		draw_distances(t, out);
	return ferror(out) || fflush(out) == EOF ? error_set(err, -EIO, "writing the drawing") : 0;
}

/* ---- the tables ---------------------------------------------------------------------------- */

int shape_tables(const struct topology *t, const char *path, struct error *err)
{
	/* What every run has: vm/board.c. */
	static const struct {
		enum arch_device kind;
		unsigned index;
	} usual[] = {{ARCH_UART, 0},   {ARCH_UART, 1},	      {ARCH_I8042, 0},
		     {ARCH_POWER, 0},  {ARCH_PVPANIC, 0},     {ARCH_VMGENID, 0},
		     {ARCH_IOAPIC, 0}, {ARCH_VIRTIO_MMIO, 0}, {ARCH_VIRTIO_MMIO, 1}};
	struct arch_slot slot[ARRAY_SIZE(usual)];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		if (arch_slot(t, usual[i].kind, usual[i].index, &slot[n]) == 0 && slot[n].present)
			n++;
	return arch_tables_write(t, slot, n, path, err);
}
