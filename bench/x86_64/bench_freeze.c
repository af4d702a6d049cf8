/* bench-freeze: from the decision to freeze until every vCPU has parked and time stands still; and
 * from the decision to thaw until every vCPU is about to enter KVM_RUN. */
#include <errno.h>
#include <time.h>

#include "floor_freeze.h"
#include "rig.h"

#define FREEZES	 5 /* in a round */
#define ROUNDS	 40
#define PAUSE_NS 1000000 /* frozen, and running: threads settle meanwhile */

struct kind {
	unsigned vcpus;
	enum guest_program program;
	const char *freeze, *thaw, *what;
};

/* More vCPUs than host CPUs that spin would measure the host's scheduler: one row does. */
static const struct kind kinds[] = {
	{1, GUEST_SPIN, "freeze.1", "freeze.1.thaw", "a vCPU that runs"},
	{2, GUEST_SPIN, "freeze.2", "freeze.2.thaw", "2 vCPUs that run"},
	{8, GUEST_HALT, "freeze.8", "freeze.8.thaw", "8 vCPUs, halted"},
	{64, GUEST_HALT, "freeze.64", "freeze.64.thaw", "64 vCPUs, halted"},
	{8, GUEST_SPIN, "freeze.8.busy", "freeze.8.busy.thaw", "8 vCPUs that run"},
};

static void settle(void)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	nanosleep(&pause, NULL);
}

/* Of a thaw that began at begin_ns. */
static int sample_thaw(struct bench *b, enum results_side side, uint64_t begin_ns,
		       struct error *err)
{
	uint64_t entered_ns = rig_entries_wait();

	if (!entered_ns)
		return error_failed(err, "thawing: not every vCPU went on in time");
	return bench_sample_companion(b, side, (double)(entered_ns - begin_ns), err);
}

static int floor_once(struct bench *b, struct floor_freeze *floor, unsigned vcpus,
		      struct error *err)
{
	uint64_t begin_ns;
	int r;

	settle();
	rig_entries_expect(vcpus);
	begin_ns = now_ns();
	r = floor_freeze_go(floor, err);
	if (r == 0)
		r = sample_thaw(b, RESULTS_FLOOR, begin_ns, err);
	settle();
	begin_ns = now_ns();
	if (r == 0)
		r = floor_freeze_hold(floor, err);
	return r < 0 ? r : bench_sample(b, RESULTS_FLOOR, (double)(now_ns() - begin_ns), err);
}

static int product_once(struct bench *b, struct rig *rig, struct error *err)
{
	uint64_t begin_ns;
	int r;

	settle();
	rig_entries_expect(rig->config.count);
	begin_ns = now_ns();
	r = rig_go(rig, err);
	if (r == 0)
		r = sample_thaw(b, RESULTS_PRODUCT, begin_ns, err);
	settle();
	begin_ns = now_ns();
	if (r == 0)
		r = rig_hold(rig, err);
	return r < 0 ? r
		     : bench_sample(b, RESULTS_PRODUCT, (double)(rig->frozen_ns - begin_ns), err);
}

static int measure(struct bench *b, const struct kind *kind, struct error *err)
{
	bool one = kind->vcpus == 1;
	const struct rig_config config = {
		.count = kind->vcpus,
		.program = kind->program,
		.pin = one ? &b->options.cpu[0] : NULL,
	};
	struct floor_freeze *floor = NULL;
	struct rig rig = {0};
	int r = bench_pin(b, -1, err);

	if (r == 0)
		r = floor_freeze_open(b, kind->vcpus, kind->program, one, &floor, err);
	if (r == 0)
		r = rig_open(&rig, &config, err);
	if (r == 0)
		r = bench_pin(b, one ? 1 : -1, err);
	while (r == 0 && bench_round(b, err)) {
		for (unsigned i = 0; r == 0 && i < FREEZES; i++)
			r = floor_once(b, floor, kind->vcpus, err);
		for (unsigned i = 0; r == 0 && i < FREEZES; i++)
			r = product_once(b, &rig, err);
	}
	rig_close(&rig);
	floor_freeze_close(floor);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		const struct results_spec freeze = {kind->freeze, kind->what, "ns", .goal = 1.25,
						    .goal_p99 = 2};
		const struct results_spec thaw = {kind->thaw, "… until the last is about to go on",
						  "ns", .goal = 1.25, .goal_p99 = 2};

		if (!bench_row(b, &freeze, ROUNDS, err))
			continue;
		r = bench_companion(b, &thaw, err);
		if (r == 0)
			r = measure(b, kind, err);
	}
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"freeze", "freezes until all vCPUs hold still, and thaws", run};

	return bench_main(&program, argc, argv);
}
