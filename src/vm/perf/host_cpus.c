/* Reads the shape of the host's CPUs from a sysfs tree. Any thread. */
#include "vm/perf/host_cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"

#define FILE_MAX     KIB(64)
#define INDEXES_MAX  16 /* caches of one CPU; Linux shows four or five */
#define CAPACITY_MAX 1024u

/* ---- sets ---------------------------------------------------------------------------------- */

unsigned host_cpu_set_count(const struct host_cpu_set *set)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(set->word); i++)
		n += (unsigned)__builtin_popcountll(set->word[i]);
	return n;
}

static int set_add_one(uint64_t cpu, void *arg)
{
	host_cpu_set_add(arg, (unsigned)cpu);
	return 0;
}

int host_cpu_set_parse(const char *list, struct host_cpu_set *ret_set)
{
	struct host_cpu_set set = {0};
	int r = list[0] ? parse_list(list, HOST_CPUS_MAX - 1, set_add_one, &set) : 0;

	if (r == 0)
		*ret_set = set;
	return r;
}

const char *host_cpu_set_text(const struct host_cpu_set *set, char *buf, size_t len)
{
	static const char more[] = "…";
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < HOST_CPUS_MAX; i++) {
		unsigned first = i;
		char item[32];
		int n;

		if (!host_cpu_set_has(set, i))
			continue;
		while (host_cpu_set_has(set, i + 1))
			i++;
		n = snprintf(item, sizeof(item), i > first ? "%s%u-%u" : "%s%u", at ? "," : "",
			     first, i);
		/* There is always room left to say that there are more. */
		if (at + (size_t)n + sizeof(more) > len) {
			memcpy(buf + at, more, sizeof(more));
			break;
		}
		memcpy(buf + at, item, (size_t)n + 1);
		at += (size_t)n;
	}
	return buf;
}

int host_cpu_set_allowed(struct host_cpu_set *ret_set, struct error *err)
{
	size_t size = CPU_ALLOC_SIZE(HOST_CPUS_MAX);
	cpu_set_t *mask = CPU_ALLOC(HOST_CPUS_MAX);
	struct host_cpu_set set = {0};

	if (!mask)
		return error_set_shortage(err, -ENOMEM, "asking for our CPUs");
	if (sched_getaffinity(0, size, mask) < 0) {
		int r = -errno;

		CPU_FREE(mask);
		return error_set(err, r, "asking for our CPUs");
	}
	for (unsigned i = 0; i < HOST_CPUS_MAX; i++)
		if (CPU_ISSET_S(i, size, mask))
			host_cpu_set_add(&set, i);
	CPU_FREE(mask);
	*ret_set = set;
	return 0;
}

static unsigned set_first(const struct host_cpu_set *set)
{
	for (unsigned i = 0; i < ARRAY_SIZE(set->word); i++)
		if (set->word[i])
			return i * 64 + (unsigned)__builtin_ctzll(set->word[i]);
	return HOST_CPUS_MAX;
}

/* ---- files --------------------------------------------------------------------------------- */

/* The first line of root/path; malloc'ed. -ENOENT leaves err alone, as does a file that the kernel
 * shows and then has no answer for (an offline CPU's, mostly). */
static PRINTF_LIKE(4, 5) int read_line(const char *root, char **ret_line, struct error *err,
				       const char *fmt, ...)
{
	char path[192];
	CLEANUP_FREE char *full = NULL;
	char *line;
	size_t len;
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	full = text_format("%s/%s", root, path);
	if (!full)
		return error_set(err, -ENOMEM, "reading the host's CPUs");
	r = file_read(full, FILE_MAX, &line, &len);
	if (r == -ENOENT || r == -ENOTDIR || r == -ENXIO || r == -ENODEV)
		return -ENOENT;
	if (r < 0)
		return error_set(err, r, "reading %s", full);
	line[strcspn(line, "\n")] = '\0';
	*ret_line = line;
	return 0;
}

static int nonsense(const char *root, struct error *err, const char *path, const char *line)
{
	error_set(err, -EINVAL, "%s/%s reads '%.40s'", root, path, line);
	return -EINVAL;
}

/* A CPU list; -ENOENT where there is no file. */
static int read_set(const char *root, const char *path, struct host_cpu_set *ret_set,
		    struct error *err)
{
	CLEANUP_FREE char *line = NULL;
	int r = read_line(root, &line, err, "%s", path);

	if (r < 0)
		return r;
	return host_cpu_set_parse(line, ret_set) < 0 ? nonsense(root, err, path, line) : 0;
}

/* A number; fallback where there is no file, or where it reads "-1", the kernel's "unknown". */
static int read_number(const char *root, const char *path, uint64_t max, unsigned fallback,
		       unsigned *ret_value, struct error *err)
{
	CLEANUP_FREE char *line = NULL;
	uint64_t value = fallback;
	int r = read_line(root, &line, err, "%s", path);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && strcmp(line, "-1") && parse_uint(line, 0, max, &value) < 0)
		return nonsense(root, err, path, line);
	*ret_value = (unsigned)value;
	return 0;
}

/* ---- one CPU ------------------------------------------------------------------------------- */

/* What is known of an online CPU before cores and groups are numbered. */
struct raw {
	struct host_cpu cpu;
	struct host_cpu_set siblings; /* itself among them */
	unsigned core_key;	      /* smallest sibling */
	unsigned group_key;	      /* smallest CPU that shares the cache */
	unsigned level;
	uint64_t bytes;
	bool ours;
};

struct reading {
	const char *root;
	const struct host_cpu_set *online;
	struct error *err;
};

static int read_siblings(const struct reading *rd, struct raw *raw)
{
	static const char *const names[] = {"core_cpus_list", "thread_siblings_list"};
	unsigned id = raw->cpu.id;
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int r;

		snprintf(path, sizeof(path), "devices/system/cpu/cpu%u/topology/%s", id, names[i]);
		r = read_set(rd->root, path, &raw->siblings, rd->err);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (!host_cpu_set_has(&raw->siblings, id))
			return error_set(rd->err, -EINVAL, "%s/%s leaves out CPU %u itself",
					 rd->root, path, id);
		for (size_t w = 0; w < ARRAY_SIZE(raw->siblings.word); w++)
			raw->siblings.word[w] &= rd->online->word[w];
		break;
	}
	host_cpu_set_add(&raw->siblings, id);
	raw->core_key = set_first(&raw->siblings);
	return 0;
}

static bool is_subset(const struct host_cpu_set *of, const struct host_cpu_set *set)
{
	for (size_t i = 0; i < ARRAY_SIZE(set->word); i++)
		if (set->word[i] & ~of->word[i])
			return false;
	return true;
}

/* One cache of one CPU: takes it if it is a better last level than what raw has. -ENOENT: no such
 * cache. */
static int read_cache(const struct reading *rd, struct raw *raw, unsigned index)
{
	unsigned id = raw->cpu.id, level;
	CLEANUP_FREE char *type = NULL;
	CLEANUP_FREE char *size = NULL;
	struct host_cpu_set shared;
	char dir[64], path[96];
	uint64_t bytes = 0;
	int r;

	snprintf(dir, sizeof(dir), "devices/system/cpu/cpu%u/cache/index%u", id, index);
	r = read_line(rd->root, &type, rd->err, "%s/type", dir);
	if (r < 0)
		return r;
	if (!strcmp(type, "Instruction"))
		return 0;
	snprintf(path, sizeof(path), "%s/level", dir);
	r = read_number(rd->root, path, 16, 0, &level, rd->err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/shared_cpu_list", dir);
	r = read_set(rd->root, path, &shared, rd->err);
	if (r == -ENOENT)
		return 0; /* not known who shares it: no help */
	if (r < 0)
		return r;
	if (!host_cpu_set_has(&shared, id))
		return error_set(rd->err, -EINVAL, "%s/%s leaves out CPU %u itself", rd->root, path,
				 id);
	for (size_t w = 0; w < ARRAY_SIZE(shared.word); w++)
		shared.word[w] &= rd->online->word[w];
	if (level <= raw->level || (level < 3 && is_subset(&raw->siblings, &shared)))
		return 0;
	r = read_line(rd->root, &size, rd->err, "%s/size", dir);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && parse_size(size, &bytes) < 0) {
		snprintf(path, sizeof(path), "%s/size", dir);
		return nonsense(rd->root, rd->err, path, size);
	}
	raw->level = level;
	raw->bytes = bytes;
	raw->group_key = set_first(&shared);
	return 0;
}

static int read_cpu(const struct reading *rd, struct raw *raw)
{
	struct host_cpu *cpu = &raw->cpu;
	char path[96];
	int r = read_siblings(rd, raw);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "devices/system/cpu/cpu%u/topology/physical_package_id",
		 cpu->id);
	r = read_number(rd->root, path, INT32_MAX, 0, &cpu->package, rd->err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "devices/system/cpu/cpu%u/cpu_capacity", cpu->id);
	r = read_number(rd->root, path, CAPACITY_MAX, CAPACITY_MAX, &cpu->capacity, rd->err);
	for (unsigned i = 0; r == 0 && i < INDEXES_MAX; i++)
		r = read_cache(rd, raw, i);
	return r == -ENOENT ? 0 : r;
}

/* ---- nodes and kinds ----------------------------------------------------------------------- */

static int read_nodes(const struct reading *rd, struct raw *raw, unsigned count,
		      unsigned *ret_nodes)
{
	struct host_cpu_set nodes;
	int r = read_set(rd->root, "devices/system/node/online", &nodes, rd->err);

	*ret_nodes = r == 0 ? host_cpu_set_count(&nodes) : 0;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (unsigned n = 0; n < HOST_CPUS_MAX; n++) {
		struct host_cpu_set cpus;
		char path[64];

		if (!host_cpu_set_has(&nodes, n))
			continue;
		snprintf(path, sizeof(path), "devices/system/node/node%u/cpulist", n);
		r = read_set(rd->root, path, &cpus, rd->err);
		if (r < 0 && r != -ENOENT)
			return r;
		for (unsigned i = 0; r == 0 && i < count; i++)
			if (host_cpu_set_has(&cpus, raw[i].cpu.id))
				raw[i].cpu.node = n;
	}
	return 0;
}

/* x86's hybrids: the PMU of the small kind lists its CPUs. */
static int read_kinds(const struct reading *rd, struct raw *raw, unsigned count)
{
	struct host_cpu_set small;
	int r = read_set(rd->root, "devices/cpu_atom/cpus", &small, rd->err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (unsigned i = 0; i < count; i++)
		raw[i].cpu.efficient = host_cpu_set_has(&small, raw[i].cpu.id);
	return 0;
}

/* Where no cache says otherwise, the package is the group. */
static void group_by_package(struct raw *raw, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned j = 0;

		if (raw[i].level)
			continue;
		while (raw[j].level || raw[j].cpu.package != raw[i].cpu.package)
			j++;
		raw[i].group_key = raw[j].cpu.id;
	}
}

/* ---- numbering ----------------------------------------------------------------------------- */

static unsigned group_of(struct host_cpus *host, const struct raw *raw)
{
	struct host_group *g = host->group;

	while (g < host->group + host->groups &&
	       (g->id != raw->group_key || g->level != raw->level))
		g++;
	if (g == host->group + host->groups) {
		host->groups++;
		*g = (struct host_group){
			.id = raw->group_key,
			.node = raw->cpu.node,
			.level = raw->level,
			.bytes = raw->bytes,
		};
	}
	g->usable++;
	return (unsigned)(g - host->group);
}

/* keys[] holds each core's smallest sibling. A core that two groups claim counts as two. */
static unsigned core_of(struct host_cpus *host, unsigned *keys, const struct raw *raw)
{
	unsigned c = 0;

	while (c < host->cores &&
	       (keys[c] != raw->core_key || host->core[c].group != raw->cpu.group))
		c++;
	if (c == host->cores) {
		host->cores++;
		keys[c] = raw->core_key;
		host->core[c] = (struct host_core){.group = raw->cpu.group,
						   .node = raw->cpu.node,
						   .first = raw->cpu.id};
	}
	host->core[c].usable++;
	return c;
}

static void count_foreign(struct host_cpus *host, const struct raw *raw, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned c = 0; !raw[i].ours && c < host->cores; c++)
			if (host_cpu_set_has(&raw[i].siblings, host->core[c].first))
				host->core[c].foreign++;
}

static int number(const struct raw *raw, unsigned count, unsigned ours, struct host_cpus *ret_host)
{
	struct host_cpus host = {.online = count};
	CLEANUP_FREE unsigned *keys = calloc(ours, sizeof(*keys));
	struct host_cpu_set nodes = {0};

	host.cpu = calloc(ours, sizeof(*host.cpu));
	host.core = calloc(ours, sizeof(*host.core));
	host.group = calloc(ours, sizeof(*host.group));
	if (!keys || !host.cpu || !host.core || !host.group) {
		host_cpus_done(&host);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < count; i++) {
		struct raw one = raw[i];

		if (!one.ours)
			continue;
		one.cpu.group = group_of(&host, &one);
		one.cpu.core = core_of(&host, keys, &one);
		host_cpu_set_add(&nodes, one.cpu.node);
		host.cpu[host.count++] = one.cpu;
		if (one.cpu.capacity != host.cpu[0].capacity ||
		    one.cpu.efficient != host.cpu[0].efficient)
			host.hybrid = true;
	}
	count_foreign(&host, raw, count);
	host.nodes = host_cpu_set_count(&nodes);
	*ret_host = host;
	return 0;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static int read_all(const struct reading *rd, const struct host_cpu_set *allowed, struct raw *raw,
		    unsigned count, struct host_cpus *ret_host)
{
	struct host_cpus host;
	CLEANUP_FREE char *smt = NULL;
	unsigned n = 0, ours = 0, nodes = 0;
	int r = 0;

	for (unsigned id = 0; id < HOST_CPUS_MAX && r == 0; id++) {
		if (!host_cpu_set_has(rd->online, id))
			continue;
		raw[n].cpu.id = id;
		raw[n].ours = host_cpu_set_has(allowed, id);
		ours += raw[n].ours;
		r = read_cpu(rd, &raw[n++]);
	}
	if (r == 0 && ours == 0)
		r = error_contention(rd->err, "none of the CPUs that stasis may use is online");
	if (r == 0)
		r = read_nodes(rd, raw, count, &nodes);
	if (r == 0)
		r = read_kinds(rd, raw, count);
	if (r < 0)
		return r;
	r = read_line(rd->root, &smt, rd->err, "devices/system/cpu/smt/control");
	if (r < 0 && r != -ENOENT)
		return r;
	group_by_package(raw, count);
	r = number(raw, count, ours, &host);
	if (r < 0)
		return error_set(rd->err, r, "reading the host's CPUs");
	host.all_nodes = nodes;
	snprintf(host.smt, sizeof(host.smt), "%s", smt ?: "");
	*ret_host = host;
	return 0;
}

int host_cpus_read(const char *root, const struct host_cpu_set *allowed, struct host_cpus *ret_host,
		   struct error *err)
{
	struct host_cpu_set online;
	const struct reading rd = {.root = root, .online = &online, .err = err};
	CLEANUP_FREE struct raw *raw = NULL;
	unsigned count;
	int r = read_set(root, "devices/system/cpu/online", &online, err);

	if (r == -ENOENT)
		return error_set(err, r, "reading %s/devices/system/cpu/online", root);
	if (r < 0)
		return r;
	count = host_cpu_set_count(&online);
	if (count == 0)
		return error_set(err, -EINVAL, "%s/devices/system/cpu/online lists no CPU", root);
	raw = calloc(count, sizeof(*raw));
	if (!raw)
		return error_set(err, -ENOMEM, "reading the host's CPUs");
	return read_all(&rd, allowed, raw, count, ret_host);
}

void host_cpus_done(struct host_cpus *host)
{
	free(host->cpu);
	free(host->core);
	free(host->group);
	*host = (struct host_cpus){0};
}

const struct host_cpu *host_cpus_find(const struct host_cpus *host, unsigned id)
{
	for (unsigned i = 0; i < host->count; i++)
		if (host->cpu[i].id == id)
			return &host->cpu[i];
	return NULL;
}
