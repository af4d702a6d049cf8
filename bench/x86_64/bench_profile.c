/* bench-profile: what a sample takes from a guest that computes, at 1 kHz. In CPU time of the
 * vCPU's thread, so that who else runs on the host is not in it. */
#include <errno.h>
#include <time.h>

#include "floor_kick.h"
#include "loop/loop.h"
#include "rig.h"
#include "vcpu/pool.h"
#include "vm/profile.h"
#include "vm/profiling.h"

#define ROUNDS	    100
#define PAIRS	    4u /* of each side in a round */
#define MEAN_NS	    1000000u
#define WORK	    125u /* some 5 ms of CPU time: what is near in time is alike */
#define SHALLOW_FEW 8
#define SETTLE	    10u

/* Pieces of work, in this order; a settling one before each that is measured. */
enum step { PLAIN_SETTLES, PLAIN, SAMPLED_SETTLES, SAMPLED, OVER };

struct product {
	struct rig rig;
	struct profile *profile;
	clockid_t clock; /* of the vCPU's thread */
	enum step step;
	uint32_t period; /* of its sampling */
	uint64_t from_ns, from_taken;
	uint64_t plain_ns, sampled_ns, samples;
	uint64_t shallow; /* samples that don't have the guest's stack */
};

/* ---- the product ----------------------------------------------------------------------- */

static void capture(unsigned vcpu, const struct arch_vcpu_state *state, struct sample *sample,
		    void *arg)
{
	struct product *p = arg;

	profiling_sample(NULL, &p->rig.mem, vcpu, state, sample);
}

static struct vcpu *the_vcpu(struct product *p)
{
	return vcpu_pool_get(p->rig.pool, 0);
}

static uint64_t cpu_ns(const struct product *p)
{
	struct timespec t = {0};

	clock_gettime(p->clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t taken(struct product *p)
{
	return atomic_load_explicit(&the_vcpu(p)->sampler->taken, memory_order_relaxed);
}

static void drain(struct product *p)
{
	const struct sample *sample;

	while ((sample = vcpu_sample_peek(the_vcpu(p)))) {
		p->shallow += sample->frames < FLOOR_KICK_FRAMES;
		profile_add(p->profile, 0, sample);
		vcpu_sample_release(the_vcpu(p));
	}
}

static void work(struct product *p, uint32_t how_long)
{
	atomic_store_explicit(&rig_area(&p->rig, 0)->answer, how_long, memory_order_relaxed);
}

/* A piece is over, and the vCPU waits for the answer. */
static void next_step(struct kvm_run *run UNUSED, const struct arch_exit *exit UNUSED, void *arg)
{
	struct product *p = arg;

	switch (p->step++) {
	case PLAIN_SETTLES:
		work(p, WORK);
		p->from_ns = cpu_ns(p);
		break;
	case PLAIN:
		p->plain_ns = cpu_ns(p) - p->from_ns;
		work(p, SETTLE);
		p->period = vcpu_pool_sample_start(p->rig.pool, MEAN_NS);
		break;
	case SAMPLED_SETTLES:
		work(p, WORK);
		p->from_taken = taken(p);
		p->from_ns = cpu_ns(p);
		break;
	case SAMPLED:
		p->sampled_ns = cpu_ns(p) - p->from_ns;
		p->samples = taken(p) - p->from_taken;
		work(p, SETTLE);
		vcpu_pool_sample_stop(p->rig.pool);
		break;
	default:
		p->step = OVER; /* until it is held */
		break;
	}
}

static int product_open(struct product *p, const struct bench *b, struct error *err)
{
	const struct sampling sampling = {.capture = capture, .arg = p};
	const struct rig_config config = {.count = 1,
					  .program = GUEST_WORK,
					  .pin = &b->options.cpu[0],
					  .serve = next_step,
					  .arg = p};
	int r = rig_prepare(&p->rig, &config, err);

	p->step = OVER;
	if (r < 0)
		return r;
	work(p, SETTLE);
	r = rig_start(&p->rig, err);
	if (r == 0)
		r = rig_hold(&p->rig, err);
	if (r == 0)
		r = vcpu_pool_sample_init(p->rig.pool, &sampling, err);
	if (r == 0 && profile_new(1, &p->profile) < 0)
		r = error_set_shortage(err, -ENOMEM, "making a profile");
	if (r == 0)
		r = -pthread_getcpuclockid(the_vcpu(p)->thread, &p->clock);
	return r < 0 ? error_set(err, r, "finding the clock of the vCPU's thread") : 0;
}

static int product_run(struct product *p, struct error *err)
{
	int r;

	p->step = PLAIN_SETTLES;
	r = rig_go(&p->rig, err);
	while (r == 0 && p->step < OVER)
		r = rig_turn(&p->rig, err);
	if (r == 0)
		r = rig_hold(&p->rig, err);
	if (r < 0)
		return r;
	drain(p);
	r = vcpu_sample_error(the_vcpu(p), p->period);
	return r < 0 ? error_set(err, r, "sampling") : 0;
}

/* ---- rounds ---------------------------------------------------------------------------- */

/* What each of n took of the time that the same work takes without. */
static int add(struct bench *b, enum results_side side, uint64_t plain_ns, uint64_t ns, uint64_t n,
	       struct error *err)
{
	if (n == 0)
		return 0;
	/* Where the host made the other piece slow it would be less than nothing, which no result
	 * may be: the median knows no difference. */
	return bench_sample(b, side, MAX(1, ((double)ns - (double)plain_ns) / (double)n), err);
}

static int floor_pair(struct bench *b, struct floor_kick *floor, struct error *err)
{
	uint64_t plain_ns, ns, kicks;
	int r = floor_kick_run(floor, SETTLE, 0, &ns, &kicks, err);

	if (r == 0)
		r = floor_kick_run(floor, WORK, 0, &plain_ns, &kicks, err);
	if (r == 0)
		r = floor_kick_run(floor, SETTLE, MEAN_NS, &ns, &kicks, err);
	if (r == 0)
		r = floor_kick_run(floor, WORK, MEAN_NS, &ns, &kicks, err);
	return r < 0 ? r : add(b, RESULTS_FLOOR, plain_ns, ns, kicks, err);
}

static int product_pair(struct bench *b, struct product *p, struct error *err)
{
	int r = product_run(p, err);

	return r < 0 ? r : add(b, RESULTS_PRODUCT, p->plain_ns, p->sampled_ns, p->samples, err);
}

static int one_round(struct bench *b, struct product *p, struct floor_kick *floor,
		     struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < PAIRS; i++) {
		r = floor_pair(b, floor, err);
		if (r == 0)
			r = product_pair(b, p, err);
	}
	return r;
}

/* Most of them saw the guest's stack, or it was another thing that was measured. One that was due
 * while the guest waited between two pieces of work has none of it: many, where hosts are busy. */
static int check_side(const char *whose, uint64_t all, uint64_t shallow, struct error *err)
{
	if (shallow <= all / 2 + SHALLOW_FEW)
		return 0;
	return error_failed(err, "%llu of %llu samples of %s side don't have the guest's stack",
			    (unsigned long long)shallow, (unsigned long long)all, whose);
}

static int check(const struct product *p, const struct floor_kick *floor, struct error *err)
{
	uint64_t shallow, all = floor_kick_seen(floor, &shallow);
	int r = check_side("the floor's", all, shallow, err);

	return r < 0 ? r
		     : check_side("the product's", p->profile->vcpu[0].samples, p->shallow, err);
}

static int measure(struct bench *b, struct error *err)
{
	struct floor_kick *floor = NULL;
	struct product p = {0};
	int r = floor_kick_open(b, &floor, err);

	if (r == 0)
		r = bench_pin(b, -1, err);
	if (r == 0)
		r = product_open(&p, b, err);
	if (r == 0)
		r = bench_pin(b, 1, err);
	while (r == 0 && bench_round(b, err))
		r = one_round(b, &p, floor, err);
	if (r == 0 && err->code == 0)
		r = check(&p, floor, err);
	rig_close(&p.rig);
	profile_free(p.profile);
	floor_kick_close(floor);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	static const struct results_spec spec =
		{"profile.sample", "what a sample takes from a guest that computes, at 1 kHz", "ns",
		 .goal = 1.25};

	if (bench_row(b, &spec, ROUNDS, err))
		return measure(b, err);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"profile", "samples of a profile, against the least that looks at a stack", run};

	return bench_main(&program, argc, argv);
}
