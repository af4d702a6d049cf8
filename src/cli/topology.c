/* stasis topology: a shape shown before a machine has it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/parse.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "guest/topology_request.h"
#include "vm/shape.h"
#include "vm/terminal.h"

#define DEFAULT_MEMORY	GIB(1) /* as run's */
#define DEFAULT_COLUMNS 100

struct request {
	struct topology_request shape;
	const char *tables; /* where to write them; NULL: nowhere */
	bool json, help;
};

static int set_spec(void *target, const char *value, struct error *err)
{
	struct request *q = target;

	if (q->shape.spec)
		return error_usage(err, "%s: the shape was %s before", value, q->shape.spec);
	q->shape.spec = value;
	return 0;
}

static int set_memory(void *target, const char *value, struct error *err)
{
	uint64_t *memory = &((struct request *)target)->shape.memory_bytes;

	if (parse_size(value, memory) < 0 || *memory == 0)
		return error_usage(err, "%s: a size such as 512M or 4G is accepted", value);
	return 0;
}

static int set_numa_node(void *target, const char *value, struct error *err)
{
	return topology_request_node(&((struct request *)target)->shape, value, err);
}

static int set_numa_distance(void *target, const char *value, struct error *err)
{
	return topology_request_distance(&((struct request *)target)->shape, value, err);
}

static int set_tables(struct request *q, const char *option, const char *value, struct error *err)
{
	if (strcmp(option, arch_tables_option))
		return error_usage(err, "%s: machines of this architecture are described by --%s",
				   value, arch_tables_option);
	q->tables = value;
	return 0;
}

static int set_acpi(void *target, const char *value, struct error *err)
{
	return set_tables(target, "acpi", value, err);
}

static int set_fdt(void *target, const char *value, struct error *err)
{
	return set_tables(target, "fdt", value, err);
}

static const struct cli_option options[] = {
	{"topology", 't', "SPEC", set_spec, "SPEC can stand here, too"},
	{"memory", 'm', "SIZE", set_memory, "shared among the nodes; default 1G"},
	{"numa-node", 0, "SPEC", set_numa_node,
	 "one per node: llcs=2,mem=1G[,latency=NS][,bandwidth=MBS][,cache=SIZE]"},
	{"numa-distance", 0, "A,B=D", set_numa_distance, "11 to 254, both ways; default 20"},
	{"acpi", 0, "DIR", set_acpi, "write the ACPI tables there, a file each"},
	{"fdt", 0, "FILE", set_fdt, "write the device tree there"},
	OPTION_FLAG("json", 0, struct request, json, "as JSON"),
	OPTION_FLAG("help", 'h', struct request, help, "this"),
};

static int print_help(void)
{
	printf("usage: stasis topology SPEC [OPTIONS]\n\n"
	       "Shows a CPU shape: 1n2l4c2t is one NUMA node, two last-level caches, four cores "
	       "per\n"
	       "cache, two threads per core. Brackets are cores, the numbers in them CPUs.\n\n");
	options_print(options, ARRAY_SIZE(options));
	return 0;
}

static int parse(int argc, char **argv, struct request *q, struct error *err)
{
	const char *spec[2];
	int count, r = 0;

	count = options_parse_words(options, ARRAY_SIZE(options), argc, argv, q, spec,
				    ARRAY_SIZE(spec), err);
	for (int i = 0; r == 0 && i < MIN(count, 2); i++)
		r = set_spec(q, spec[i], err);
	return count < 0 ? count : r;
}

static unsigned columns(void)
{
	uint16_t cols, rows;

	return terminal_size(STDOUT_FILENO, &cols, &rows) && cols > 0 ? cols : DEFAULT_COLUMNS;
}

static int show(const struct request *q, struct error *err)
{
	struct topology t;
	json_t *json;
	int r = topology_resolve(&q->shape, DEFAULT_MEMORY, &t, err);

	if (r == 0 && q->tables)
		r = shape_tables(&t, q->tables, err);
	if (r < 0 || (q->tables && !q->json))
		return r;
	if (!q->json)
		return shape_draw(&t, stdout, columns(), err);
	r = shape_json(&t, &json, err);
	if (r < 0)
		return r;
	r = json_dumpf(json, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF ||
			    fflush(stdout) == EOF
		    ? error_set(err, -EIO, "writing the shape")
		    : 0;
	json_decref(json);
	return r;
}

int command_topology(int argc, char **argv)
{
	struct request q = {0};
	struct error err = {0};
	int r = parse(argc, argv, &q, &err);

	if (r == 0 && q.help)
		return print_help();
	if (r == 0 && !q.shape.spec && q.shape.node_count == 0)
		r = error_usage(&err, "stasis topology: a shape such as 1n2l4c2t is needed");
	if (r == 0)
		r = show(&q, &err);
	return r < 0 ? command_failed(&err) : 0;
}
