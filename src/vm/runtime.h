/* The runtime directory: one folder for each running VM, and no shared names.
 *
 *   $XDG_RUNTIME_DIR/stasis, or /run/stasis (root), or /tmp/stasis-UID     0700
 *     NAME/lock        held exclusively (flock) for as long as the VM's process lives
 *     NAME/info.json   pid, shape, state, path of the control socket
 *     NAME/qmp         the control socket
 *     NAME/vsock       the guest's sockets (vm/vsock.h)
 *
 * A folder whose lock nobody holds is left over from a crash; the next start removes it. */
#ifndef STASIS_VM_RUNTIME_H
#define STASIS_VM_RUNTIME_H

#include <jansson.h>

#include "base/error.h"

#define RUNTIME_SOCKET "qmp"
#define RUNTIME_VSOCK  "vsock"

struct runtime_vm {
	char *path;  /* the VM's folder; owned */
	int lock_fd; /* -1: none */
};

/* The directory itself, made where it lacks; malloc'ed. Refuses one that another user owns. */
int runtime_dir(char **ret_path, struct error *err) MUST_CHECK;
/* Usage error: no name of a VM. */
int runtime_check_name(const char *name, struct error *err) MUST_CHECK;
/* Claims NAME (NULL: makes one up and gives it in *ret_name, malloc'ed) after removing what
 * crashes left over. A name in use is a usage error. */
int runtime_claim(const char *name, char **ret_name, struct runtime_vm *ret_vm,
		  struct error *err) MUST_CHECK;
/* Replaces info.json, whole or not at all, and adds where the control socket is. Takes the
 * reference. */
int runtime_publish(const struct runtime_vm *vm, json_t *info) MUST_CHECK;
/* Removes the folder and releases the lock. Accepts a zeroed one with lock_fd -1. */
void runtime_release(struct runtime_vm *vm);
/* An array with the info of every VM that runs; what crashes left over is removed. */
int runtime_list(json_t **ret_list, struct error *err) MUST_CHECK;

#endif
