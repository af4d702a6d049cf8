/* snapshot.json: a machine's description, to text and back. */
#include "vm/snapshot_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "base/util.h"
#include "freeze/snapshot_folder.h"
#include "freeze/snapshot_state.h"
#include "guest/topology_request.h"

/* ---- writing -------------------------------------------------------------------------------- */

static json_t *or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static json_t *nodes_of(const struct topology *t)
{
	json_t *list = json_array();

	for (unsigned n = 0; n < t->nodes; n++) {
		const struct topology_node *node = &t->node[n];
		json_t *distances = json_array();

		for (unsigned k = 0; k < t->nodes; k++)
			json_array_append_new(distances, json_integer(t->distance[n][k]));
		json_array_append_new(list, json_pack("{s:i, s:I, s:i, s:i, s:I, s:o}", "llcs",
						      (int)node->llcs, "memory_bytes",
						      (json_int_t)node->memory_bytes, "latency_ns",
						      (int)node->latency_ns, "bandwidth_mbs",
						      (int)node->bandwidth_mbs, "cache_bytes",
						      (json_int_t)node->cache_bytes, "distances",
						      distances));
	}
	return list;
}

static json_t *regions_of(const struct guest_memory *mem)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < mem->count; i++)
		json_array_append_new(list, json_pack("{s:I, s:I}", "guest_physical",
						      (json_int_t)mem->region[i].range.gpa, "bytes",
						      (json_int_t)mem->region[i].range.size));
	return list;
}

static void add_feature(const char *name, uint32_t bits, void *arg)
{
	char text[16];

	snprintf(text, sizeof(text), "0x%08x", bits);
	json_object_set_new(arg, name, json_string(text));
}

static json_t *disks_of(const struct vm_config *c, struct virtio_blk *const *disk)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->disk_count; i++)
		json_array_append_new(list, vm_disk_saved(&c->disk[i], disk[i]));
	return list;
}

static json_t *nets_of(const struct vm_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->net_count; i++) {
		CLEANUP_FREE char *value = vm_net_value(&c->net[i]);

		json_array_append_new(list, value ? json_string(value) : NULL);
	}
	return list;
}

char *snapshot_describe(const struct vm_config *c, const struct arch_vm *vm,
			const struct guest_memory *mem, struct virtio_blk *const *disk,
			const struct snapshot_kind *kind)
{
	const struct topology *t = &c->topology;
	json_t *features = json_object(), *json;
	time_t now = time(NULL);
	char shape[64], stamp[32];
	char *text, *line;
	struct tm tm;

	arch_vm_features(vm, add_feature, features);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	json = json_pack("{s:i, s:s, s:s, s:s, s:s, s:o, s:{s:o, s:o}, s:s, s:o, s:o, s:s, s:i, "
			 "s:i, s:i, s:o, "
			 "s:o, s:o, s:o, s:o}",
			 "snapshot", kind->base || kind->lz4 ? SNAPSHOT_VERSION : SNAPSHOT_PLAIN,
			 "id", kind->id, "stasis", STASIS_VERSION, "time", stamp, "arch", arch_name,
			 "name", or_null(c->name), "kernel", "path",
			 or_null(c->kernel_name ?: c->kernel), "release",
			 or_null(c->kernel_release), "session", vm_session_name(c->session),
			 "command", vm_command_json(c->command), "cpu_vendor",
			 or_null(c->cpu_vendor), "topology",
			 topology_format(t, shape, sizeof(shape)), "vcpus", (int)topology_vcpus(t),
			 "cores_per_llc", (int)t->cores_per_llc, "threads_per_core",
			 (int)t->threads_per_core, "nodes", nodes_of(t), "memory", regions_of(mem),
			 "disks", disks_of(c, disk), "nets", nets_of(c), "cpu_features", features);
	if (json && kind->base)
		json_object_set_new(json, "base",
				    json_pack("{s:s, s:s}", "path", kind->base, "id",
					      kind->base_id));
	if (json && kind->lz4)
		json_object_set_new(json, "compression", json_string("lz4"));
	if (!json)
		return NULL;
	text = json_dumps(json, JSON_INDENT(2));
	json_decref(json);
	line = text ? text_format("%s\n", text) : NULL;
	free(text);
	return line;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int wrong(const char *field, struct error *err)
{
	return error_usage(err, "the description: %s is missing or makes no sense", field);
}

static int get_number(const json_t *object, const char *field, uint64_t most, uint64_t *ret_value,
		      struct error *err)
{
	const json_t *json = json_object_get(object, field);
	json_int_t value = json_integer_value(json);

	if (!json_is_integer(json) || value < 0 || (uint64_t)value > most)
		return wrong(field, err);
	*ret_value = (uint64_t)value;
	return 0;
}

/* NULL where it is null. */
static int get_text(const json_t *object, const char *field, char **ret_text, struct error *err)
{
	const json_t *json = json_object_get(object, field);

	*ret_text = NULL;
	if (json_is_null(json))
		return 0;
	if (!json_is_string(json) || json_string_length(json) > 4096)
		return wrong(field, err);
	*ret_text = strdup(json_string_value(json));
	return *ret_text ? 0 : error_set(err, -ENOMEM, "reading a snapshot");
}

static int read_node(const json_t *json, unsigned n, unsigned nodes, struct topology_request *q,
		     struct error *err)
{
	const json_t *distances = json_object_get(json, "distances");
	uint64_t llcs = 0, latency = 0, bandwidth = 0;
	struct topology_node *node = &q->node[n];
	int r = get_number(json, "llcs", TOPOLOGY_MAX_VCPUS, &llcs, err);

	if (r == 0)
		r = get_number(json, "memory_bytes", INT64_MAX, &node->memory_bytes, err);
	if (r == 0)
		r = get_number(json, "latency_ns", UINT32_MAX, &latency, err);
	if (r == 0)
		r = get_number(json, "bandwidth_mbs", UINT32_MAX, &bandwidth, err);
	if (r == 0)
		r = get_number(json, "cache_bytes", INT64_MAX, &node->cache_bytes, err);
	if (r == 0 && (!json_is_array(distances) || json_array_size(distances) != nodes))
		r = wrong("distances", err);
	node->llcs = (unsigned)llcs;
	node->latency_ns = (uint32_t)latency;
	node->bandwidth_mbs = (uint32_t)bandwidth;
	for (unsigned k = 0; r == 0 && k < nodes; k++) {
		const json_t *d = json_array_get(distances, k);
		json_int_t distance = json_integer_value(d);

		if (!json_is_integer(d) ||
		    (k == n ? distance != TOPOLOGY_DISTANCE_LOCAL
			    : distance <= TOPOLOGY_DISTANCE_LOCAL || distance > 254))
			r = wrong("distances", err);
		else if (k != n)
			q->distance[n][k] = (uint8_t)distance;
	}
	return r;
}

static bool is_symmetric(const struct topology_request *q)
{
	for (unsigned n = 0; n < q->node_count; n++)
		for (unsigned k = 0; k < n; k++)
			if (q->distance[n][k] != q->distance[k][n])
				return false;
	return true;
}

static int read_shape(const json_t *json, struct topology *ret_topology, struct error *err)
{
	CLEANUP_FREE struct topology_request *q = calloc(1, sizeof(*q));
	const json_t *nodes = json_object_get(json, "nodes"), *node;
	uint64_t cores = 0, threads = 0, vcpus = 0;
	int r = q ? 0 : error_set(err, -ENOMEM, "reading a snapshot");
	char spec[48];
	size_t n;

	if (r == 0)
		r = get_number(json, "cores_per_llc", TOPOLOGY_MAX_VCPUS, &cores, err);
	if (r == 0)
		r = get_number(json, "threads_per_core", TOPOLOGY_MAX_VCPUS, &threads, err);
	if (r == 0)
		r = get_number(json, "vcpus", TOPOLOGY_MAX_VCPUS, &vcpus, err);
	if (r < 0)
		return r;
	if (!json_is_array(nodes) || json_array_size(nodes) == 0 ||
	    json_array_size(nodes) > TOPOLOGY_MAX_NODES)
		return wrong("nodes", err);
	q->node_count = (unsigned)json_array_size(nodes);
	json_array_foreach((json_t *)(uintptr_t)nodes, n, node)
	{
		r = read_node(node, (unsigned)n, q->node_count, q, err);
		if (r < 0)
			return r;
	}
	if (!is_symmetric(q))
		return wrong("distances", err);
	snprintf(spec, sizeof(spec), "%uc%ut", (unsigned)cores, (unsigned)threads);
	q->spec = spec;
	r = topology_resolve(q, 0, ret_topology, err);
	if (r == 0 && topology_vcpus(ret_topology) != vcpus)
		r = wrong("vcpus", err);
	return r;
}

static int check_kind(const json_t *json, const struct arch_kind *kind, struct error *err)
{
	const char *own = kind ? kind->name : arch_name;
	const char *arch = json_string_value(json_object_get(json, "arch"));
	uint64_t version = 0;
	int r = get_number(json, "snapshot", UINT32_MAX, &version, err);

	if (r < 0)
		return r;
	if (version < SNAPSHOT_OLDEST || version > SNAPSHOT_VERSION)
		return error_usage(err, "the description has version %llu, and %d is known",
				   (unsigned long long)version, SNAPSHOT_VERSION);
	if (!arch)
		return wrong("arch", err);
	if (strcmp(arch, own))
		return error_usage(err, "it is of a machine of %.16s, and this host's are of %s",
				   arch, own);
	return 0;
}

static int read_session(const json_t *json, struct vm_config *c, struct error *err)
{
	static const enum vm_session sessions[] = {VM_SESSION_COMMAND, VM_SESSION_SHELL,
						   VM_SESSION_NONE};
	const char *name = json_string_value(json_object_get(json, "session"));

	for (size_t i = 0; name && i < ARRAY_SIZE(sessions); i++) {
		if (strcmp(name, vm_session_name(sessions[i])))
			continue;
		c->session = sessions[i];
		return 0;
	}
	return wrong("session", err);
}

static bool is_id(const char *text)
{
	return text && strlen(text) == SNAPSHOT_ID_LEN &&
	       strspn(text, "0123456789abcdef") == SNAPSHOT_ID_LEN;
}

/* What was saved before there was one has none. */
static int read_id(const json_t *json, struct vm_config *c, struct error *err)
{
	const json_t *id = json_object_get(json, "id");
	const char *text = json_string_value(id);

	c->snapshot_id[0] = '\0';
	if (!id)
		return 0;
	if (!is_id(text))
		return wrong("id", err);
	memcpy(c->snapshot_id, text, SNAPSHOT_ID_LEN + 1);
	return 0;
}

#define BESIDE "../"

/* A folder beside it, or a path that reads as it leads. */
static bool is_base(const char *path)
{
	const char *name = path + strlen(BESIDE);

	if (strlen(path) > 4096)
		return false;
	if (strncmp(path, BESIDE, strlen(BESIDE)))
		return vm_disk_path_canonical(path);
	return name[0] && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

static int read_base(const json_t *json, struct vm_config *c, struct error *err)
{
	const json_t *base = json_object_get(json, "base");
	const char *path = json_string_value(json_object_get(base, "path")),
		   *id = json_string_value(json_object_get(base, "id"));

	if (!base)
		return 0;
	if (!path || !is_base(path) || !is_id(id))
		return wrong("base", err);
	memcpy(c->snapshot_base_id, id, SNAPSHOT_ID_LEN + 1);
	c->snapshot_base = strdup(path);
	return c->snapshot_base ? 0 : error_set(err, -ENOMEM, "reading a snapshot");
}

static int read_command(const json_t *json, struct vm_config *c, struct error *err)
{
	const json_t *list = json_object_get(json, "command");
	size_t count = json_array_size(list);

	if (json_is_null(list))
		return 0;
	if (!json_is_array(list) || count == 0)
		return wrong("command", err);
	c->command = calloc(count + 1, sizeof(*c->command));
	if (!c->command)
		return error_set(err, -ENOMEM, "reading a snapshot");
	for (size_t i = 0; i < count; i++) {
		const char *word = json_string_value(json_array_get(list, i));

		if (!word)
			return wrong("command", err);
		c->command[i] = strdup(word);
		if (!c->command[i])
			return error_set(err, -ENOMEM, "reading a snapshot");
	}
	return 0;
}

static int read_disks(const json_t *json, struct vm_config *c, struct error *err)
{
	const json_t *list = json_object_get(json, "disks");
	size_t count = json_array_size(list);

	if (!json_is_array(list) || count > VM_MAX_DISKS)
		return wrong("disks", err);
	for (; c->disk_count < count; c->disk_count++) {
		int r = vm_disk_read(json_array_get(list, c->disk_count), &c->disk[c->disk_count],
				     err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int read_nets(const json_t *json, struct vm_config *c, struct error *err)
{
	const json_t *list = json_object_get(json, "nets");
	size_t count = json_array_size(list);

	if (!json_is_array(list) || count > VM_MAX_NETS)
		return wrong("nets", err);
	for (; c->net_count < count; c->net_count++) {
		const char *value = json_string_value(json_array_get(list, c->net_count));
		int r = value ? vm_net_parse(value, &c->net[c->net_count], err)
			      : wrong("nets", err);

		/* That is the lab's own word, whose networks are not saved. */
		if (r == 0 && c->net[c->net_count].uplink >= 0)
			r = wrong("nets", err);
		if (r < 0)
			return r;
	}
	return 0;
}

json_t *snapshot_description_load(const char *path)
{
	CLEANUP_FREE char *text = NULL;
	struct error ignored = {0};
	size_t len;

	return snapshot_description_read(path, &text, &len, &ignored) == 0
		       ? json_loadb(text, len, 0, NULL)
		       : NULL;
}

int snapshot_read_description(const char *text, size_t len, struct vm_config *c, struct error *err)
{
	json_error_t where;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where), *kernel;
	int r;

	if (!json)
		return error_usage(err, "the description is no JSON: line %d: %s", where.line,
				   where.text);
	r = check_kind(json, c->kind, err);
	if (r == 0)
		r = read_id(json, c, err);
	if (r == 0)
		r = read_base(json, c, err);
	if (r == 0)
		r = read_shape(json, &c->topology, err);
	kernel = json_object_get(json, "kernel");
	if (r == 0)
		r = get_text(kernel, "path", &c->kernel, err);
	if (r == 0)
		r = get_text(kernel, "release", &c->kernel_release, err);
	if (r == 0)
		r = get_text(json, "cpu_vendor", &c->cpu_vendor, err);
	if (r == 0 && c->cpu_vendor && strcmp(c->cpu_vendor, "amd") &&
	    strcmp(c->cpu_vendor, "intel"))
		r = wrong("cpu_vendor", err);
	if (r == 0)
		r = read_session(json, c, err);
	if (r == 0)
		r = read_command(json, c, err);
	if (r == 0)
		r = read_disks(json, c, err);
	if (r == 0)
		r = read_nets(json, c, err);
	json_decref(json);
	return r;
}
