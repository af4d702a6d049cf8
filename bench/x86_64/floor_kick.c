/* KVM_RUN, a signal, two calls for registers, and a walk by frame pointers through the guest's page
 * tables. */
#include "floor_kick.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vcpu/futex.h"
#include "vcpu/sample.h"

#define GO_END	   UINT32_MAX
#define KICK	   (SIGRTMIN + 1) /* the product has the first */
#define CALL_BYTES 8		  /* looked at before an address to return to */
#define ADDRESS	   UINT64_C(0x000ffffffffff000)
#define PRESENT	   1u
#define LARGE	   0x80u

struct floor_kick {
	const struct bench *bench;
	struct floor_vm vm;
	bool started;
	_Atomic int failed; /* negative errno of the thread's */
	/* Futex words. */
	CACHE_ALIGNED _Atomic uint32_t go;   /* counts runs; or GO_END */
	CACHE_ALIGNED _Atomic uint32_t done; /* the last run that is over */
	/* The main thread's until go, the thread's until done. */
	uint64_t mean_ns, kicks, ns;
	/* The thread's. */
	timer_t timer;
	uint64_t random;
	uint64_t all, shallow;
	unsigned frames;
	uint64_t frame[SAMPLE_FRAMES];
};

static _Thread_local struct kvm_run *volatile kicked_run;

/* ---- the thread ------------------------------------------------------------------------ */

static void on_kick(int signo UNUSED)
{
	if (kicked_run)
		__atomic_store_n(&kicked_run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

static void arm(struct floor_kick *f)
{
	uint64_t ns = f->mean_ns ? sample_interval(&f->random, f->mean_ns) : 0;
	const struct itimerspec at = {.it_value = {.tv_nsec = (long)ns}};

	(void)timer_settime(f->timer, 0, &at, NULL); /* a timer of ours and a sane time */
}

/* Guest memory by a guest virtual address, len bytes within a page; NULL: nothing is there. */
static const void *at_gva(const struct floor_kick *f, uint64_t root, uint64_t gva, uint64_t len)
{
	uint64_t gpa = root & ADDRESS;

	for (unsigned shift = 39; shift >= 12; shift -= 9) {
		uint64_t entry, size = UINT64_C(1) << shift;

		gpa += (gva >> shift & 511) * sizeof(entry);
		if (gpa > GUEST_RAM_BYTES - sizeof(entry))
			return NULL;
		memcpy(&entry, f->vm.ram + gpa, sizeof(entry));
		if (!(entry & PRESENT))
			return NULL;
		gpa = entry & ADDRESS;
		if (entry & LARGE || shift == 12) {
			gpa = (gpa & ~(size - 1)) | (gva & (size - 1));
			break;
		}
	}
	return gpa <= GUEST_RAM_BYTES - len ? f->vm.ram + gpa : NULL;
}

static void walk(struct floor_kick *f, const struct kvm_regs *regs, uint64_t root)
{
	uint64_t fp = regs->rbp, floor = regs->rsp;

	f->frame[0] = regs->rip;
	f->frames = 1;
	while (f->frames < SAMPLE_FRAMES && fp % 8 == 0 && fp >= floor) {
		const uint64_t *record = at_gva(f, root, fp, 2 * sizeof(*record));
		const uint8_t *code;

		if (!record || record[1] < CALL_BYTES)
			return;
		code = at_gva(f, root, record[1] - CALL_BYTES, CALL_BYTES);
		if (!code || code[CALL_BYTES - 5] != 0xe8) /* call, relative (SDM 2, CALL) */
			return;
		f->frame[f->frames++] = record[1];
		floor = fp + 2 * sizeof(*record);
		fp = record[0];
	}
}

static int take(struct floor_kick *f, const struct floor_vcpu *v)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (ioctl(v->fd, KVM_GET_REGS, &regs) < 0 || ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	walk(f, &regs, sregs.cr3);
	f->kicks++;
	f->all++;
	f->shallow += f->frames < FLOOR_KICK_FRAMES;
	arm(f);
	return 0;
}

/* Until the guest's work is done. */
static int run_guest(struct floor_kick *f, struct floor_vcpu *v)
{
	int r = 0;

	while (r == 0) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0)
			break;
		r = errno == EINTR || errno == EAGAIN ? take(f, v) : -errno;
	}
	if (r == 0 && v->run->exit_reason != KVM_EXIT_IO)
		r = -EPROTO;
	if (r == 0)
		*((uint8_t *)v->run + v->run->io.data_offset) = 0;
	return r;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int set_up(struct floor_kick *f)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KICK};
	struct error err = {0};
	sigset_t set;

	event._sigev_un._tid = gettid();
	kicked_run = f->vm.vcpu[0].run;
	sigemptyset(&set);
	sigaddset(&set, KICK);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	f->random = now_ns();
	if (timer_create(CLOCK_MONOTONIC, &event, &f->timer) < 0)
		return -errno;
	return bench_pin(f->bench, 0, &err);
}

static void *run_thread(void *arg)
{
	struct floor_kick *f = arg;
	int r = set_up(f);
	uint32_t seen = 0, go;
	uint64_t from;

	for (;; seen = go) {
		while ((go = f->go) == seen)
			futex_wait(&f->go, seen);
		if (go == GO_END)
			break;
		from = cpu_ns();
		f->kicks = 0;
		if (f->mean_ns)
			arm(f);
		if (r == 0)
			r = run_guest(f, &f->vm.vcpu[0]);
		f->ns = cpu_ns() - from;
		if (f->mean_ns) {
			f->mean_ns = 0;
			arm(f);
		}
		f->failed = r;
		f->done = go;
		futex_wake(&f->done, 1);
	}
	timer_delete(f->timer);
	return NULL;
}

/* ---- main thread ----------------------------------------------------------------------- */

int floor_kick_run(struct floor_kick *f, uint32_t work, uint64_t mean_ns, uint64_t *ret_ns,
		   uint64_t *ret_kicks, struct error *err)
{
	uint32_t done, go = f->go + 1;

	atomic_store_explicit(&f->vm.vcpu[0].area->answer, work, memory_order_relaxed);
	f->mean_ns = mean_ns;
	f->go = go;
	futex_wake(&f->go, 1);
	while ((done = f->done) != go)
		futex_wait(&f->done, done);
	if (f->failed < 0)
		return floor_failed(f->failed, "running the floor's guest", err);
	*ret_ns = f->ns;
	*ret_kicks = f->kicks;
	return 0;
}

uint64_t floor_kick_seen(const struct floor_kick *f, uint64_t *ret_shallow)
{
	*ret_shallow = f->shallow;
	return f->all;
}

int floor_kick_open(const struct bench *b, struct floor_kick **ret_floor, struct error *err)
{
	const struct sigaction action = {.sa_handler = on_kick};
	struct floor_kick *f = aligned_alloc(CACHE_LINE, ALIGN_UP(sizeof(*f), CACHE_LINE));
	int r;

	if (!f)
		return error_set_shortage(err, -ENOMEM, "making the floor");
	*f = (struct floor_kick){.bench = b};
	r = floor_vm_open(&f->vm, 1, GUEST_WORK, err);
	if (r == 0 && sigaction(KICK, &action, NULL) < 0)
		r = error_set(err, -errno, "setting up the floor's kick");
	if (r == 0) {
		r = -pthread_create(&f->vm.vcpu[0].thread, NULL, run_thread, f);
		f->started = r == 0;
		if (r < 0)
			error_set_shortage(err, r, "starting the floor's thread");
	}
	if (r < 0) {
		floor_kick_close(f);
		return r;
	}
	*ret_floor = f;
	return 0;
}

void floor_kick_close(struct floor_kick *f)
{
	if (!f)
		return;
	f->go = GO_END;
	futex_wake(&f->go, 1);
	if (f->started)
		pthread_join(f->vm.vcpu[0].thread, NULL);
	floor_vm_close(&f->vm);
	free(f);
}
