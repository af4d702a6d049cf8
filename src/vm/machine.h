/* One running machine: everything that vm.c builds and guest_events.c listens to. Private to
 * src/vm. Owned by the control thread. */
#ifndef STASIS_VM_MACHINE_H
#define STASIS_VM_MACHINE_H

#include "base/beside.h"
#include "base/log.h"
#include "freeze/dump.h"
#include "freeze/watch_set.h"
#include "loop/loop.h"
#include "vcpu/vcpu.h"
#include "vm/board.h"
#include "vm/capture.h"
#include "vm/config.h"
#include "vm/console_log.h"
#include "vm/image.h"
#include "vm/monitor.h"
#include "vm/perf/claim.h"
#include "vm/perf/counters.h"
#include "vm/perf/evidence.h"
#include "vm/profiling.h"
#include "vm/progress.h"
#include "vm/qmp/server.h"
#include "vm/qmp/socket.h"
#include "vm/result.h"
#include "vm/runtime.h"
#include "vm/session.h"
#include "vm/snapshot.h"
#include "vm/stream_out.h"
#include "vm/terminal.h"
#include "vm/vsock.h"

/* The console's ports: the order is the guest's port number. */
enum machine_port { PORT_CONSOLE, PORT_CONTROL, PORT_STDIN, PORT_STDOUT, PORT_STDERR, PORT_COUNT };

/* The watches of a run, and the freezes that they need. */
struct watching {
	struct watch_set set;
	struct freeze_wait wait;   /* to find and arm them */
	bool waits;		   /* … under way */
	bool armed;		   /* once, at least */
	struct loop_timer retry;   /* a kernel that is not there yet */
	uint64_t retry_ns;	   /* … after which time */
	struct dump_cause cause;   /* the last hit */
	struct freeze_wait on_hit; /* … which froze the guest */
	bool hit;		   /* … and still has */
	uint32_t served;	   /* slots whose hits this freeze is about, too */
	struct log_limit log;
};

/* The monitor of a run. */
struct monitoring {
	struct monitor *monitor; /* NULL: not yet, or not to be had */
	struct loop_timer retry; /* a kernel that is not there yet */
	uint64_t retry_ns;	 /* … after which time */
	int csv_fd;		 /* until the monitor has it; -1: none */
	struct beside csv;	 /* of a record: the file that csv_fd is, until it is whole */
	struct error lack;	 /* why there is none so far */
	bool holds;		 /* the guest stands at a stall: --on-stall freeze */
	struct log_limit log;
};

/* What inspection.c remembers while the kernel is not found. */
struct machine_inspection {
	uint64_t from;	      /* where the next search begins */
	struct error lack;    /* why the last one failed … */
	uint64_t lack_freeze; /* … in which freeze, by freeze.freezes: until its end it stays so */
};

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
	bool halts_unseen;  /* a halted vCPU stays in the guest */
	bool control_spins; /* performance mode: the control thread never sleeps */
	struct evidence evidence;
	uint64_t threads_ns;	  /* when the vCPU threads were about to begin */
	struct counters counters; /* with config->counters */

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
	bool freeze_stays;		   /* until machine_thaw */
	bool freeze_quiet;		   /* for the machine's own sake, which is told nobody */
	bool freeze_told;		   /* clients know that it is frozen */
	struct capture_state capture;
	struct snapshot *snapshot;	    /* on its way, or NULL */
	struct loop_event snapshot_event;   /* its last vCPU has read its state */
	char (*saved)[SNAPSHOT_ID_LEN + 1]; /* ids of what it was saved to; owned */
	size_t saved_count;
	bool core_stuck;	 /* the kernel keeps a write of a core: guest memory has to stay */
	struct inspect *inspect; /* inspection.c's; NULL: not found yet */
	struct machine_inspection inspection;
	struct watching watching;     /* watch_point.c's */
	struct monitoring monitoring; /* machine_monitor.c's */
	struct profiling profiling;   /* profiling.c's */
	struct trace *trace;	      /* tracing.c's; NULL: none */
	bool panicked;		      /* pvpanic said so */
	bool was_reset;		      /* the guest reset itself */
	bool ended;		      /* the outcome is decided */

	struct qmp_server *control;
	struct qmp_socket control_socket[QMP_LISTENERS]; /* in the VM's folder; --qmp's */
	const char *end_reason; /* of the command that ended it, as events name it; or NULL */
	bool panic_told;
};

/* ---- vm.c ------------------------------------------------------------------------------------ */

/* Counts of exits so far, as the result has them. NULL when out of memory. */
json_t *machine_exits(struct machine *m);
/* What disks and networks have done so far: an array of each. */
json_t *machine_disks(const struct machine *m);
json_t *machine_nets(const struct machine *m);

/* ---- control.c: the machine behind its control socket -----------------------------------------
 */

/* After the folder and the loop are there. Clients are served when the loop turns. */
int machine_control_start(struct machine *m, struct error *err) MUST_CHECK;
/* Says in info.json what it is and how it is: "booting", "running". */
int machine_publish(struct machine *m, const char *state) MUST_CHECK;
/* Tells clients, and info.json. */
void machine_tell_freeze(struct machine *m, bool frozen);
/* Tells clients that a core was written, or why not. */
void machine_tell_core(struct machine *m, const struct error *err);
/* Tells clients. */
void machine_tell_stall(struct machine *m, const struct monitor_stall *stall);
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
/* Restored, and its devices go on. */
void machine_events_resumed(struct machine *m);
/* False if the kernel keeps an operation on the machine's streams for limit_ns. */
bool machine_events_done(struct machine *m, uint64_t limit_ns) MUST_CHECK;
/* Decides the outcome, once, and stops the loop, where there is one. */
void machine_end(struct machine *m, enum vm_outcome outcome, int status, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
/* vcpu_pool's serve and failed. */
void machine_serve(struct vcpu *vcpu, struct kvm_run *run, const struct arch_exit *exit, void *arg);
void machine_vcpu_failed(struct vcpu *vcpu, void *arg);
extern const struct legacy_ops machine_legacy_ops;
void machine_uart_output(struct serial *uart, const uint8_t *data, size_t len);

/* ---- inspection.c ---------------------------------------------------------------------------- */

/* The guest's kernel, found when it is first asked for, with what the vmlinux of its build tree
 * adds where the kernel lies in one: up to a second of work, and errors as inspect_search
 * (inspect/inspect.h). Searches anew after a failure, but once in a freeze. Valid until
 * machine_inspect_done. */
int machine_inspect(struct machine *m, const struct inspect **ret_in, struct error *err) MUST_CHECK;
void machine_inspect_done(struct machine *m);

/* ---- watch_point.c: --watch, --watch-scx, --on-hit ---------------------------------------------
 */

/* After machine_freeze_init, before the vCPUs start. */
int machine_watch_init(struct machine *m, struct error *err) MUST_CHECK;
/* When the vCPUs go: for guests whose init says nothing. */
void machine_watch_running(struct machine *m);
/* The guest's init is there: it is told to start COMMAND once everything is armed. */
void machine_watch_hello(struct machine *m);
/* KVM_EXIT_DEBUG of a vCPU, which stands behind its store. */
void machine_watch_exit(struct machine *m, const struct arch_exit *exit);
/* The machine ends: says whether it stood still at a hit. */
bool machine_watch_frozen(const struct machine *m);
/* After the last vCPU ended. */
void machine_watch_done(struct machine *m);

/* ---- machine_monitor.c: --monitor ---------------------------------------------------------------
 */

/* Before the vCPUs start. */
int machine_monitor_init(struct machine *m, struct error *err) MUST_CHECK;
/* When the vCPUs go: for guests whose init says nothing. */
void machine_monitor_running(struct machine *m);
/* The guest's init is there: what it starts is monitored from its start. */
void machine_monitor_hello(struct machine *m);
/* The machine ends: says whether it stood still at a stall. */
bool machine_monitor_frozen(const struct machine *m);
/* The loop has ended: no look any more but the last. */
void machine_monitor_stop(struct machine *m);
/* The vCPUs have ended. False if the kernel keeps a write for limit_ns. Accepts a machine that was
 * not built. */
bool machine_monitor_done(struct machine *m, uint64_t limit_ns) MUST_CHECK;

/* ---- tracing.c: the trace of a record
 * ------------------------------------------------------------
 */

/* When the vCPUs go. */
void machine_trace_running(struct machine *m);
/* Something happens now; vcpu -1: to the machine. */
void machine_trace_mark(struct machine *m, int vcpu, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A freeze is over. */
void machine_trace_frozen(struct machine *m, const struct freeze_report *report);
/* The vCPU threads have ended: it is written. Before machine_profile_done. */
void machine_trace_done(struct machine *m);

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
/* As freeze_start. quiet: not a freeze that clients and the result are told of, unless somebody
 * joins it. */
int machine_freeze_begin(struct machine *m, const char *cause, bool quiet, struct freeze_wait *wait,
			 struct error *err) MUST_CHECK;
/* The caller has begun one, and leaves it to machine_thaw: who froze twice thaws once. */
void machine_freeze_stay(struct machine *m);
/* Freezes until machine_thaw; as freeze_start (freeze/freeze.h). While frozen already it joins. */
int machine_freeze(struct machine *m, const char *cause, struct freeze_wait *wait,
		   struct error *err) MUST_CHECK;
/* -EALREADY where it is not frozen and not on the way there. While something is made of the frozen
 * guest, it goes on after that. */
int machine_thaw(struct machine *m, struct error *err) MUST_CHECK;

/* ---- capture.c: what a frozen machine leaves behind -------------------------------------------
 */

/* Freezes if it runs, makes what c wants, calls c->done, and thaws what nobody else holds. Past the
 * rendezvous's deadline, a dump is of those that did park, and a core fails. -ESHUTDOWN where the
 * machine does not run, and as freeze_start: c->done does not run then. */
int machine_capture(struct machine *m, struct capture *c, struct error *err) MUST_CHECK;
enum capture_then { CAPTURE_THAW, CAPTURE_STAY };
/* The same for --dump's and --vmcore's files (FILE, then FILE.2 and so on), for what the run itself
 * found: what fails is logged and in degraded. cause is copied. CAPTURE_STAY: until machine_thaw.
 */
int machine_freeze_and_capture(struct machine *m, const struct dump_cause *cause,
			       enum capture_then then, struct error *err) MUST_CHECK;
/* A rendezvous is given up, and its vCPUs are not let go yet. */
void machine_capture_late(struct machine *m);
/* The machine ends: what is under way fails. False if the kernel keeps a write for limit_ns. Before
 * freeze_kill, which tells the rest. */
bool machine_capture_kill(struct machine *m, uint64_t limit_ns) MUST_CHECK;

#endif
