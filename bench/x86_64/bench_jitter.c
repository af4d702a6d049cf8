/* bench-jitter: how long a thread that only reads the time-stamp counter is kept from it, in the
 * guest and on the same host CPU without one. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"

#define WINDOWS 4u	 /* in a round */
#define WINDOW	1048576u /* gaps; as in the guest */
#define ROUNDS	40
#define LOOK_NS 1000000

static int floor_round(struct bench *b, struct error *err)
{
	int r = bench_pin(b, 0, err);

	for (unsigned i = 0; r == 0 && i < WINDOWS; i++)
		r = bench_sample(b, RESULTS_FLOOR,
				 (double)guest_gaps_on_host(WINDOW) * guest_tick_ns(), err);
	return r < 0 ? r : bench_pin(b, 1, err);
}

static int product_round(struct bench *b, struct rig *rig, struct error *err)
{
	const struct timespec look = {.tv_nsec = LOOK_NS};
	struct guest_area *area = rig_area(rig, 0);
	/* Relaxed: the samples are read when it is held. */
	uint64_t from = atomic_load_explicit(&area->count, memory_order_relaxed);
	int r = rig_go(rig, err);

	/* One more: the first has the freeze in it. */
	while (r == 0 &&
	       atomic_load_explicit(&area->count, memory_order_relaxed) < from + WINDOWS + 1)
		nanosleep(&look, NULL);
	if (r == 0)
		r = rig_hold(rig, err);
	return r < 0 ? r : rig_samples(b, RESULTS_PRODUCT, area, from, err);
}

/* One of what performance mode does for a vCPU, alone. The rest of it can't show here: the loop
 * neither halts nor pauses, and stays on its page. */
struct knob {
	struct results_spec spec;
	bool free, fifo, locked;
};

static const struct knob knobs[] = {
	{.spec = {"jitter.gap", "longest gap of 2^20 looks at the time; floor: on the host", "ns"}},
	{.spec = {"jitter.gap.free", "the same, bound to no host CPU", "ns"}, .free = true},
	{.spec = {"jitter.gap.fifo", "the same, bound, with SCHED_FIFO", "ns"}, .fifo = true},
	{.spec = {"jitter.gap.locked", "the same, bound, with memory locked", "ns"},
	 .locked = true},
};

static int turn_on(const struct knob *knob, struct rig *rig, struct error *err)
{
	const struct sched_param first = {.sched_priority = 1};

	if (knob->fifo &&
	    sched_setscheduler(vcpu_pool_get(rig->pool, 0)->tid, SCHED_FIFO, &first) < 0)
		return error_set_shortage(err, -errno, "SCHED_FIFO");
	if (knob->locked && mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		return error_set_shortage(err, -errno, "locking memory");
	return 0;
}

/* Whether we may: else the row says so, and is left out. */
static bool may(const struct bench *b, const struct knob *knob)
{
	const char *only = b->options.only;
	struct rlimit limit = {0};
	bool root = geteuid() == 0, ok = true;

	if (knob->fifo)
		ok = root || (getrlimit(RLIMIT_RTPRIO, &limit) == 0 && limit.rlim_cur > 0);
	if (knob->locked)
		ok = root ||
		     (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY);
	if (!ok && (!only || !strncmp(knob->spec.name, only, strlen(only))))
		bench_left_out(b, knob->spec.name, "ulimit -%s does not allow it",
			       knob->fifo ? "r" : "l");
	return ok;
}

static int measure(struct bench *b, const struct knob *knob, struct error *err)
{
	const struct rig_config config = {.count = 1,
					  .program = GUEST_GAPS,
					  .pin = knob->free ? NULL : &b->options.cpu[0]};
	struct rig rig = {0};
	int r = bench_pin(b, -1, err);

	if (r == 0)
		r = rig_open(&rig, &config, err);
	if (r == 0)
		r = turn_on(knob, &rig, err);
	while (r == 0 && bench_round(b, err)) {
		r = floor_round(b, err);
		if (r == 0)
			r = product_round(b, &rig, err);
	}
	rig_close(&rig);
	if (knob->locked)
		munlockall();
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(knobs); i++)
		if (may(b, &knobs[i]) && bench_row(b, &knobs[i].spec, ROUNDS, err))
			r = measure(b, &knobs[i], err);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"jitter", "time that the guest does not get",
						     run};

	return bench_main(&program, argc, argv);
}
