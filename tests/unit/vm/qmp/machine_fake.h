/* A machine behind the control socket that is none: it counts what it is asked to do, and freezes
 * when the test says so. */
#ifndef TESTS_UNIT_VM_QMP_MACHINE_FAKE_H
#define TESTS_UNIT_VM_QMP_MACHINE_FAKE_H

#include "vm/qmp/ops.h"

struct machine_fake {
	enum qmp_state state;
	unsigned cpus;
	bool slow;   /* a freeze or dump waits for machine_fake_finish */
	bool refuse; /* a freeze fails at once */
	struct qmp_wait *wait;
	unsigned freezes, thaws, dumps, nmis, quits, resets;
	unsigned cancels;		  /* of profiles */
	unsigned snapshots, kept, packed; /* … that it goes on after, that are packed */
	char base_path[64];
	char dump_path[64];
};

extern const struct qmp_ops machine_fake_ops;
/* One that can do nothing but tell of itself. */
extern const struct qmp_ops machine_fake_bare_ops;

void machine_fake_init(struct machine_fake *m);
/* The end of what is waited for; failure may be NULL. */
void machine_fake_finish(struct machine_fake *m, const char *failure);

#endif
