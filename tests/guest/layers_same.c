/* Whether two snapshots of one instant have the same memory, each laid as a restore lays it.
 * usage: layers-same DIR OTHER; says how many pages DIR's own file has, and of how many. */
#include <stdio.h>
#include <string.h>

#include "arch/arch.h"
#include "base/util.h"
#include "vm/snapshot_chain.h"

struct one {
	struct vm_config config;
	struct snapshot_top top;
	struct snapshot_layers layers;
	struct guest_memory mem;
};

static int lay(const char *path, struct one *o)
{
	struct guest_layout layout;
	struct error err = {0};

	if (snapshot_chain_open(path, &o->config, &o->top, &o->layers, &err) == 0 &&
	    arch_memory_layout(&o->config.topology, 46, &layout, &err) == 0 &&
	    guest_memory_init(&o->mem, &layout, &err) == 0 &&
	    snapshot_layers_lay(&o->layers, &o->mem, &err) == 0)
		return 0;
	fprintf(stderr, "layers-same: %s: %s\n", path, err.what);
	return -1;
}

static void done(struct one *o)
{
	guest_memory_done(&o->mem);
	snapshot_layers_done(&o->layers);
	snapshot_top_done(&o->top);
	vm_config_done(&o->config);
}

static unsigned long long compare(const struct one *a, const struct one *b)
{
	unsigned long long differ = a->mem.count != b->mem.count;

	for (unsigned i = 0; i < a->mem.count && !differ; i++) {
		const struct guest_range *range = &a->mem.region[i].range;

		for (uint64_t at = 0; at < range->size; at += MEMORY_PAGE) {
			const void *x = guest_ptr(&a->mem, range->gpa + at, MEMORY_PAGE);
			const void *y = guest_ptr(&b->mem, range->gpa + at, MEMORY_PAGE);

			if (x && y && memcmp(x, y, MEMORY_PAGE) == 0)
				continue;
			if (differ++ < 5)
				fprintf(stderr, "layers-same: the page at 0x%llx differs\n",
					(unsigned long long)(range->gpa + at));
		}
	}
	return differ;
}

int main(int argc, char **argv)
{
	static struct one a, b;
	unsigned long long own = 0, all = 0;
	int status = 2;

	if (argc == 3 && lay(argv[1], &a) == 0 && lay(argv[2], &b) == 0) {
		status = compare(&a, &b) > 0;
		for (size_t i = 0; i < a.layers.layer[0].table.count; i++)
			own += a.layers.layer[0].table.run[i].len / MEMORY_PAGE;
		for (unsigned i = 0; i < a.mem.count; i++)
			all += a.mem.region[i].range.size / MEMORY_PAGE;
		printf("%llu %llu\n", own, all);
	}
	done(&a);
	done(&b);
	return status;
}
