/* The ring's life and the turn: submit, wait, sources, completions, timers. Control thread. */
#include "loop/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "loop/ring.h"

#define DISABLED_PATH	  "/proc/sys/kernel/io_uring_disabled"
#define FEATURES_NEEDED	  (IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS | IORING_FEAT_EXT_ARG)
#define SHORTAGE_PAUSE_NS 1000000u
#define SPIN_TRIES	  3u
#define SPIN_RETRY	  16u
/* Waits longer than this are for ever; the kernel's own sums of times stay in range. */
#define WAIT_MAX_NS (100ull * 365 * 86400 * 1000000000u)

/* Newest kernel first; the last is for any that has the features needed. */
static const unsigned setup_modes[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		IORING_SETUP_SUBMIT_ALL,						 /* 6.1 */
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, /* 5.19 */
	0,
};

int loop_explain_setup(int code, const char *disabled, struct error *err)
{
	int r;

	switch (code) {
	case -EPERM:
		if (disabled[0] == '2') {
			r = error_contention(err, "io_uring is disabled on this host "
						  "(kernel.io_uring_disabled is 2)");
			error_hint(err, "sysctl kernel.io_uring_disabled=0");
		} else if (disabled[0] == '1') {
			r = error_contention(err, "io_uring is disabled for this user "
						  "(kernel.io_uring_disabled is 1)");
			error_hint(err, "sysctl kernel.io_uring_disabled=0, or join the group of "
					"kernel.io_uring_group");
		} else {
			r = error_contention(err, "io_uring is refused, by a seccomp filter or a "
						  "security module");
			error_hint(err, "allow io_uring_setup, io_uring_enter and "
					"io_uring_register where this container or service is set "
					"up; sysctl kernel.io_uring_disabled=0 is already so");
		}
		return r;
	case -ENOSYS:
		r = error_contention(err, "this kernel has no io_uring, or a seccomp filter hides "
					  "it");
		error_hint(err, "a kernel of 5.11 or later with CONFIG_IO_URING, and sysctl "
				"kernel.io_uring_disabled=0");
		return r;
	default:
		return error_set_shortage(err, code, "setting up io_uring");
	}
}

static int explain(int code, struct error *err)
{
	CLEANUP_FREE char *disabled = NULL;
	size_t len;

	if (file_read(DISABLED_PATH, 64, &disabled, &len) < 0)
		return loop_explain_setup(code, "", err);
	return loop_explain_setup(code, disabled, err);
}

int loop_new(struct loop **ret_loop, struct error *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	struct io_uring_params params;
	int r = -EINVAL;

	if (!loop)
		return error_set_shortage(err, -ENOMEM, "setting up io_uring");
	loop->thread = pthread_self();
	LIST_INIT(&loop->active);
	LIST_INIT(&loop->watches);
	for (size_t i = 0; i < ARRAY_SIZE(setup_modes) && r == -EINVAL; i++) {
		memset(&params, 0, sizeof(params));
		params.flags = setup_modes[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
		params.cq_entries = LOOP_CQ_ENTRIES;
		r = io_uring_queue_init_params(LOOP_SQ_ENTRIES, &loop->ring, &params);
	}
	if (r < 0) {
		free(loop);
		return explain(r, err);
	}
	if ((params.features & FEATURES_NEEDED) != FEATURES_NEEDED) {
		io_uring_queue_exit(&loop->ring);
		free(loop);
		r = error_contention(err, "this kernel's io_uring is too old");
		error_hint(err, "a kernel of 5.11 or later");
		return r;
	}
	*ret_loop = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	struct loop_op *op;
	uint64_t end_ns;
	unsigned left = 0;

	if (!loop)
		return;
	loop_assert_thread(loop);
	loop_watches_detach(loop);
	loop->freeing = true;
	LIST_FOREACH (op, &loop->active, link)
		loop_cancel(loop, op);
	end_ns = now_ns() + LOOP_FREE_LIMIT_NS;
	while (!LIST_EMPTY(&loop->active)) {
		uint64_t now = now_ns();

		if (now >= end_ns || loop_turn(loop, end_ns - now) < 0)
			break;
	}
	LIST_FOREACH (op, &loop->active, link)
		left++;
	if (left)
		log_warn("the kernel keeps %u I/O operations past their cancellation", left);
	io_uring_queue_exit(&loop->ring);
	loop_timers_done(loop);
	free(loop);
}

void loop_add_source(struct loop *loop, struct loop_source *source)
{
	loop_assert_thread(loop);
	source->next = loop->sources;
	loop->sources = source;
}

void loop_remove_source(struct loop *loop, struct loop_source *source)
{
	loop_assert_thread(loop);
	for (struct loop_source **at = &loop->sources; *at; at = &(*at)->next) {
		if (*at == source) {
			*at = source->next;
			return;
		}
	}
}

void loop_set_spin(struct loop *loop, uint64_t spin_ns)
{
	loop->spin_ns = MIN(spin_ns, WAIT_MAX_NS);
	loop->spins_in_vain = 0;
}

int loop_set_worker_cpus(struct loop *loop, const cpu_set_t *cpus, size_t size)
{
	loop_assert_thread(loop);
	return io_uring_register_iowq_aff(&loop->ring, size, cpus);
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}

/* How many of the sources found work. */
static unsigned poll_sources(struct loop *loop)
{
	unsigned found = 0;

	if (loop->in_sources || loop->freeing)
		return 0;
	loop->in_sources = true;
	for (struct loop_source *s = loop->sources; s; s = s->next)
		found += s->poll(s);
	loop->in_sources = false;
	return found;
}

static void disarm_sources(struct loop *loop, const struct loop_source *end)
{
	for (struct loop_source *s = loop->sources; s != end; s = s->next)
		s->disarm(s);
}

/* True once all are armed; false, with none armed, where one has work. */
static bool arm_sources(struct loop *loop)
{
	for (struct loop_source *s = loop->sources; s; s = s->next) {
		if (s->arm(s)) {
			disarm_sources(loop, s->next);
			return false;
		}
	}
	return true;
}

/* What only an entry to the kernel brings to the queue. */
static unsigned kernel_holds(const struct loop *loop)
{
	/* Relaxed: the kernel sets these flags to be noticed, and orders nothing by them. */
	return IO_URING_READ_ONCE(*loop->ring.sq.kflags) &
	       (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* After an entry that ran what was there. The kernel lists a completion first and sets
 * IORING_SQ_TASKRUN second (io_uring/io_uring.c, io_req_local_work_add): an entry between the two
 * leaves the mark behind, which stays until the next completion. Nothing may spin on that. Where
 * the mark is new after all, the entry that sleeps finds what it is for. */
static void entered(struct loop *loop)
{
	loop->mark_stale =
		kernel_holds(loop) == IORING_SQ_TASKRUN && !io_uring_cq_ready(&loop->ring);
}

/* 0 for a result of the ring that is no failure of the ring. */
static int ring_result(int r)
{
	switch (r) {
	case -EAGAIN:
	case -EBUSY:
	case -ENOMEM:
	case -EINTR:
	case -ETIME:
		return 0;
	default:
		return r < 0 ? r : 0;
	}
}

int loop_ring_submit(struct loop *loop)
{
	int r;

	if (io_uring_sq_ready(&loop->ring))
		r = io_uring_submit_and_get_events(&loop->ring);
	else if (kernel_holds(loop))
		r = io_uring_get_events(&loop->ring);
	else
		return 0;
	entered(loop);
	return ring_result(r);
}

/* Submits, and sleeps until a completion, end_ns or a signal. */
static int ring_wait(struct loop *loop, uint64_t end_ns)
{
	struct __kernel_timespec ts, *timeout = NULL;
	struct io_uring_cqe *cqe;
	int r;

	if (end_ns != UINT64_MAX) {
		uint64_t now = now_ns();
		uint64_t left_ns = end_ns > now ? end_ns - now : 0;

		ts.tv_sec = (int64_t)(left_ns / 1000000000u);
		ts.tv_nsec = (int64_t)(left_ns % 1000000000u);
		timeout = left_ns < WAIT_MAX_NS ? &ts : NULL;
	}
	r = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, timeout, NULL);
	entered(loop);
	if (r == -EAGAIN || r == -EBUSY || r == -ENOMEM) {
		/* The kernel is short of memory or wants completions taken first; the second
		 * follows at once, the first needs time. */
		const struct timespec pause = {.tv_nsec = SHORTAGE_PAUSE_NS};

		if (!io_uring_cq_ready(&loop->ring))
			nanosleep(&pause, NULL);
	}
	return ring_result(r);
}

static bool ring_ready(const struct loop *loop)
{
	return io_uring_cq_ready(&loop->ring) || (kernel_holds(loop) && !loop->mark_stale);
}

/* Looks until end_ns. Returns true if there is something to do; what sources did is in *served. */
static bool spin(struct loop *loop, uint64_t end_ns, unsigned *served)
{
	for (unsigned i = 1;; i++) {
		unsigned found = poll_sources(loop);

		*served += found;
		if (found || ring_ready(loop))
			return true;
		cpu_relax();
		/* The clock costs more than a look. */
		if (i % 8 == 0 && now_ns() >= end_ns)
			return false;
	}
}

/* Who is waited for may wait for our host CPU. Then each spin only keeps it from work, and no spin
 * ever tells: after a few in vain it is one of every SPIN_RETRY waits. */
static bool may_spin(struct loop *loop)
{
	if (!loop->spin_ns || loop->freeing || loop->mark_stale)
		return false;
	if (loop->spins_in_vain < SPIN_TRIES)
		return true;
	loop->spins_in_vain++;
	return (loop->spins_in_vain - SPIN_TRIES) % SPIN_RETRY == 0;
}

/* Nothing was ready. Spins, then sleeps, for no longer than timeout_ns or the first timer. */
static int wait_for_work(struct loop *loop, uint64_t timeout_ns, unsigned *served)
{
	uint64_t now = now_ns();
	uint64_t end_ns;
	bool armed;
	int r;

	if (loop->cancels_owed || loop->watches_owed)
		timeout_ns = MIN(timeout_ns, SHORTAGE_PAUSE_NS);
	if (__builtin_add_overflow(now, timeout_ns, &end_ns))
		end_ns = UINT64_MAX;
	if (!loop->freeing)
		end_ns = MIN(end_ns, loop_timers_head_ns(loop));
	if (may_spin(loop)) {
		uint64_t spin_end_ns = MIN(end_ns, now + loop->spin_ns);

		r = loop_ring_submit(loop);
		if (r < 0)
			return r;
		/* Submits what the sources queued, and brings in what the kernel holds. */
		if (spin(loop, spin_end_ns, served)) {
			loop->spins_in_vain = 0;
			return loop_ring_submit(loop);
		}
		if (end_ns == spin_end_ns)
			return 0;
		loop->spins_in_vain += loop->spins_in_vain < SPIN_TRIES;
	}
	armed = !loop->in_sources && !loop->freeing;
	if (armed && !arm_sources(loop))
		return 0;
	r = ring_wait(loop, end_ns);
	if (armed)
		disarm_sources(loop, NULL);
	return r;
}

/* Runs done() of what had completed when the turn looked; what comes meanwhile is the next
 * turn's. Each entry is given back first, so that a turn inside done() goes on behind it. */
static unsigned dispatch(struct loop *loop, unsigned end)
{
	struct io_uring *ring = &loop->ring;
	struct io_uring_cqe *cqe;
	unsigned n = 0;

	while ((int)(end - *ring->cq.khead) > 0 && io_uring_peek_cqe(ring, &cqe) == 0) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(ring, cqe);
		if (!op)
			continue;
		if (op->cancel_owed)
			loop->cancels_owed--;
		/* A worker's system call that the cancellation broke off. */
		if (op->cancelling && res == -EINTR)
			res = -ECANCELED;
		op->active = op->cancelling = op->cancel_owed = false;
		LIST_REMOVE(op, link);
		n++;
		op->done(op, res);
	}
	return n;
}

int loop_turn(struct loop *loop, uint64_t timeout_ns)
{
	unsigned served = 0;
	unsigned end;
	int r;

	loop_assert_thread(loop);
	loop_retry_cancels(loop);
	loop_watches_retry(loop);
	if (timeout_ns && !ring_ready(loop))
		served = poll_sources(loop);
	if (timeout_ns && !served && !ring_ready(loop) &&
	    (loop->freeing || !loop->timers || loop_timers_head_ns(loop) > now_ns()))
		r = wait_for_work(loop, timeout_ns, &served);
	else
		r = loop_ring_submit(loop);
	if (r < 0)
		return r;
	/* Completions first, then the sources, then done(): see struct loop_source. */
	end = *loop->ring.cq.khead + io_uring_cq_ready(&loop->ring);
	served += poll_sources(loop);
	served += dispatch(loop, end);
	if (!loop->freeing)
		served += loop_timers_fire(loop);
	return (int)served;
}

int loop_run(struct loop *loop)
{
	int r = 0;

	while (r >= 0 && !loop->stopped)
		r = loop_turn(loop, UINT64_MAX);
	loop->stopped = false;
	return r < 0 ? r : 0;
}
