/* Writes sysfs trees, out of tables and of recordings, and builds their host_cpus by other means
 * than the reader's. */
#include "tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void tree_regular(struct tree *t, unsigned packages, unsigned nodes, unsigned caches,
		  unsigned cores, unsigned threads)
{
	unsigned all_cores = packages * nodes * caches * cores;

	*t = (struct tree){.count = all_cores * threads, .has_nodes = true, .level = 3};
	t->smt = threads > 1 ? "on" : "notsupported";
	assert(t->count <= 512);
	for (unsigned id = 0; id < t->count; id++) {
		unsigned core = id % all_cores, cache = core / cores, node = cache / caches;

		t->cpu[id] = (struct tree_cpu){
			.id = id,
			.package = node / nodes,
			.node = node,
			.core = core,
			.cache = cache,
			.cache_kib = 32768,
		};
	}
}

static void make_dirs(char *path)
{
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		assert(mkdir(path, 0700) == 0 || errno == EEXIST);
		*p = '/';
	}
}

void tree_put(const char *root, const char *path, const char *text)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	if (!text) {
		assert(unlink(full) == 0);
		return;
	}
	make_dirs(full);
	f = fopen(full, "w");
	assert(f);
	fprintf(f, "%s\n", text);
	fclose(f);
}

enum field { CORE, CACHE, NODE, ALL, SMALL };

/* The online CPUs that agree with like in a field, as a list. Ids ascend within a tree. */
static void put_list(const char *root, const char *path, const struct tree *t, enum field field,
		     unsigned like)
{
	char text[4096] = "";
	size_t len = 0;

	for (unsigned i = 0; i < t->count; i++) {
		const struct tree_cpu *c = &t->cpu[i];
		unsigned has = field == CORE	? c->core
			       : field == CACHE ? c->cache
			       : field == NODE	? c->node
			       : field == SMALL ? c->efficient
						: like;

		if (!c->offline && has == like)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u",
						len ? "," : "", c->id);
	}
	tree_put(root, path, text);
}

static void put_cpu(const char *root, const struct tree *t, const struct tree_cpu *c)
{
	char path[128], text[32];

#define AT(...)	    (snprintf(path, sizeof(path), "devices/system/cpu/cpu" __VA_ARGS__), path)
#define NUMBER(...) (snprintf(text, sizeof(text), __VA_ARGS__), text)
	if (c->offline) {
		tree_put(root, AT("%u/online", c->id), "0");
		return;
	}
	tree_put(root, AT("%u/topology/physical_package_id", c->id), NUMBER("%u", c->package));
	put_list(root, AT("%u/topology/thread_siblings_list", c->id), t, CORE, c->core);
	if (c->capacity)
		tree_put(root, AT("%u/cpu_capacity", c->id), NUMBER("%u", c->capacity));
	for (unsigned i = 0; i < 4 && c->cache_kib; i++) {
		static const struct {
			unsigned level, kib;
			const char *type;
		} kinds[] = {{1, 32, "Data"},
			     {1, 32, "Instruction"},
			     {2, 1024, "Unified"},
			     {3, 0, "Unified"}};

		tree_put(root, AT("%u/cache/index%u/level", c->id, i),
			 NUMBER("%u", kinds[i].level));
		tree_put(root, AT("%u/cache/index%u/type", c->id, i), kinds[i].type);
		tree_put(root, AT("%u/cache/index%u/size", c->id, i),
			 NUMBER("%uK", kinds[i].kib ?: c->cache_kib));
		put_list(root, AT("%u/cache/index%u/shared_cpu_list", c->id, i), t,
			 kinds[i].level == 3 ? CACHE : CORE,
			 kinds[i].level == 3 ? c->cache : c->core);
	}
#undef AT
#undef NUMBER
}

static char *new_root(void)
{
	char *root;

	assert(asprintf(&root, "%s/stasis-tree-XXXXXX", getenv("TMPDIR") ?: "/tmp") > 0);
	assert(mkdtemp(root));
	return root;
}

char *tree_write(const struct tree *t)
{
	bool hybrid = false;
	char *root = new_root();
	char path[128];

	put_list(root, "devices/system/cpu/online", t, ALL, 0);
	if (t->smt)
		tree_put(root, "devices/system/cpu/smt/control", t->smt);
	for (unsigned i = 0; i < t->count; i++) {
		put_cpu(root, t, &t->cpu[i]);
		hybrid |= t->cpu[i].efficient;
	}
	if (hybrid)
		put_list(root, "devices/cpu_atom/cpus", t, SMALL, 1);
	if (t->has_nodes) {
		struct host_cpu_set seen = {0};
		char list[1024] = "";

		for (unsigned i = 0; i < t->count; i++) {
			unsigned n = t->cpu[i].node;

			if (host_cpu_set_has(&seen, n))
				continue;
			host_cpu_set_add(&seen, n);
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%u",
				 list[0] ? "," : "", n);
			snprintf(path, sizeof(path), "devices/system/node/node%u/cpulist", n);
			put_list(root, path, t, NODE, n);
		}
		tree_put(root, "devices/system/node/online", list);
	}
	return root;
}

char *tree_unpack(const char *folder, const char *name)
{
	char *root = new_root(), *line = NULL;
	char path[512];
	size_t size = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.tree", folder, name);
	f = fopen(path, "r");
	assert(f);
	while (getline(&line, &size, f) > 0) {
		char *tab = strchr(line, '\t');

		if (line[0] == '#')
			continue;
		assert(tab && strlen(line) < sizeof(path) / 2);
		*tab = '\0';
		tab[1 + strcspn(tab + 1, "\n")] = '\0';
		snprintf(path, sizeof(path), "devices/%s", line);
		tree_put(root, path, tab + 1);
	}
	free(line);
	fclose(f);
	return root;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void tree_remove(char *root)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(root);
}

struct host_cpu_set tree_all(unsigned n)
{
	struct host_cpu_set set = {0};

	for (unsigned i = 0; i < n; i++)
		host_cpu_set_add(&set, i);
	return set;
}

void tree_host(const struct tree *t, const struct host_cpu_set *allowed, struct host_cpus *ret_host)
{
	struct host_cpus h = {0};
	struct host_cpu_set all_nodes = {0};
	unsigned core_name[512], cache_name[512];
	struct host_cpu_set nodes = {0};

	h.cpu = calloc(t->count, sizeof(*h.cpu));
	h.core = calloc(t->count, sizeof(*h.core));
	h.group = calloc(t->count, sizeof(*h.group));
	assert(h.cpu && h.core && h.group);
	snprintf(h.smt, sizeof(h.smt), "%s", t->smt ?: "");
	for (unsigned i = 0; i < t->count && t->has_nodes; i++)
		host_cpu_set_add(&all_nodes, t->cpu[i].node);
	h.all_nodes = host_cpu_set_count(&all_nodes);
	for (unsigned i = 0; i < t->count; i++) {
		const struct tree_cpu *c = &t->cpu[i];
		unsigned group = 0, core = 0;

		if (c->offline)
			continue;
		h.online++;
		if (!host_cpu_set_has(allowed, c->id))
			continue;
		while (group < h.groups && cache_name[group] != c->cache)
			group++;
		while (core < h.cores &&
		       (core_name[core] != c->core || h.core[core].group != group))
			core++;
		if (group == h.groups) {
			cache_name[h.groups++] = c->cache;
			h.group[group] = (struct host_group){.node = t->has_nodes ? c->node : 0,
							     .level = t->level,
							     .bytes = KIB(c->cache_kib)};
			for (unsigned j = t->count; j-- > 0;)
				if (!t->cpu[j].offline && t->cpu[j].cache == c->cache)
					h.group[group].id = t->cpu[j].id;
		}
		if (core == h.cores) {
			core_name[h.cores++] = c->core;
			h.core[core] = (struct host_core){.group = group,
							  .node = t->has_nodes ? c->node : 0,
							  .first = c->id};
			for (unsigned j = 0; j < t->count; j++)
				h.core[core].foreign += !t->cpu[j].offline &&
							t->cpu[j].core == c->core &&
							!host_cpu_set_has(allowed, t->cpu[j].id);
		}
		h.group[group].usable++;
		h.core[core].usable++;
		host_cpu_set_add(&nodes, t->has_nodes ? c->node : 0);
		h.cpu[h.count++] = (struct host_cpu){
			.id = c->id,
			.core = core,
			.group = group,
			.package = c->package,
			.node = t->has_nodes ? c->node : 0,
			.capacity = c->capacity ?: 1024,
			.efficient = c->efficient,
		};
		if (h.cpu[h.count - 1].capacity != h.cpu[0].capacity ||
		    h.cpu[h.count - 1].efficient != h.cpu[0].efficient)
			h.hybrid = true;
	}
	h.nodes = host_cpu_set_count(&nodes);
	*ret_host = h;
}

void tree_assert_same(const struct host_cpus *host, const struct host_cpus *want)
{
	assert_int_equal(host->count, want->count);
	assert_int_equal(host->cores, want->cores);
	assert_int_equal(host->groups, want->groups);
	assert_int_equal(host->online, want->online);
	assert_int_equal(host->nodes, want->nodes);
	assert_int_equal(host->all_nodes, want->all_nodes);
	assert_int_equal(host->hybrid, want->hybrid);
	assert_string_equal(host->smt, want->smt);
	for (unsigned i = 0; i < want->count; i++) {
		assert_int_equal(host->cpu[i].id, want->cpu[i].id);
		assert_int_equal(host->cpu[i].core, want->cpu[i].core);
		assert_int_equal(host->cpu[i].group, want->cpu[i].group);
		assert_int_equal(host->cpu[i].package, want->cpu[i].package);
		assert_int_equal(host->cpu[i].node, want->cpu[i].node);
		assert_int_equal(host->cpu[i].capacity, want->cpu[i].capacity);
		assert_int_equal(host->cpu[i].efficient, want->cpu[i].efficient);
	}
	for (unsigned i = 0; i < want->cores; i++) {
		assert_int_equal(host->core[i].group, want->core[i].group);
		assert_int_equal(host->core[i].node, want->core[i].node);
		assert_int_equal(host->core[i].usable, want->core[i].usable);
		assert_int_equal(host->core[i].foreign, want->core[i].foreign);
		assert_int_equal(host->core[i].first, want->core[i].first);
	}
	for (unsigned i = 0; i < want->groups; i++) {
		assert_int_equal(host->group[i].id, want->group[i].id);
		assert_int_equal(host->group[i].node, want->group[i].node);
		assert_int_equal(host->group[i].level, want->group[i].level);
		assert_int_equal(host->group[i].usable, want->group[i].usable);
		assert_int_equal(host->group[i].bytes, want->group[i].bytes);
	}
}

unsigned tree_below(unsigned n)
{
	static uint64_t seed = 1;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed >> 16) % n);
}
