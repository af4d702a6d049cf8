/* Saves a machine into a folder, and begins one from it. Private to src/vm. Control thread.
 *
 * Saving: freeze ─► each vCPU thread reads its own state ─► VM, devices ─► memory, through the loop
 * ─► state, description ─► the folder gets its name ─► on, or the end.
 * Restoring: the folder is read and checked as a whole, memory is mapped; vm_run then builds a
 * machine as always, whose vCPU threads take their state where others are set up. */
#ifndef STASIS_VM_SNAPSHOT_H
#define STASIS_VM_SNAPSHOT_H

#include "freeze/freeze.h"
#include "freeze/snapshot_folder.h"
#include "freeze/snapshot_state.h"
#include "freeze/vmcore.h"
#include "vm/config.h"
#include "vm/snapshot_chain.h"

struct machine;
struct qmp_snapshot; /* vm/qmp/ops.h */

/* ---- saving ---------------------------------------------------------------------------------- */

struct snapshot {
	char *path;
	bool keep_running; /* else the machine ends, once it is saved */
	/* Once, never inside machine_snapshot: err NULL when the folder is there. */
	void (*done)(struct snapshot *s, const struct error *err);
	void *arg;

	/* snapshot.c's */
	struct machine *machine;
	struct freeze_wait wait;
	bool frozen, told;
	bool ending; /* the machine does: it does not run once more */
	struct loop_op sync;
	size_t disk; /* that is synced */
	struct snapshot_folder folder;
	char id[SNAPSHOT_ID_LEN + 1];
	struct state_io *vcpu;		 /* of each vCPU; owned */
	struct snapshot_writer sections; /* of the state, but for the memory's table */
	struct memory_table table;
	struct vmcore *memory; /* being written, or NULL */

	char *base; /* the folder that it is to differ from, or NULL */
	struct snapshot_layers below;
	struct layers_reader *reader; /* … of that */
};

/* Begins. done() does not run after a failure. Usage errors where such a machine can't be saved;
 * contention while another is on its way. */
int machine_snapshot(struct machine *m, const struct qmp_snapshot *request,
		     void (*done)(struct snapshot *s, const struct error *err), void *arg,
		     struct error *err) MUST_CHECK;
/* The machine ends: who waits is told. False if the kernel keeps a write for limit_ns. Before
 * freeze_kill. */
bool machine_snapshot_kill(struct machine *m, uint64_t limit_ns) MUST_CHECK;
/* After vcpu_pool_stop. */
void machine_snapshot_done(struct machine *m);

/* ---- restoring ------------------------------------------------------------------------------- */

struct restore {
	char *path;
	struct snapshot_top top;
	struct snapshot_layers layers;
	struct state_io *vcpu; /* a section of each; owned */
};

/* Reads the folder and checks what can be checked without a machine. Fills in c as
 * snapshot_read_description. Usage errors begin with the path. */
int restore_open(const char *path, struct vm_config *c, struct restore **ret_restore,
		 struct error *err) MUST_CHECK;
void restore_free(struct restore *r); /* accepts NULL */
/* As snapshot_layers_lay. */
int restore_memory(struct restore *r, struct guest_memory *mem, struct error *err) MUST_CHECK;
/* After restore_memory: all of it is copied and mapped, so that the guest waits for no page;
 * nothing is shared then. Contention where the host lacks the memory. */
int restore_prefault(struct restore *r, const struct guest_memory *mem,
		     struct error *err) MUST_CHECK;
/* Whether the disks, which the board has opened and locked, are as they were. */
int restore_check_disks(const struct machine *m, struct error *err) MUST_CHECK;
/* All but the vCPUs; takes every section. Devices wired, no vCPU set up. */
int restore_machine(struct machine *m, struct error *err) MUST_CHECK;
/* vCPU thread: instead of arch_vcpu_setup. arg: the machine. */
int restore_vcpu(struct vcpu *vcpu, void *arg, struct error *err) MUST_CHECK;
/* Control thread: once they all have, and before any runs. arg: the machine. */
int restore_vcpus_ready(void *arg, struct error *err) MUST_CHECK;
/* Then, and once the machine is ready to hear of its guest: devices go on. */
void restore_resume(struct machine *m);

#endif
