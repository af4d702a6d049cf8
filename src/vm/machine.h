/* One running machine: everything that vm.c builds and guest_events.c listens to. Private to
 * src/vm. Owned by the control thread. */
#ifndef STASIS_VM_MACHINE_H
#define STASIS_VM_MACHINE_H

#include "freeze/freeze.h"
#include "loop/loop.h"
#include "vcpu/vcpu.h"
#include "vm/board.h"
#include "vm/config.h"
#include "vm/console_log.h"
#include "vm/image.h"
#include "vm/perf/claim.h"
#include "vm/perf/evidence.h"
#include "vm/progress.h"
#include "vm/qmp/server.h"
#include "vm/qmp/socket.h"
#include "vm/result.h"
#include "vm/runtime.h"
#include "vm/session.h"
#include "vm/stream_out.h"
#include "vm/terminal.h"
#include "vm/vsock.h"

/* The console's ports: the order is the guest's port number. */
enum machine_port { PORT_CONSOLE, PORT_CONTROL, PORT_STDIN, PORT_STDOUT, PORT_STDERR, PORT_COUNT };

struct machine {
	struct vm_config *config;
	struct vm_result *result;
	struct runtime_vm runtime;
	struct vm_vsock vsock;

	struct loop *loop;
	struct kvm kvm;
	struct guest_memory mem;
	struct image image;
	struct arch_vm *arch;
	struct board board;
	struct vcpu_pool *pool;
	struct perf_claim claim;
	struct evidence evidence;

	struct virtio_console_port port[PORT_COUNT];
	struct session session;
	struct console_log log;
	struct stream_out console_out; /* the serial console, where somebody watches it */
	struct loop_op console_in;     /* … and its input, with -i */
	uint8_t console_in_buf[64];
	size_t console_in_len, console_in_sent;
	struct terminal terminal;
	struct progress progress;
	char memory_shown[64]; /* what progress says while memory is brought in */

	struct loop_signals signals;
	struct loop_timer timeout;
	struct loop_timer grace; /* after a panic: lets the last words out */
	struct loop_timer tick;	 /* progress */
	uint64_t started_ns;	 /* vCPUs go; 0 before */
	uint64_t command_ns;	 /* COMMAND started; 0 before */
	unsigned unflushed;	 /* output streams that still hold bytes at the end */
	char lost_output[128];	 /* why bytes of COMMAND's could not be written; empty: none */
	struct freeze freeze;
	struct loop_timer freeze_at;	   /* --freeze-at */
	struct loop_timer freeze_for;	   /* … its end */
	struct freeze_wait freeze_at_wait; /* … once it is due */
	bool freeze_stays;		   /* somebody else froze it, too: it is theirs to thaw */
	bool panicked;			   /* pvpanic said so */
	bool was_reset;			   /* the guest reset itself */
	bool ended;			   /* the outcome is decided */

	struct qmp_server *control;
	struct qmp_socket control_socket[QMP_LISTENERS]; /* in the VM's folder; --qmp's */
	const char *end_reason; /* of the command that ended it, as events name it; or NULL */
	bool panic_told;
};

/* ---- vm.c ------------------------------------------------------------------------------------ */

/* Counts of exits so far, as the result has them. NULL when out of memory. */
json_t *machine_exits(struct machine *m);

/* ---- control.c: the machine behind its control socket -----------------------------------------
 */

/* After the folder and the loop are there. Clients are served when the loop turns. */
int machine_control_start(struct machine *m, struct error *err) MUST_CHECK;
/* Says in info.json what it is and how it is: "booting", "running". */
int machine_publish(struct machine *m, const char *state) MUST_CHECK;
/* Tells clients, and info.json. */
void machine_tell_freeze(struct machine *m, bool frozen);
/* Tells clients, once. */
void machine_tell_panic(struct machine *m);
/* Tells clients how it ended, and lets them go. Not from inside a callback. Accepts one that never
 * started, with descriptors of -1. */
void machine_control_done(struct machine *m);

/* ---- guest_events.c: what the guest and the host's person do, and what becomes of the run ---- */

/* Sets up ports, session, timers' callbacks; before the board is made. */
void machine_events_init(struct machine *m);
/* After the loop exists: signals, console streams. */
int machine_events_start(struct machine *m, struct error *err) MUST_CHECK;
/* Called when the vCPUs go. */
int machine_events_running(struct machine *m, struct error *err) MUST_CHECK;
/* False if the kernel keeps an operation on the machine's streams for limit_ns. */
bool machine_events_done(struct machine *m, uint64_t limit_ns) MUST_CHECK;
/* Decides the outcome, once, and stops the loop. */
void machine_end(struct machine *m, enum vm_outcome outcome, int status, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
/* vcpu_pool's serve and failed. */
void machine_serve(struct vcpu *vcpu, struct kvm_run *run, const struct arch_exit *exit, void *arg);
void machine_vcpu_failed(struct vcpu *vcpu, void *arg);
extern const struct legacy_ops machine_legacy_ops;
void machine_uart_output(struct serial *uart, const uint8_t *data, size_t len);

/* ---- freeze_point.c: what freezes the machine, and what is kept of it -------------------------
 */

/* After the vCPUs were made, before they start. */
int machine_freeze_init(struct machine *m, struct error *err) MUST_CHECK;
/* When the vCPUs go. */
int machine_freeze_running(struct machine *m, struct error *err) MUST_CHECK;
/* Before vcpu_pool_stop: what waits for a freeze is told, and none begins any more. Accepts a
 * machine that was not built. */
void machine_freeze_kill(struct machine *m);
/* After it; before the pool and the loop are freed. */
void machine_freeze_done(struct machine *m);
/* Freezes until machine_thaw; as freeze_start (freeze/freeze.h). While frozen already it joins. */
int machine_freeze(struct machine *m, const char *cause, struct freeze_wait *wait,
		   struct error *err) MUST_CHECK;
/* -EALREADY where it is not frozen and not on the way there. */
int machine_thaw(struct machine *m, struct error *err) MUST_CHECK;
enum freeze_state machine_freeze_state(const struct machine *m);

#endif
