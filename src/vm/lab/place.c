/* Name, folder and sockets of a run in the lab. */
#include "vm/lab/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/util.h"

static int listen_on(struct lab_place *p, const char *path, struct error *err)
{
	int r = qmp_socket_listen(path, &p->socket[p->control_count], err);

	if (r < 0)
		return r;
	p->control_fd[p->control_count] = p->socket[p->control_count].fd;
	p->control_count++;
	return 0;
}

static int listen_all(struct lab_place *p, struct error *err)
{
	CLEANUP_FREE char *path = text_format("%s/" RUNTIME_SOCKET, p->runtime.path);
	CLEANUP_FREE char *vsock = text_format("%s/" RUNTIME_VSOCK, p->runtime.path);
	struct error inner = {0};
	int r;

	p->keeper_path = text_format("%s/lab", p->runtime.path);
	if (!path || !vsock || !p->keeper_path)
		return error_set(err, -ENOMEM, "making the control socket");
	r = listen_on(p, path, err);
	if (r == 0)
		r = listen_on(p, vsock, err); /* LAB_VSOCK */
	if (r < 0 || !p->config->qmp)
		return r;
	r = listen_on(p, p->config->qmp, &inner);
	if (r < 0 && inner.kind == ERROR_USAGE)
		error_usage(err, "--qmp %s", inner.what);
	else if (r < 0)
		*err = inner;
	return r;
}

int lab_place_init(struct lab_place *place, struct vm_config *config, struct error *err)
{
	char *name = NULL;
	int r;

	*place = (struct lab_place){.config = config, .runtime = {.lock_fd = -1}};
	for (size_t i = 0; i < LAB_CONTROLS; i++)
		place->socket[i] = (struct qmp_socket){.fd = -1, .dir_fd = -1};
	r = runtime_claim(config->name, &name, &place->runtime, err);
	if (r < 0)
		return r;
	free(config->name);
	config->name = name;
	r = listen_all(place, err);
	if (r == 0) {
		r = runtime_publish(&place->runtime, vm_config_brief(config, "booting", true));
		if (r < 0)
			error_set_shortage(err, r, "writing to %s", place->runtime.path);
	}
	return r;
}

/* A snapshot's description names the host's files, not the lab's devices. */
static json_t *disk_paths(const struct vm_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->disk_count; i++) {
		CLEANUP_FREE char *path = realpath(c->disk[i].path, NULL);

		json_array_append_new(list, path ? json_string(path) : NULL);
	}
	return list;
}

void lab_place_opened(struct lab_place *place, bool private_lab)
{
	json_t *brief = vm_config_brief(place->config, "running", true);

	/* Where it is not said, nothing can be kept in there. */
	json_object_set_new(brief, "lab_stays", json_boolean(!private_lab));
	json_object_set_new(brief, "lab_arch", json_string(place->config->kind->name));
	json_object_set_new(brief, "lab_disks", disk_paths(place->config));
	(void)!runtime_publish(&place->runtime, brief);
}

void lab_place_done(struct lab_place *place)
{
	for (size_t i = 0; i < LAB_CONTROLS; i++)
		qmp_socket_done(&place->socket[i]);
	runtime_release(&place->runtime);
	free(place->keeper_path);
}
