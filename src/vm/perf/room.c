/* Reads what room.h says. Any thread. */
#include "vm/perf/room.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"

#define FILE_MAX KIB(64)
#define GROUPS	 "/sys/fs/cgroup"

/* Of a text of lines, each "FIELD NUMBER" but for blanks; UINT64_MAX if there is none such. */
static uint64_t field_of(const char *text, const char *field)
{
	const char *line = strstr(text, field);
	uint64_t n;

	return line && sscanf(line + strlen(field), " %" SCNu64, &n) == 1 ? n : UINT64_MAX;
}

static uint64_t known(uint64_t n)
{
	return n == UINT64_MAX ? 0 : n;
}

static char *text_of(const char *root, const char *dir, const char *name)
{
	CLEANUP_FREE char *path = text_format("%s%s/%s", root, dir, name);
	char *text = NULL;
	size_t len;

	return path && file_read(path, FILE_MAX, &text, &len) == 0 ? text : NULL;
}

/* UINT64_MAX: "max", or no such file. */
static uint64_t number_of(const char *root, const char *dir, const char *name)
{
	CLEANUP_FREE char *text = text_of(root, dir, name);
	uint64_t n;

	if (!text)
		return UINT64_MAX;
	text[strcspn(text, "\n")] = '\0';
	return parse_uint(text, 0, UINT64_MAX, &n) < 0 ? UINT64_MAX : n;
}

/* The names of a version's files; of memory.stat the sums of a group with those below it. */
struct version {
	const char *folder, *limit, *usage, *inactive, *active;
};

static const struct version unified = {"", "memory.max", "memory.current", "\ninactive_file",
				       "\nactive_file"};
static const struct version controller = {"/memory", "memory.limit_in_bytes",
					  "memory.usage_in_bytes", "\ntotal_inactive_file",
					  "\ntotal_active_file"};

/* What a group has left, with the page cache that it is charged for. */
static uint64_t left_in(const char *root, const char *dir, const struct version *v)
{
	uint64_t limit = number_of(root, dir, v->limit), usage = number_of(root, dir, v->usage);
	CLEANUP_FREE char *stat = text_of(root, dir, "memory.stat");
	uint64_t cache =
		stat ? known(field_of(stat, v->inactive)) + known(field_of(stat, v->active)) : 0;

	if (limit == UINT64_MAX || usage == UINT64_MAX)
		return UINT64_MAX;
	usage -= MIN(usage, cache);
	return limit - MIN(limit, usage);
}

/* path: as /proc/self/cgroup has it; a container may see less of it, or only its end. */
static void room_of_groups(const char *root, char *path, const struct version *v,
			   struct perf_room *room)
{
	for (;;) {
		CLEANUP_FREE char *dir = text_format(GROUPS "%s%s", v->folder, path);
		uint64_t left = dir ? left_in(root, dir, v) : UINT64_MAX;
		char *last = strrchr(path, '/');

		if (left < room->bytes) {
			room->bytes = left;
			snprintf(room->whose, sizeof(room->whose), "control group %s",
				 *path ? path : "/");
			text_one_line(room->whose);
		}
		if (!last)
			return;
		*last = '\0';
	}
}

void perf_room_read(const char *root, struct perf_room *ret_room)
{
	CLEANUP_FREE char *memory = text_of(root, "/proc", "meminfo");
	CLEANUP_FREE char *groups = text_of(root, "/proc/self", "cgroup");
	uint64_t kib = memory ? field_of(memory, "MemAvailable:") : UINT64_MAX;
	char *rest = groups;

	*ret_room = (struct perf_room){
		.bytes = kib == UINT64_MAX ? UINT64_MAX : kib << 10,
		.whose = "the host",
	};
	/* "0::PATH" is version 2's line, "N:CONTROLLERS:PATH" one of version 1's. */
	for (char *line; (line = strsep(&rest, "\n"));) {
		char *names = strchr(line, ':');
		char *path = names ? strchr(names + 1, ':') : NULL;

		if (!path || path[1] != '/')
			continue;
		*path++ = '\0';
		if (!strcmp(path, "/"))
			path++;
		if (names[1] == '\0')
			room_of_groups(root, path, &unified, ret_room);
		else if (!strcmp(names + 1, "memory"))
			room_of_groups(root, path, &controller, ret_room);
	}
}

uint64_t perf_room_of_nodes(const char *root, const struct host_cpu_set *nodes)
{
	uint64_t kib = 0;

	for (unsigned n = 0; n < HOST_CPUS_MAX; n++) {
		CLEANUP_FREE char *name = NULL;
		CLEANUP_FREE char *text = NULL;
		uint64_t free_kib;

		if (!host_cpu_set_has(nodes, n))
			continue;
		name = text_format("node%u/meminfo", n);
		text = name ? text_of(root, "/sys/devices/system/node", name) : NULL;
		free_kib = text ? field_of(text, "MemFree:") : UINT64_MAX;
		if (free_kib == UINT64_MAX)
			return UINT64_MAX;
		kib += free_kib + known(field_of(text, " Active(file):")) +
		       known(field_of(text, " Inactive(file):"));
	}
	return kib << 10;
}
