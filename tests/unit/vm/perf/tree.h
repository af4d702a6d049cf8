/* A host out of a table: as a sysfs tree in a temporary folder, or as what reading it should give.
 */
#ifndef STASIS_TEST_TREE_H
#define STASIS_TEST_TREE_H

#include "vm/perf/host_cpus.h"

struct tree_cpu {
	unsigned id, package, node, core, cache; /* core and cache are unique over the host */
	unsigned cache_kib;			 /* 0: the tree says nothing */
	unsigned capacity;			 /* 0: likewise */
	bool offline, efficient;
};

struct tree {
	struct tree_cpu cpu[512];
	unsigned count;
	bool has_nodes;
	const char *smt; /* smt/control; NULL: no file */
	unsigned level;	 /* of the caches, for tree_host; tree_write has the third alone */
};

/* packages × nodes × caches × cores × threads, each "per"; siblings are numbered as Linux does on
 * x86: all first threads, then all second ones. Caches of the third level, 32768 KiB. */
void tree_regular(struct tree *t, unsigned packages, unsigned nodes, unsigned caches,
		  unsigned cores, unsigned threads);
/* A new folder under $TMPDIR; malloc'ed. What is offline has its folder, and nothing in it. */
char *tree_write(const struct tree *t);
/* The same of folder/name.tree, which record-tree printed. */
char *tree_unpack(const char *folder, const char *name);
void tree_remove(char *root); /* and frees */
/* Writes root/path anew (folders must be there); NULL text removes it. */
void tree_put(const char *root, const char *path, const char *text);
/* The same without files. */
void tree_host(const struct tree *t, const struct host_cpu_set *allowed,
	       struct host_cpus *ret_host);
/* Field by field, but for what lies between them. */
void tree_assert_same(const struct host_cpus *host, const struct host_cpus *want);
/* CPUs 0 to n - 1. */
struct host_cpu_set tree_all(unsigned n);

/* A number below n, of a series that looks random and is the same in each run. */
unsigned tree_below(unsigned n);

#endif
