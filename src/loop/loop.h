/* The control thread's event loop on io_uring. It knows no device.
 *
 * Everything here is called on the thread that called loop_init (the control thread), except
 * loop_event_signal. An operation belongs to its submitter, is embedded in what it works on, and
 * pins it: neither may go before done() has run, cancel or not. done() always runs once, never
 * inside the call that submitted or cancelled it. */
#ifndef STASIS_LOOP_LOOP_H
#define STASIS_LOOP_LOOP_H

#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/error.h"

struct loop; /* opaque: owns the ring */

struct loop_op {
	/* res: the system call's result or a negative errno; -ECANCELED after loop_cancel. */
	void (*done)(struct loop_op *op, int res);
	bool active; /* between submission and done(); read-only for callers */
};

/* A place to look for work besides the ring: the exit hand-off. The loop calls poll() on every
 * turn; arm() just before it would block, disarm() just after it woke. */
struct loop_source {
	bool (*poll)(struct loop_source *s);   /* serves what is there; true if it found any */
	bool (*arm)(struct loop_source *s);    /* from now on wake me; true if work came meanwhile */
	void (*disarm)(struct loop_source *s); /* awake again: no wake-ups needed */
	struct loop_source *next;              /* the loop's */
};

/* Makes the ring (SINGLE_ISSUER and DEFER_TASKRUN where the kernel has them). Where io_uring is
 * disabled, the error says so and how to enable it. */
int loop_new(struct loop **ret_loop, struct error *err) MUST_CHECK;
/* Cancels what is active, waits for it, and frees. Accepts NULL. */
void loop_free(struct loop *loop);

/* Turns until loop_stop. Returns 0, or a negative errno if the ring itself fails. */
int loop_run(struct loop *loop) MUST_CHECK;
/* One turn: dispatches what is ready; blocks for at most timeout_ns when nothing is (0: not at
 * all, UINT64_MAX: for ever). Returns completions dispatched. */
int loop_turn(struct loop *loop, uint64_t timeout_ns);
/* From inside a callback: loop_run returns after this turn. */
void loop_stop(struct loop *loop);

void loop_add_source(struct loop *loop, struct loop_source *source);
/* Not from inside the source's own functions. Afterwards the source may go. */
void loop_remove_source(struct loop *loop, struct loop_source *source);
/* How long the loop keeps looking before it blocks; 0 (the default) never spins. */
void loop_set_spin(struct loop *loop, uint64_t spin_ns);

/* Operations. -EBUSY if op is active, -ENOMEM if the queue can't grow; otherwise 0 and done()
 * will run. Buffers and iovecs live until then. off -1: the file's own position. */
int loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len, uint64_t off) MUST_CHECK;
int loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len, uint64_t off) MUST_CHECK;
int loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned n, uint64_t off) MUST_CHECK;
int loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned n, uint64_t off) MUST_CHECK;
int loop_poll_fd(struct loop *loop, struct loop_op *op, int fd, short events) MUST_CHECK; /* res: revents */
int loop_accept(struct loop *loop, struct loop_op *op, int fd, int flags) MUST_CHECK;
int loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len, int flags) MUST_CHECK;
int loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len, int flags) MUST_CHECK;
/* Asks for an early end. done() still runs, with -ECANCELED or with what was reached before. */
void loop_cancel(struct loop *loop, struct loop_op *op);

/* A timer. fire() runs once for each loop_timer_set that is not replaced or cleared. */
struct loop_timer {
	void (*fire)(struct loop_timer *t);
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; the loop's while armed */
	size_t slot;          /* the loop's: place in its heap + 1, 0 while idle */
};
int loop_timer_set(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns) MUST_CHECK;
void loop_timer_clear(struct loop *loop, struct loop_timer *t);

/* An event descriptor that the loop watches. */
struct loop_event {
	void (*fire)(struct loop_event *e, uint64_t count); /* count: sum of what was written */
	int fd;           /* eventfd, non-blocking, close-on-exec; owned */
	uint64_t count;
	struct loop *loop;
	struct loop_op op;
	bool closing;
};
/* fire is set by the caller before. */
int loop_event_init(struct loop *loop, struct loop_event *e, struct error *err) MUST_CHECK;
/* Any thread, and signal handlers: one write(2). */
void loop_event_signal(const struct loop_event *e);
/* Stops watching and closes; turns the loop until the operation has ended. fire() runs no more. */
void loop_event_done(struct loop_event *e);

/* Host signals by signalfd. The caller has blocked them in every thread. */
struct loop_signals {
	void (*fire)(struct loop_signals *s, int signo);
	int fd;
	struct loop *loop;
	struct loop_op op;
	uint8_t buf[128]; /* struct signalfd_siginfo */
	bool closing;
};
int loop_signals_init(struct loop *loop, struct loop_signals *s, const int *signos, unsigned n,
		      struct error *err) MUST_CHECK;
void loop_signals_done(struct loop_signals *s);

#endif
