/* The loop's timers: a binary heap by deadline, then by order of setting. Control thread. */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "loop/ring.h"

static bool earlier(const struct loop_timer *a, const struct loop_timer *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->order < b->order;
}

static void put(struct loop *loop, struct loop_timer *t, size_t i)
{
	loop->heap[i] = t;
	t->slot = i + 1;
}

/* Moves t, whose place is the hole at i, to where it belongs. */
static void sift(struct loop *loop, struct loop_timer *t, size_t i)
{
	while (i && earlier(t, loop->heap[(i - 1) / 2])) {
		put(loop, loop->heap[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= loop->timers)
			break;
		if (child + 1 < loop->timers && earlier(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!earlier(loop->heap[child], t))
			break;
		put(loop, loop->heap[child], i);
		i = child;
	}
	put(loop, t, i);
}

int loop_timer_set(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns)
{
	loop_assert_thread(loop);
	if (!t->slot) {
		if (loop->timers == loop->heap_cap) {
			size_t cap = loop->heap_cap ? 2 * loop->heap_cap : 16;
			struct loop_timer **heap =
				reallocarray(loop->heap, cap, sizeof(struct loop_timer *));

			if (!heap)
				return -ENOMEM;
			loop->heap = heap;
			loop->heap_cap = cap;
		}
		t->slot = ++loop->timers;
	}
	/* Not before the running pass: a timer that always asks for the past comes after those
	 * that were due before it, and can't keep them from firing. */
	t->deadline_ns = MAX(deadline_ns, loop->pass_ns);
	t->order = loop->timer_order++;
	sift(loop, t, t->slot - 1);
	return 0;
}

void loop_timer_clear(struct loop *loop, struct loop_timer *t)
{
	size_t i;
	struct loop_timer *last;

	loop_assert_thread(loop);
	if (!t->slot)
		return;
	i = t->slot - 1;
	t->slot = 0;
	last = loop->heap[--loop->timers];
	if (last != t)
		sift(loop, last, i);
}

uint64_t loop_timers_head_ns(const struct loop *loop)
{
	return loop->timers ? loop->heap[0]->deadline_ns : UINT64_MAX;
}

unsigned loop_timers_fire(struct loop *loop)
{
	uint64_t limit = loop->timer_order;
	uint64_t pass_ns;
	unsigned fired = 0;

	if (!loop->timers)
		return 0;
	pass_ns = loop->pass_ns = now_ns();
	while (loop->timers) {
		struct loop_timer *t = loop->heap[0];

		if (t->deadline_ns > pass_ns || t->order >= limit)
			break;
		loop_timer_clear(loop, t);
		fired++;
		t->fire(t);
	}
	return fired;
}

void loop_timers_done(struct loop *loop)
{
	free(loop->heap);
	loop->heap = NULL;
	loop->timers = loop->heap_cap = 0;
}
