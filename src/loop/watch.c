/* Events and host signals. The operation that waits for one lives in a watch of its own, which
 * outlasts its owner until the kernel has given the operation back. Control thread. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/util.h"
#include "loop/ring.h"

/* A flood of queued signals lets the rest of the loop have its turn. */
#define SIGNALS_PER_TURN 64

struct loop_watch {
	struct loop_op op;
	LIST_ENTRY(loop_watch) link;
	struct loop *loop;
	struct loop_event *event;     /* this or */
	struct loop_signals *signals; /* this; none once the owner has let go */
	int fd;
	bool firing; /* fire() is on the stack */
	bool owed;   /* should wait, but its operation is not in the ring */
	uint64_t count;
};

static void watch_free(struct loop_watch *w)
{
	if (w->owed)
		w->loop->watches_owed--;
	LIST_REMOVE(w, link);
	fd_close(&w->fd);
	free(w);
}

static void watch_owe(struct loop_watch *w)
{
	if (w->owed)
		return;
	w->owed = true;
	w->loop->watches_owed++;
}

/* Signals are polled, and read on this thread: a read in the ring may be made by a kernel worker,
 * which has no signals of ours pending. */
static void watch_arm(struct loop_watch *w)
{
	int r = w->event ? loop_read(w->loop, &w->op, w->fd, &w->count, sizeof(w->count), 0)
			 : loop_poll_fd(w->loop, &w->op, w->fd, POLLIN);

	if (r < 0) {
		watch_owe(w);
	} else if (w->owed) {
		w->owed = false;
		w->loop->watches_owed--;
	}
}

static void fire_signals(struct loop_watch *w)
{
	struct signalfd_siginfo info;

	for (unsigned i = 0; i < SIGNALS_PER_TURN && w->signals; i++) {
		if (read(w->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
			break;
		w->signals->fire(w->signals, (int)info.ssi_signo);
	}
}

static void watch_ended(struct loop_op *op, int res)
{
	struct loop_watch *w = container_of(op, struct loop_watch, op);

	w->firing = true;
	if (w->event && res == (int)sizeof(w->count))
		w->event->fire(w->event, w->count);
	else if (w->signals && res > 0)
		fire_signals(w);
	w->firing = false;
	if (!w->event && !w->signals)
		watch_free(w);
	else if (res < 0 && res != -EINTR && res != -EAGAIN)
		watch_owe(w); /* Short of something; at the loop's pace, so as not to spin. */
	else
		watch_arm(w);
}

static struct loop_watch *watch_new(struct loop *loop, int fd)
{
	struct loop_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->op.done = watch_ended;
	w->loop = loop;
	w->fd = fd;
	LIST_INSERT_HEAD(&loop->watches, w, link);
	return w;
}

/* The owner has let go. */
static void watch_close(struct loop_watch *w)
{
	w->event = NULL;
	w->signals = NULL;
	if (w->op.active)
		loop_cancel(w->loop, &w->op);
	else if (!w->firing)
		watch_free(w);
}

int loop_event_init(struct loop *loop, struct loop_event *e, struct error *err)
{
	loop_assert_thread(loop);
	e->watch = NULL;
	e->fd = eventfd(0, EFD_CLOEXEC);
	if (e->fd < 0)
		return error_set_shortage(err, -errno, "making an event descriptor");
	e->watch = watch_new(loop, e->fd);
	if (!e->watch) {
		fd_close(&e->fd);
		return error_set_shortage(err, -ENOMEM, "watching an event descriptor");
	}
	e->watch->event = e;
	watch_arm(e->watch);
	return 0;
}

void loop_event_signal(const struct loop_event *e)
{
	static const uint64_t one = 1;
	int saved = errno;

	while (write(e->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved;
}

void loop_event_done(struct loop_event *e)
{
	if (!e->watch)
		return;
	watch_close(e->watch);
	e->watch = NULL;
	e->fd = -1;
}

int loop_signals_init(struct loop *loop, struct loop_signals *s, const int *signos, unsigned n,
		      struct error *err)
{
	sigset_t set;

	loop_assert_thread(loop);
	s->watch = NULL;
	s->fd = -1;
	sigemptyset(&set);
	for (unsigned i = 0; i < n; i++) {
		if (sigaddset(&set, signos[i]) < 0)
			return error_set(err, -errno, "watching signal %d", signos[i]);
	}
	s->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->fd < 0)
		return error_set_shortage(err, -errno, "making a signal descriptor");
	s->watch = watch_new(loop, s->fd);
	if (!s->watch) {
		fd_close(&s->fd);
		return error_set_shortage(err, -ENOMEM, "watching a signal descriptor");
	}
	s->watch->signals = s;
	watch_arm(s->watch);
	return 0;
}

void loop_signals_done(struct loop_signals *s)
{
	if (!s->watch)
		return;
	watch_close(s->watch);
	s->watch = NULL;
	s->fd = -1;
}

void loop_watches_retry(struct loop *loop)
{
	struct loop_watch *w;

	if (!loop->watches_owed)
		return;
	LIST_FOREACH (w, &loop->watches, link) {
		if (w->owed && !w->firing)
			watch_arm(w);
	}
}

void loop_watches_detach(struct loop *loop)
{
	struct loop_watch *w, *next;

	for (w = LIST_FIRST(&loop->watches); w; w = next) {
		next = LIST_NEXT(w, link);
		if (w->event)
			loop_event_done(w->event);
		else if (w->signals)
			loop_signals_done(w->signals);
	}
}
