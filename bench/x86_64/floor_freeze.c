/* Signals, registers, one futex. */
#include "floor_freeze.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vcpu/futex.h"

#define KICK	SIGRTMIN
#define MSR_TSC 0x10
/* Ticks: less than a freeze of the benchmark, more than two calls. */
#define TSC_MOVED 1000000

struct floor_freeze {
	const struct bench *bench;
	struct floor_vm vm;
	bool pinned;
	struct floor_thread {
		struct floor_freeze *floor;
		unsigned index;
		bool started;
		struct kvm_regs regs;
		struct kvm_sregs sregs;
		struct kvm_lapic_state lapic;
		uint64_t tsc;
	} * thread;
	struct kvm_clock_data clock;
	_Atomic int failed; /* negative errno of a thread's */
	_Atomic bool end;
	_Atomic bool tsc_known, tsc_stays; /* whether it can be set, once found out */

	/* Futex words. */
	CACHE_ALIGNED _Atomic uint32_t turn;   /* odd while frozen */
	CACHE_ALIGNED _Atomic uint32_t hit;    /* 1: a watched store was done */
	CACHE_ALIGNED _Atomic uint32_t moving; /* threads that do not hold yet */
};

/* ---- vCPU threads ---------------------------------------------------------------------- */

static void on_kick(int signo UNUSED)
{
}

static int tsc(int fd, unsigned long request, uint64_t *value)
{
	return floor_msr(fd, request, MSR_TSC, value);
}

/* A back end that takes it and does nothing is asked once. */
static void set_tsc_back(struct floor_freeze *f, struct floor_thread *t, int fd)
{
	uint64_t now = 0;

	if (f->tsc_stays)
		return;
	if (tsc(fd, KVM_SET_MSRS, &t->tsc) < 0 ||
	    (!f->tsc_known && tsc(fd, KVM_GET_MSRS, &now) < 0))
		f->failed = -EPROTO;
	if (!f->tsc_known)
		f->tsc_stays = now - t->tsc > TSC_MOVED;
	f->tsc_known = true;
}

static void hold(struct floor_freeze *f, struct floor_thread *t, uint32_t turn)
{
	int fd = f->vm.vcpu[t->index].fd;

	if (ioctl(fd, KVM_GET_REGS, &t->regs) < 0 || ioctl(fd, KVM_GET_SREGS, &t->sregs) < 0 ||
	    ioctl(fd, KVM_GET_LAPIC, &t->lapic) < 0 || tsc(fd, KVM_GET_MSRS, &t->tsc) < 0)
		f->failed = -EPROTO;
	if (atomic_fetch_sub(&f->moving, 1) == 1)
		futex_wake(&f->moving, 1);
	while (f->turn == turn)
		futex_wait(&f->turn, turn);
	if (f->end)
		return;
	set_tsc_back(f, t, fd);
	/* -EINVAL: the guest has no kvmclock. */
	(void)!ioctl(fd, KVM_KVMCLOCK_CTRL, 0);
}

/* Until the freeze that comes of it. */
static void stand_behind_store(struct floor_freeze *f)
{
	uint32_t turn;

	if (atomic_exchange(&f->hit, 1) == 0)
		futex_wake(&f->hit, 1);
	/* The kick ends the sleep. */
	while ((turn = f->turn) % 2 == 0 && !f->end)
		futex_wait(&f->turn, turn);
}

static void run_once(struct floor_freeze *f, struct floor_vcpu *v)
{
	int r = ioctl(v->fd, KVM_RUN, 0);

	if (r == 0 && v->run->exit_reason == KVM_EXIT_DEBUG) {
		stand_behind_store(f);
	} else if (r == 0 || (errno != EINTR && errno != EAGAIN)) {
		f->failed = -EPROTO;
		f->end = true;
		f->hit = 1;
		futex_wake(&f->hit, 1);
	}
}

static void *run_vcpu(void *arg)
{
	struct floor_thread *t = arg;
	struct floor_freeze *f = t->floor;
	struct floor_vcpu *v = &f->vm.vcpu[t->index];
	struct error err = {0};

	if (bench_pin(f->bench, f->pinned ? 0 : -1, &err) < 0)
		f->failed = err.code;
	while (!f->end) {
		uint32_t turn;

		/* Clear, then look: pairs with turn, then set in floor_freeze_hold. */
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		turn = f->turn;
		if (turn % 2 == 1) {
			hold(f, t, turn);
		} else {
			run_once(f, v);
		}
	}
	return NULL;
}

/* ---- main thread ----------------------------------------------------------------------- */

static void wait_for_all(struct floor_freeze *f)
{
	uint32_t moving;

	while ((moving = f->moving) > 0 && !f->end)
		futex_wait(&f->moving, moving);
}

int floor_freeze_hold(struct floor_freeze *f, struct error *err)
{
	f->moving = f->vm.count;
	f->turn++;
	for (unsigned i = 0; i < f->vm.count; i++) {
		__atomic_store_n(&f->vm.vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(f->vm.vcpu[i].thread, KICK);
	}
	wait_for_all(f);
	if (f->failed == 0 && ioctl(f->vm.fd, KVM_GET_CLOCK, &f->clock) < 0)
		f->failed = -errno;
	return f->failed < 0 ? floor_failed(f->failed, "freezing the floor's guest", err) : 0;
}

void floor_freeze_wait_hit(struct floor_freeze *f)
{
	while (!f->hit && !f->end)
		futex_wait(&f->hit, 0);
	f->hit = 0;
}

struct floor_vm *floor_freeze_vm(struct floor_freeze *f)
{
	return &f->vm;
}

int floor_freeze_go(struct floor_freeze *f, struct error *err)
{
	struct kvm_clock_data clock = {.clock = f->clock.clock};

	if (ioctl(f->vm.fd, KVM_SET_CLOCK, &clock) < 0)
		return error_set(err, -errno, "setting the floor's clock");
	f->turn++;
	futex_wake(&f->turn, INT_MAX);
	return 0;
}

static int start(struct floor_freeze *f, struct error *err)
{
	struct sigaction action = {.sa_handler = on_kick};
	int r = 0;

	f->thread = calloc(f->vm.count, sizeof(*f->thread));
	if (!f->thread)
		return error_set_shortage(err, -ENOMEM, "making the floor's threads");
	sigemptyset(&action.sa_mask);
	if (sigaction(KICK, &action, NULL) < 0)
		return error_set(err, -errno, "handling the floor's signal");
	f->turn = 1;
	f->moving = f->vm.count;
	for (unsigned i = 0; r == 0 && i < f->vm.count; i++) {
		f->thread[i] = (struct floor_thread){.floor = f, .index = i};
		r = pthread_create(&f->vm.vcpu[i].thread, NULL, run_vcpu, &f->thread[i]);
		f->thread[i].started = r == 0;
	}
	if (r)
		return error_set_shortage(err, -r, "starting the floor's threads");
	wait_for_all(f);
	if (ioctl(f->vm.fd, KVM_GET_CLOCK, &f->clock) < 0)
		return error_set(err, -errno, "reading the floor's clock");
	return 0;
}

int floor_freeze_open(const struct bench *b, unsigned vcpus, enum guest_program program,
		      bool pinned, struct floor_freeze **ret_floor, struct error *err)
{
	struct floor_freeze *f = aligned_alloc(CACHE_LINE, sizeof(*f));
	int r;

	if (!f)
		return error_set_shortage(err, -ENOMEM, "making the floor");
	*f = (struct floor_freeze){.bench = b, .pinned = pinned};
	r = floor_vm_open(&f->vm, vcpus, program, err);
	if (r == 0)
		r = start(f, err);
	if (r < 0) {
		floor_freeze_close(f);
		return r;
	}
	*ret_floor = f;
	return 0;
}

/* It is frozen, or it failed on the way. */
void floor_freeze_close(struct floor_freeze *f)
{
	if (!f)
		return;
	f->end = true;
	f->turn += 2;
	futex_wake(&f->turn, INT_MAX);
	for (unsigned i = 0; f->thread && i < f->vm.count; i++) {
		if (!f->thread[i].started)
			continue;
		__atomic_store_n(&f->vm.vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(f->vm.vcpu[i].thread, KICK);
		pthread_join(f->vm.vcpu[i].thread, NULL);
	}
	free(f->thread);
	floor_vm_close(&f->vm);
	free(f);
}
