/* The control thread's event loop on io_uring. It knows no device.
 *
 * Everything here is called on the thread that called loop_new (the control thread), except
 * loop_event_signal. An operation belongs to its submitter, is embedded in what it works on, and
 * pins it: neither may go before done() has run, cancel or not. done() always runs once, never
 * inside the call that submitted or cancelled it. */
#ifndef STASIS_LOOP_LOOP_H
#define STASIS_LOOP_LOOP_H

#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/error.h"

struct loop; /* opaque: owns the ring */

struct loop_op {
	/* res: the system call's result or a negative errno; -ECANCELED after loop_cancel. */
	void (*done)(struct loop_op *op, int res);
	bool active;		      /* between submission and done(); read-only for callers */
	bool cancelling, cancel_owed; /* the loop's, as is the link */
	LIST_ENTRY(loop_op) link;
};

/* A place to look for work besides the ring: the exit hand-off. The loop calls poll() on every
 * turn, between seeing that operations have completed and running their done(): what was posted
 * before an event was signalled is served before the event fires. arm() comes just before the
 * loop would block, disarm() just after it woke, and no poll() in between. A turn made from
 * inside poll() leaves all sources alone. */
struct loop_source {
	bool (*poll)(struct loop_source *s); /* serves what is there; true if it found any */
	bool (*arm)(struct loop_source *s);  /* from now on wake me; true if work came meanwhile */
	void (*disarm)(struct loop_source *s); /* awake again: no wake-ups needed */
	struct loop_source *next;	       /* the loop's */
};

/* Makes the ring (SINGLE_ISSUER and DEFER_TASKRUN where the kernel has them). Where io_uring is
 * disabled, the error says so and how to enable it. */
int loop_new(struct loop **ret_loop, struct error *err) MUST_CHECK;
/* Cancels what is active, waits for it, and frees. Accepts NULL. done() runs, with -ECANCELED for
 * most; what it submits is refused with -ECANCELED; sources and timers are left alone. Events and
 * signals still open are closed. Not from inside a callback. An operation that the kernel keeps
 * for LOOP_FREE_LIMIT_NS is given up with a log line: its done() never runs, its memory must stay.
 */
#define LOOP_FREE_LIMIT_NS 2000000000u
void loop_free(struct loop *loop);

/* Turns until loop_stop; not at all after a loop_stop that no run has answered yet. Returns 0, or
 * a negative errno if the ring itself fails. */
int loop_run(struct loop *loop) MUST_CHECK;
/* One turn: submits what was queued, dispatches what is ready; blocks for at most timeout_ns when
 * nothing is (0: not at all, UINT64_MAX: for ever), or until a signal's handler has run. Returns
 * how many completions, timers and sources it served, or a negative errno if the ring itself
 * fails. A callback may call it. */
int loop_turn(struct loop *loop, uint64_t timeout_ns);
/* From inside a callback: loop_run returns after this turn. */
void loop_stop(struct loop *loop);

void loop_add_source(struct loop *loop, struct loop_source *source);
/* Not from inside the callbacks of a source. */
void loop_remove_source(struct loop *loop, struct loop_source *source);
/* How long the loop keeps looking before it blocks; 0 (the default) never spins. Where that was in
 * vain a few times running, it looks only now and then, until it finds something again. */
void loop_set_spin(struct loop *loop, uint64_t spin_ns);

/* What the kernel does for us besides, on threads of its own (fdatasync, fallocate, I/O that would
 * wait), it does on these host CPUs only, and not on ours: for a loop that spins for ever ahead of
 * all else. Negative errno; Linux before 5.14 has -EINVAL. io_uring_register(2),
 * IORING_REGISTER_IOWQ_AFF. */
int loop_set_worker_cpus(struct loop *loop, const cpu_set_t *cpus, size_t size) MUST_CHECK;

/* Operations. -EBUSY if op is active, -ENOMEM if the queue is full and the kernel takes none,
 * -ECANCELED inside loop_free; otherwise 0 and done() will run. op is zeroed but for done before
 * its first use. A turn makes the system call, in the order of submission: buffers, iovecs and fd
 * live until done(). off -1: the file's own position. A read or write of a non-blocking descriptor
 * waits or ends with -EAGAIN, as the kind of file and the kernel have it: poll it first. The
 * process ignores SIGPIPE. */
int loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len,
	      uint64_t off) MUST_CHECK;
int loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len,
	       uint64_t off) MUST_CHECK;
int loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned n,
	       uint64_t off) MUST_CHECK;
int loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned n,
		uint64_t off) MUST_CHECK;
/* A handle that stands for fd in the reads and writes above, and in the two below: the ring holds
 * the file, and each operation is that much cheaper. fd itself where that can't be had. The file
 * stays open until loop_file_forget, which accepts any fd; no operation on the handle is active
 * then. */
int loop_file_register(struct loop *loop, int fd);
void loop_file_forget(struct loop *loop, int handle);
/* As fdatasync(2): covers every write whose done() has run. */
int loop_fdatasync(struct loop *loop, struct loop_op *op, int fd) MUST_CHECK;
/* As fallocate(2): mode is its FALLOC_FL_ bits. */
int loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t off,
		   uint64_t len) MUST_CHECK;
int loop_poll_fd(struct loop *loop, struct loop_op *op, int fd,
		 short events) MUST_CHECK; /* res: revents */
int loop_accept(struct loop *loop, struct loop_op *op, int fd, int flags) MUST_CHECK;
int loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len,
	      int flags) MUST_CHECK;
int loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len,
	      int flags) MUST_CHECK;
/* Asks for an early end. done() still runs, with -ECANCELED or with what was reached before. */
void loop_cancel(struct loop *loop, struct loop_op *op);
/* Cancels and turns the loop until done() has run. False if the kernel keeps the operation for
 * limit_ns, or the ring fails: what op works on has to stay then. */
bool loop_cancel_wait(struct loop *loop, struct loop_op *op, uint64_t limit_ns) MUST_CHECK;

/* A timer. fire() runs once for each loop_timer_set that is not replaced or cleared. */
struct loop_timer {
	void (*fire)(struct loop_timer *t);
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; the loop's while armed */
	uint64_t order;	      /* the loop's: equal deadlines fire in the order of setting */
	size_t slot;	      /* the loop's: place in its heap + 1, 0 while idle */
};
/* Replaces the deadline of an armed timer, which can't fail; -ENOMEM is for idle ones only. One
 * that is set inside fire() fires in a later turn, however early its deadline. */
int loop_timer_set(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns) MUST_CHECK;
void loop_timer_clear(struct loop *loop, struct loop_timer *t);

struct loop_watch; /* opaque: the operation behind an event or signals, the loop's */

/* An event descriptor that the loop watches. It orders nothing: what a writer hands over, it
 * publishes by an atomic of its own. The counter is read by a waiting read in the ring, so the
 * descriptor is a blocking one, yet no writer ever waits: KVM adds without waiting, and by
 * loop_event_signal alone the counter takes 2^64 - 2 signals to fill. Nobody else writes. */
struct loop_event {
	void (*fire)(struct loop_event *e, uint64_t count); /* count: sum of what was written */
	int fd;						    /* close-on-exec; owned */
	struct loop_watch *watch;
};
/* fire is set by the caller before. */
int loop_event_init(struct loop *loop, struct loop_event *e, struct error *err) MUST_CHECK;
/* Any thread, and signal handlers: one write(2). errno is kept. */
void loop_event_signal(const struct loop_event *e);
/* Stops watching: fire() runs no more and e is the caller's again at once, also inside fire().
 * The descriptor closes when the kernel has ended the read, a turn or so later. Accepts one that
 * is zeroed, done, or never came up. */
void loop_event_done(struct loop_event *e);

/* Host signals by signalfd. The caller has blocked them in every thread. */
struct loop_signals {
	void (*fire)(struct loop_signals *s, int signo);
	int fd; /* non-blocking, close-on-exec; owned */
	struct loop_watch *watch;
};
int loop_signals_init(struct loop *loop, struct loop_signals *s, const int *signos, unsigned n,
		      struct error *err) MUST_CHECK;
/* As loop_event_done. */
void loop_signals_done(struct loop_signals *s);

#endif
