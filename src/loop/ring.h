/* The inside of the loop, shared by its sources only. Control thread. */
#ifndef STASIS_LOOP_RING_H
#define STASIS_LOOP_RING_H

#include <assert.h>
#include <liburing.h>
#include <pthread.h>

#include "loop/loop.h"

#define LOOP_SQ_ENTRIES 256
#define LOOP_CQ_ENTRIES 4096
#define LOOP_FILES	64
#define LOOP_FILE_FIRST (-2) /* handle of slot 0; the others lie below */

struct loop {
	struct io_uring ring;
	pthread_t thread; /* the only one that may come here */
	LIST_HEAD(, loop_op) active;

	/* Wanted, but the ring could not take them; each turn tries again. */
	unsigned cancels_owed;
	unsigned watches_owed;
	LIST_HEAD(, loop_watch) watches;

	struct loop_source *sources;
	bool in_sources; /* a poll() is on the stack */
	uint64_t spin_ns;
	unsigned spins_in_vain; /* one after another: see may_spin */
	bool mark_stale;	/* IORING_SQ_TASKRUN is set, and says nothing: see entered */

	struct loop_timer **heap; /* binary, earliest first */
	size_t timers;
	size_t heap_cap;
	uint64_t timer_order; /* of the next timer set */
	uint64_t pass_ns;     /* the time that the last pass over the timers took as now */

	uint64_t files_used; /* slots, as bits; all where there is no table */
	bool files_tried;

	bool stopped;
	bool freeing;
};

static inline void loop_assert_thread(const struct loop *loop)
{
	(void)loop;
	assert(pthread_equal(loop->thread, pthread_self()));
}

/* Fills err for a failed io_uring_setup; disabled is the text of kernel.io_uring_disabled, or
 * empty where there is none. Returns a negative errno. */
int loop_explain_setup(int code, const char *disabled, struct error *err);
/* Submits what is queued and collects what has completed, without waiting. 0, or a negative errno
 * if the ring fails; a shortage is none, and leaves the rest queued. */
int loop_ring_submit(struct loop *loop) MUST_CHECK;
/* Cancels again what could not be. */
void loop_retry_cancels(struct loop *loop);

/* UINT64_MAX when no timer is armed. */
uint64_t loop_timers_head_ns(const struct loop *loop);
/* Fires what was due before the pass began; returns how many. */
unsigned loop_timers_fire(struct loop *loop);
void loop_timers_done(struct loop *loop);

void loop_watches_retry(struct loop *loop);
/* Takes every event and signal set from its owner. */
void loop_watches_detach(struct loop *loop);

#endif
