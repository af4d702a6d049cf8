/* bench-accounts: what it costs a guest that its exits are accounted for: the same machine, by
 * turns with its accounts and without. Linked with --wrap for what writes them. */
#include <errno.h>
#include <time.h>

#include "loop/loop.h"
#include "rig.h"
#include "vcpu/pool.h"

#define ROUNDS 100
#define TURNS  4u   /* of each side in a round: what else the host does changes slower */
#define EXITS  100u /* in a turn, of a guest that only exits */
#define PIECES 4u   /* … of one that works in between … */
#define WORK   25u  /* … for some millisecond each time */

struct kind {
	struct results_spec spec;
	enum guest_program program;
};

static const struct kind kinds[] = {
	{{"accounts.ask", "port reads and nothing else, with accounts; floor: without", "ns",
	  .goal = 1.01},
	 GUEST_ASK},
	{{"accounts.tell", "port writes, that the vCPU does not wait for: the same", "ns",
	  .goal = 1.01},
	 GUEST_TELL},
	{{"accounts.work",
	  "1000 port reads a second, and work: the same, CPU time of a read and "
	  "the work before it",
	  "ns", .goal = 1.01},
	 GUEST_WORK},
};

/* ---- with accounts, or without --------------------------------------------------------- */

/* Whether they are kept: written while all vCPUs are parked. */
static bool kept = true;

void __real_account_exit(struct account *a, const struct kvm_run *run);
void __wrap_account_exit(struct account *a, const struct kvm_run *run);
void __real_account_interrupted(struct account *a, bool woken);
void __wrap_account_interrupted(struct account *a, bool woken);
void __real_account_return(struct account *a, uint64_t now, uint64_t from, uint64_t to);
void __wrap_account_return(struct account *a, uint64_t now, uint64_t from, uint64_t to);

void __wrap_account_exit(struct account *a, const struct kvm_run *run)
{
	if (kept)
		__real_account_exit(a, run);
}

void __wrap_account_interrupted(struct account *a, bool woken)
{
	if (kept)
		__real_account_interrupted(a, woken);
}

void __wrap_account_return(struct account *a, uint64_t now, uint64_t from, uint64_t to)
{
	if (kept)
		__real_account_return(a, now, from, to);
}

/* It is held. */
static void keep(struct rig *rig, bool yes)
{
	struct vcpu *vcpu = vcpu_pool_get(rig->pool, 0);

	kept = yes;
	/* Both threads then leave it alone, and take no time for it. */
	vcpu->exits.account = yes ? vcpu->account : NULL;
}

/* ---- a turn ---------------------------------------------------------------------------- */

static int run_exits(struct rig *rig, uint64_t exits, struct error *err)
{
	uint64_t target = rig->served + exits;
	int r = rig_go(rig, err);

	while (r == 0 && rig->served < target)
		r = rig_turn(rig, err);
	return r < 0 ? r : rig_hold(rig, err);
}

static int exit_turn(struct bench *b, struct rig *rig, enum results_side side, struct error *err)
{
	struct guest_area *area = rig_area(rig, 0);
	uint64_t from = atomic_load_explicit(&area->count, memory_order_relaxed);
	int r = run_exits(rig, EXITS, err);

	return r < 0 ? r : rig_samples(b, side, area, from, err);
}

/* When the exit of each piece was served. */
struct pieces {
	clockid_t clock;
	unsigned n;
	uint64_t at_ns[PIECES + 1];
};

static void note_piece(struct kvm_run *run UNUSED, const struct arch_exit *exit UNUSED, void *arg)
{
	struct pieces *p = arg;
	struct timespec t = {0};

	clock_gettime(p->clock, &t);
	if (p->n < ARRAY_SIZE(p->at_ns))
		p->at_ns[p->n++] = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int work_turn(struct bench *b, struct rig *rig, enum results_side side, struct pieces *p,
		     struct error *err)
{
	int r;

	p->n = 0;
	r = run_exits(rig, ARRAY_SIZE(p->at_ns), err);
	for (unsigned i = 1; r == 0 && i < p->n; i++)
		r = bench_sample(b, side, (double)(p->at_ns[i] - p->at_ns[i - 1]), err);
	return r;
}

static int turn(struct bench *b, struct rig *rig, bool yes, struct pieces *p, struct error *err)
{
	enum results_side side = yes ? RESULTS_PRODUCT : RESULTS_FLOOR;

	keep(rig, yes);
	return rig->config.program == GUEST_WORK ? work_turn(b, rig, side, p, err)
						 : exit_turn(b, rig, side, err);
}

/* Of either side as many come first. */
static int one_round(struct bench *b, struct rig *rig, struct pieces *p, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 2 * TURNS; i++)
		r = turn(b, rig, (i + 1) / 2 % 2, p, err);
	return r;
}

static int measure(struct bench *b, const struct kind *kind, struct error *err)
{
	struct pieces pieces = {0};
	const struct rig_config config = {.count = 1,
					  .program = kind->program,
					  .pin = &b->options.cpu[0],
					  .serve = kind->program == GUEST_WORK ? note_piece : NULL,
					  .arg = &pieces};
	struct rig rig = {0};
	/* The pool spins where it sees a host CPU for each thread: this one is bound after that. */
	int r = bench_pin(b, -1, err);

	if (r == 0)
		r = rig_prepare(&rig, &config, err);
	if (r == 0)
		atomic_store_explicit(&rig_area(&rig, 0)->answer, WORK, memory_order_relaxed);
	if (r == 0)
		r = rig_start(&rig, err);
	if (r == 0)
		r = rig_hold(&rig, err);
	if (r == 0) {
		r = -pthread_getcpuclockid(vcpu_pool_get(rig.pool, 0)->thread, &pieces.clock);
		if (r < 0)
			error_set(err, r, "finding the clock of the vCPU's thread");
	}
	if (r == 0)
		r = bench_pin(b, 1, err);
	while (r == 0 && bench_round(b, err))
		r = one_round(b, &rig, &pieces, err);
	rig_close(&rig);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		if (bench_row(b, &kinds[i].spec, ROUNDS, err))
			r = measure(b, &kinds[i], err);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"accounts", "exits that are accounted for, against exits that are not", run};

	return bench_main(&program, argc, argv);
}
