/* The commands of the control socket, by name. Private to src/vm/qmp. Control thread. */
#ifndef STASIS_VM_QMP_COMMANDS_H
#define STASIS_VM_QMP_COMMANDS_H

#include "vm/qmp/ops.h"

/* What a command works on. */
struct qmp_call {
	const struct qmp_ops *ops;
	void *arg;
	const json_t *arguments; /* an object, checked against the command's list; or NULL */
	/* For a command that takes its time: to be given to ops. NULL when out of memory. */
	struct qmp_wait *(*later)(struct qmp_call *call);
	json_t *ret; /* what it returns; NULL: an empty object */
};

#define QMP_LATER 1 /* the answer comes with wait->done */

struct qmp_parameter {
	const char *name;
	json_type type; /* JSON_TRUE stands for both booleans */
	bool needed;
};

#define QMP_PARAMETERS 8

struct qmp_command {
	const char *name;
	/* 0, QMP_LATER, or a negative errno with err. */
	int (*run)(struct qmp_call *call, struct error *err);
	struct qmp_parameter parameter[QMP_PARAMETERS];
};

/* NULL: there is none. */
const struct qmp_command *qmp_command_find(const char *name);
/* Whether the arguments (NULL: none) are the command's. */
int qmp_command_check(const struct qmp_command *command, const json_t *arguments,
		      struct error *err) MUST_CHECK;
/* {"qemu": {"major", …}, "package"}: the greeting has it as well. NULL when out of memory. */
json_t *qmp_version(void);

#endif
