/* bench-jitter: how long a thread that only reads the time-stamp counter is kept from it, in the
 * guest and on the same host CPU without one. */
#include <time.h>

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

static int run(struct bench *b, struct error *err)
{
	static const struct results_spec spec =
		{"jitter.gap", "longest gap of 2^20 looks at the time; floor: on the host", "ns"};
	const struct rig_config config = {.count = 1,
					  .program = GUEST_GAPS,
					  .pin = &b->options.cpu[0]};
	struct rig rig = {0};
	int r;

	if (!bench_row(b, &spec, ROUNDS, err))
		return err->code;
	r = rig_open(&rig, &config, err);
	while (r == 0 && bench_round(b, err)) {
		r = floor_round(b, err);
		if (r == 0)
			r = product_round(b, &rig, err);
	}
	rig_close(&rig);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"jitter", "time that the guest does not get",
						     run};

	return bench_main(&program, argc, argv);
}
