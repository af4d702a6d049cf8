/* bench-watch: from the KVM_RUN that a watched store ended until every vCPU has parked and time
 * stands still. The floor wakes the main thread, which freezes as the floor of bench-freeze does.
 */
#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "floor_freeze.h"
#include "rig.h"

#define HITS	 5 /* in a round */
#define ROUNDS	 40
#define PAUSE_NS 1000000 /* frozen: threads settle meanwhile */
#define WORD_AT	 offsetof(struct guest_area, answer)

static void settle(void)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	nanosleep(&pause, NULL);
}

static int sample(struct bench *b, enum results_side side, uint64_t frozen_ns, struct error *err)
{
	return bench_sample(b, side, (double)(frozen_ns - rig_returned_ns()), err);
}

/* ---- the floor ------------------------------------------------------------------------- */

static int floor_arm(struct floor_freeze *floor, unsigned vcpus, struct error *err)
{
	const struct arch_watch watch[ARCH_WATCHES] = {
		{.gva = GUEST_AREA_GPA + WORD_AT, .bytes = 4}};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < vcpus; i++)
		r = arch_vcpu_watch(floor_freeze_vm(floor)->vcpu[i].fd, watch, ARCH_WATCH_RUN,
				    NULL);
	return r < 0 ? error_set(err, r, "arming the floor's watchpoints") : 0;
}

static int floor_once(struct bench *b, struct floor_freeze *floor, struct error *err)
{
	int r;

	settle();
	rig_return_expect();
	r = floor_freeze_go(floor, err);
	if (r < 0)
		return r;
	floor_freeze_wait_hit(floor);
	r = floor_freeze_hold(floor, err);
	return r < 0 ? r : sample(b, RESULTS_FLOOR, now_ns(), err);
}

/* ---- the product ----------------------------------------------------------------------- */

/* As the machine does it: the reply goes out when this returns, and the vCPU parks behind its
 * store. */
static void on_debug(struct kvm_run *run UNUSED, const struct arch_exit *exit, void *arg)
{
	struct rig *rig = arg;

	if (exit->reason != KVM_EXIT_DEBUG)
		error_failed(&rig->failure, "an exit that is no watched store (%u)", exit->reason);
	else
		(void)!freeze_start(&rig->freeze, "watch", &rig->wait, &rig->failure);
}

static int product_once(struct bench *b, struct rig *rig, struct error *err)
{
	int r;

	settle();
	vcpu_watch_unlatch(rig->pool, 0);
	rig->frozen = false;
	rig_return_expect();
	r = rig_go(rig, err);
	while (r == 0 && !rig->frozen)
		r = rig_turn(rig, err);
	return r < 0 ? r : sample(b, RESULTS_PRODUCT, rig->frozen_ns, err);
}

/* ---- rows ------------------------------------------------------------------------------ */

static int measure(struct bench *b, unsigned vcpus, struct error *err)
{
	struct rig rig = {0};
	const struct rig_config config = {
		.count = vcpus,
		.program = GUEST_STORE,
		.pin = vcpus == 1 ? &b->options.cpu[0] : NULL,
		.serve = on_debug,
		.arg = &rig,
	};
	struct vcpu_watch watch = {.gva = GUEST_AREA_GPA + WORD_AT, .bytes = 4};
	struct floor_freeze *floor = NULL;
	int r = bench_pin(b, -1, err);

	if (r == 0)
		r = floor_freeze_open(b, vcpus, GUEST_STORE, vcpus == 1, &floor, err);
	if (r == 0)
		r = floor_arm(floor, vcpus, err);
	if (r == 0)
		r = rig_open(&rig, &config, err);
	if (r == 0) {
		watch.host = (const uint8_t *)rig_area(&rig, 0) + WORD_AT;
		vcpu_watch_publish(rig.pool, 0, &watch);
		r = bench_pin(b, vcpus == 1 ? 1 : -1, err);
	}
	while (r == 0 && bench_round(b, err)) {
		for (unsigned i = 0; r == 0 && i < HITS; i++)
			r = floor_once(b, floor, err);
		for (unsigned i = 0; r == 0 && i < HITS; i++)
			r = product_once(b, &rig, err);
	}
	rig_close(&rig);
	floor_freeze_close(floor);
	return err->code;
}

/* Some KVMs take a watchpoint and do nothing. */
static int check(struct error *err)
{
	struct kvm kvm = {.vm_fd = -1};
	bool fires = false;
	int r = bench_kvm(err);

	if (r < 0)
		return r;
	fd_close(&r);
	r = kvm_open(&kvm, "/dev/kvm", err);
	if (r < 0)
		return r;
	r = arch_probe_watch(&kvm, &fires, err);
	kvm_close(&kvm);
	if (r == 0 && !fires)
		r = error_contention(err, "watch: left out, as this host's KVM takes watchpoints "
					  "and never fires them");
	return r;
}

static int run(struct bench *b, struct error *err)
{
	static const struct {
		unsigned vcpus;
		struct results_spec spec;
	} kinds[] = {
		{1, {"watch.1", "a watched store until its vCPU has parked", "ns"}},
		{2, {"watch.2", "… until both have, of which one stored", "ns"}},
	};
	int r = check(err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		if (bench_row(b, &kinds[i].spec, ROUNDS, err))
			r = measure(b, kinds[i].vcpus, err);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"watch",
						     "watched stores until all vCPUs hold still",
						     run};

	return bench_main(&program, argc, argv);
}
