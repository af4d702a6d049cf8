/* What a run in the lab has outside: a name, its folder and its control sockets, so that it is
 * found as any other VM is. Calling thread. */
#ifndef STASIS_VM_LAB_PLACE_H
#define STASIS_VM_LAB_PLACE_H

#include "vm/config.h"
#include "vm/lab/lab.h"
#include "vm/qmp/socket.h"
#include "vm/runtime.h"

struct lab_place {
	const struct vm_config *config; /* borrowed */
	struct runtime_vm runtime;
	struct qmp_socket socket[LAB_CONTROLS]; /* in the folder; --qmp's */
	int control_fd[LAB_CONTROLS];
	size_t control_count;
	char *keeper_path; /* owned */
};

/* A file of the warm lab's in the runtime directory: its "sock", "lock", "json". malloc'ed; NULL:
 * err says why. */
char *lab_file_of(const struct arch_kind *kind, const char *suffix, struct error *err);

/* Claims the name (and makes one up where config has none), publishes, listens. On failure
 * lab_place_done still takes it. */
int lab_place_init(struct lab_place *place, struct vm_config *config, struct error *err) MUST_CHECK;
/* The VM has been started inside. */
void lab_place_opened(struct lab_place *place, bool private_lab);
void lab_place_done(struct lab_place *place);

#endif
