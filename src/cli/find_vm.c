/* Finds a running VM. */
#include "cli/find_vm.h"

#include <errno.h>
#include <string.h>

#include "base/parse.h"
#include "base/util.h"
#include "vm/runtime.h"

const char *find_vm_text(const json_t *info, const char *key)
{
	return json_string_value(json_object_get(info, key)) ?: "";
}

static int no_such_vm(const json_t *list, const char *name, struct error *err)
{
	size_t n = json_array_size(list), i;
	CLEANUP_FREE const char **names = calloc(n + 1, sizeof(*names));
	const char *nearest = NULL;
	json_t *row;

	json_array_foreach((json_t *)(uintptr_t)list, i, row)
	{
		if (names)
			names[i] = find_vm_text(row, "name");
	}
	if (names)
		nearest = parse_nearest(name, names, n);
	/* Its own name: it has come, or is going. */
	if (nearest && !strcmp(nearest, name))
		return error_usage(err, "%s: this VM begins or ends just now", name);
	if (nearest)
		return error_usage(err, "%s: no VM of this name runs; did you mean %s?", name,
				   nearest);
	return error_usage(err, "%s: no VM of this name runs; %s", name,
			   n ? "stasis list shows those that do" : "none does at all");
}

int find_vm_none(const char *name, struct error *err)
{
	json_t *list;
	int r = runtime_list(&list, err);

	if (r < 0)
		return r;
	r = no_such_vm(list, name, err);
	json_decref(list);
	return r;
}

int find_vm(const char *name, json_t **ret_info, struct error *err)
{
	json_t *list, *row;
	size_t i;
	int r = runtime_list(&list, err);

	if (r < 0)
		return r;
	r = -ENOENT;
	json_array_foreach(list, i, row)
	{
		if (strcmp(find_vm_text(row, "name"), name))
			continue;
		*ret_info = json_incref(row);
		r = 0;
		break;
	}
	if (r < 0)
		r = no_such_vm(list, name, err);
	json_decref(list);
	return r;
}

int find_vm_open(const char *name, uint64_t limit_ns, struct qmp_client *ret_client,
		 struct error *err)
{
	json_t *vm;
	int r = find_vm(name, &vm, err);

	if (r < 0)
		return r;
	r = qmp_client_open(find_vm_text(vm, "qmp"), limit_ns, ret_client, err);
	json_decref(vm);
	/* It ended just now. */
	return r == -ENOENT || r == -ECONNREFUSED ? find_vm_none(name, err) : r;
}
