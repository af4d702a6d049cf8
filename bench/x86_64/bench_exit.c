/* bench-exit: what it costs a guest that its exits are handed to the control thread. Times of one
 * vCPU are the guest's own, by its time-stamp counter around the instruction. */
#include <stdio.h>

#include "floor_exit.h"
#include "loop/loop.h"
#include "rig.h"

#define ONE_EXITS  200u	 /* in a round, of one vCPU */
#define MANY_EXITS 1000u /* … of all together */
#define ROUNDS	   100

struct kind {
	struct results_spec spec;
	enum guest_program program;
	enum floor_answer floor;
	bool asleep; /* the control thread blocks at once when it has nothing to do */
};

static const struct kind kinds[] = {
	{{"exit.spin", "port read, answered by a control thread that spins", "ns", .goal = 1.10},
	 GUEST_ASK,
	 FLOOR_INLINE,
	 false},
	{{"exit.asleep", "port read, the control thread is woken; floor: plus one futex wake", "ns",
	  .goal = 1.10},
	 GUEST_ASK,
	 FLOOR_WAKE,
	 true},
	{{"exit.posted", "port write: the vCPU does not wait", "ns"},
	 GUEST_TELL,
	 FLOOR_INLINE,
	 false},
};

/* Lets the guests run until so many exits more were served. */
static int run_product(struct rig *rig, uint64_t exits, struct error *err)
{
	uint64_t target = rig->served + exits;
	int r = rig_go(rig, err);

	while (r == 0 && rig->served < target)
		r = rig_turn(rig, err);
	return r < 0 ? r : rig_hold(rig, err);
}

static int one_round(struct bench *b, struct rig *rig, struct floor_exit *floor, struct error *err)
{
	struct guest_area *area = floor_exit_area(floor, 0);
	uint64_t ns, from = atomic_load_explicit(&area->count, memory_order_relaxed);
	int r = floor_exit_run(floor, ONE_EXITS, &ns, err);

	if (r == 0)
		r = rig_samples(b, RESULTS_FLOOR, area, from, err);
	if (r < 0)
		return r;
	area = rig_area(rig, 0);
	from = atomic_load_explicit(&area->count, memory_order_relaxed);
	r = run_product(rig, ONE_EXITS, err);
	return r < 0 ? r : rig_samples(b, RESULTS_PRODUCT, area, from, err);
}

static int measure_one(struct bench *b, const struct kind *kind, struct error *err)
{
	const struct rig_config config = {.count = 1,
					  .program = kind->program,
					  .pin = &b->options.cpu[0]};
	struct floor_exit *floor = NULL;
	struct rig rig = {0};
	int r = floor_exit_open(b, 1, kind->program, kind->floor, true, &floor, err);

	/* The pool spins where it sees a host CPU for each thread: this one is bound after that. */
	if (r == 0)
		r = bench_pin(b, -1, err);
	if (r == 0)
		r = rig_open(&rig, &config, err);
	if (r == 0)
		r = bench_pin(b, 1, err);
	if (r == 0 && kind->asleep)
		loop_set_spin(rig.loop, 0);
	while (r == 0 && bench_round(b, err))
		r = one_round(b, &rig, floor, err);
	rig_close(&rig);
	floor_exit_close(floor);
	return err->code;
}

/* ---- many at once ---------------------------------------------------------------------- */

/* When a window's first exit was served, and its last. */
struct window {
	uint64_t exits, wanted, first_ns, last_ns;
};

static void serve_many(struct kvm_run *run UNUSED, const struct arch_exit *exit UNUSED, void *arg)
{
	struct window *w = arg;

	w->exits++;
	if (w->exits == 1)
		w->first_ns = now_ns();
	if (w->exits == w->wanted)
		w->last_ns = now_ns();
}

static int many_round(struct bench *b, struct rig *rig, struct window *window,
		      struct floor_exit *floor, struct error *err)
{
	uint64_t ns;
	int r = floor_exit_run(floor, MANY_EXITS, &ns, err);

	if (r == 0)
		r = bench_sample(b, RESULTS_FLOOR, (double)ns / (MANY_EXITS - 1), err);
	*window = (struct window){.wanted = MANY_EXITS};
	if (r == 0)
		r = run_product(rig, MANY_EXITS, err);
	if (r < 0)
		return r;
	ns = window->last_ns - window->first_ns;
	return bench_sample(b, RESULTS_PRODUCT, (double)ns / (MANY_EXITS - 1), err);
}

static int measure_many(struct bench *b, unsigned vcpus, struct error *err)
{
	struct window window = {0};
	const struct rig_config config = {.count = vcpus,
					  .program = GUEST_ASK,
					  .serve = serve_many,
					  .arg = &window};
	struct floor_exit *floor = NULL;
	struct rig rig = {0};
	int r = bench_pin(b, -1, err);

	if (r == 0)
		r = floor_exit_open(b, vcpus, GUEST_ASK, FLOOR_INLINE, false, &floor, err);
	if (r == 0)
		r = rig_open(&rig, &config, err);
	while (r == 0 && bench_round(b, err))
		r = many_round(b, &rig, &window, floor, err);
	rig_close(&rig);
	floor_exit_close(floor);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	static const struct {
		unsigned vcpus;
		const char *name;
	} many[] = {{1, "exit.many.1"},
		    {2, "exit.many.2"},
		    {4, "exit.many.4"},
		    {16, "exit.many.16"},
		    {64, "exit.many.64"}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		if (bench_row(b, &kinds[i].spec, ROUNDS, err))
			r = measure_one(b, &kinds[i], err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(many); i++) {
		const struct results_spec spec = {many[i].name,
						  "port reads of all vCPUs at once: time for each",
						  "ns"};

		if (bench_row(b, &spec, ROUNDS / 2, err))
			r = measure_many(b, many[i].vcpus, err);
	}
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"exit", "exits handed to the control thread, against exits answered in place",
		 run};

	return bench_main(&program, argc, argv);
}
