/* bench-jitter: how long a thread that only reads the time-stamp counter is kept from it, in the
 * guest and on the same host CPU without one. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"

#define WINDOWS 4u	 /* in a round */
#define WINDOW	1048576u /* gaps; as in the guest */
#define ROUNDS	20
#define LOOK_NS 1000000
#define ROOM	MIB(64) /* more than a machine of the rig maps */

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

/* What performance mode does for a vCPU that can show here: the loop neither halts nor pauses, and
 * stays on its page. Each of it alone, and all of it but each. */
enum { PIN = 1, FIFO = 2, LOCK = 4 };

struct knobs {
	struct results_spec spec;
	unsigned on;
};

static const struct knobs kinds[] = {
	{{"jitter.none", "longest gap of 2^20 looks at the time; floor: on the host", "ns"}, 0},
	{{"jitter.pin", "the same, bound to a host CPU", "ns"}, PIN},
	{{"jitter.fifo", "… with SCHED_FIFO alone", "ns"}, FIFO},
	{{"jitter.lock", "… with memory locked alone", "ns"}, LOCK},
	{{"jitter.all", "… with all three", "ns"}, PIN | FIFO | LOCK},
	{{"jitter.no.pin", "… but bound to no host CPU", "ns"}, FIFO | LOCK},
	{{"jitter.no.fifo", "… but without SCHED_FIFO", "ns"}, PIN | LOCK},
	{{"jitter.no.lock", "… but with memory not locked", "ns"}, PIN | FIFO},
};

/* Tried, not asked for: limits, capabilities and filters all have a say. */
static bool may_be_first(void)
{
	const struct sched_param first = {.sched_priority = 1};
	struct sched_param old = {0};
	int policy = sched_getscheduler(0);

	(void)sched_getparam(0, &old);
	if (sched_setscheduler(0, SCHED_FIFO, &first) < 0)
		return false;
	(void)sched_setscheduler(0, policy, &old);
	return true;
}

/* Likewise, with as much mapped as there will be. */
static bool may_lock(void)
{
	void *room =
		mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bool locked = mlockall(MCL_CURRENT | MCL_FUTURE) == 0;

	(void)munlockall();
	if (room != MAP_FAILED)
		munmap(room, ROOM);
	return locked;
}

/* Else the row says so, and is left out. */
static bool may(const struct bench *b, const struct knobs *k)
{
	const char *only = b->options.only, *lacks = NULL;

	if (only && strncmp(k->spec.name, only, strlen(only)) != 0)
		return true;
	if (k->on & FIFO && !may_be_first())
		lacks = "SCHED_FIFO is refused: that takes ulimit -r 1, or CAP_SYS_NICE";
	else if (k->on & LOCK && !may_lock())
		lacks = "locking memory is refused: that takes ulimit -l unlimited, or "
			"CAP_IPC_LOCK";
	if (lacks)
		bench_left_out(b, k->spec.name, "%s", lacks);
	return !lacks;
}

static int make_first(const struct rig *rig, struct error *err)
{
	const struct sched_param first = {.sched_priority = 1};

	return sched_setscheduler(vcpu_pool_get(rig->pool, 0)->tid, SCHED_FIFO, &first) < 0
		       ? error_set_shortage(err, -errno, "SCHED_FIFO")
		       : 0;
}

/* Memory is locked by turns, as it is measured by turns: it is the process's, and the floor has no
 * knob on. What was locked once is there, so that this is quick. */
static int locked_round(struct bench *b, struct rig *rig, struct error *err)
{
	int r;

	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		return error_set_shortage(err, -errno, "locking memory");
	r = product_round(b, rig, err);
	(void)munlockall();
	return r;
}

static int measure(struct bench *b, const struct knobs *k, struct error *err)
{
	const struct rig_config config = {.count = 1,
					  .program = GUEST_GAPS,
					  .pin = k->on & PIN ? &b->options.cpu[0] : NULL};
	struct rig rig = {0};
	int r = bench_pin(b, -1, err);

	if (r == 0)
		r = rig_open(&rig, &config, err);
	if (r == 0 && k->on & FIFO)
		r = make_first(&rig, err);
	while (r == 0 && bench_round(b, err)) {
		r = floor_round(b, err);
		if (r == 0)
			r = k->on & LOCK ? locked_round(b, &rig, err) : product_round(b, &rig, err);
	}
	rig_close(&rig);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		if (may(b, &kinds[i]) && bench_row(b, &kinds[i].spec, ROUNDS, err))
			r = measure(b, &kinds[i], err);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"jitter", "time that the guest does not get",
						     run};

	return bench_main(&program, argc, argv);
}
