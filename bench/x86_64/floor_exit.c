/* KVM_RUN, and the answer, and nothing else. */
#include "floor_exit.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vcpu/futex.h"

#define GO_END UINT32_MAX

struct floor_exit {
	const struct bench *bench;
	struct floor_vm vm;
	enum floor_answer answer;
	bool pinned;
	struct floor_thread {
		struct floor_exit *floor;
		unsigned index;
		bool started;
	} * thread;
	pthread_t helper;
	bool helper_started;
	_Atomic int failed; /* negative errno of a thread's */

	/* Futex words. */
	CACHE_ALIGNED _Atomic uint32_t go;	/* counts runs; or GO_END: to vCPU threads */
	CACHE_ALIGNED _Atomic uint32_t running; /* vCPU threads still in this run; 0 wakes main */
	CACHE_ALIGNED _Atomic uint32_t bell;	/* counts exits, 0 at the end: to the helper */
	CACHE_ALIGNED _Atomic uint32_t reply;	/* the bell's count when answered; spun on */
	CACHE_ALIGNED _Atomic uint64_t exits;	/* of this run */
	uint64_t wanted;
	_Atomic uint64_t first_ns, last_ns;
};

/* ---- threads --------------------------------------------------------------------------- */

static void answer_exit(struct kvm_run *run)
{
	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
		*((uint8_t *)run + run->io.data_offset) = 0;
}

static void *help(void *arg)
{
	struct floor_exit *f = arg;
	struct error err = {0};
	uint32_t seen = 1, bell;

	if (bench_pin(f->bench, 1, &err) < 0)
		f->failed = err.code;
	/* Acquire: pairs with the release in ask_helper; the exit is ours to answer. */
	while ((bell = atomic_load_explicit(&f->bell, memory_order_acquire)) != 0) {
		if (bell == seen) {
			futex_wait(&f->bell, seen);
			continue;
		}
		answer_exit(f->vm.vcpu[0].run);
		seen = bell;
		/* Release: pairs with the spin in ask_helper. */
		atomic_store_explicit(&f->reply, bell, memory_order_release);
	}
	return NULL;
}

static void ask_helper(struct floor_exit *f)
{
	uint32_t bell = atomic_load_explicit(&f->bell, memory_order_relaxed) + 1;

	bell += bell < 2; /* 0 ends the helper, 1 is its beginning */
	atomic_store_explicit(&f->bell, bell, memory_order_release);
	futex_wake(&f->bell, 1);
	while (atomic_load_explicit(&f->reply, memory_order_acquire) != bell)
		cpu_relax();
}

/* True while more are wanted. */
static bool count_exit(struct floor_exit *f)
{
	uint64_t n = atomic_fetch_add_explicit(&f->exits, 1, memory_order_relaxed) + 1;

	if (n == 1)
		f->first_ns = now_ns();
	if (n == f->wanted)
		f->last_ns = now_ns();
	return n < f->wanted;
}

static void run_guest(struct floor_exit *f, struct floor_vcpu *v)
{
	do {
		if (ioctl(v->fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			f->failed = -errno;
			return;
		}
		if (v->run->exit_reason != KVM_EXIT_IO) {
			f->failed = -EPROTO;
			return;
		}
		if (f->answer == FLOOR_WAKE)
			ask_helper(f);
		else
			answer_exit(v->run);
	} while (count_exit(f));
}

static void *run_vcpu(void *arg)
{
	struct floor_thread *t = arg;
	struct floor_exit *f = t->floor;
	struct error err = {0};
	uint32_t seen = 0, go;

	if (bench_pin(f->bench, f->pinned ? 0 : -1, &err) < 0)
		f->failed = err.code;
	for (;; seen = go) {
		while ((go = f->go) == seen)
			futex_wait(&f->go, seen);
		if (go == GO_END)
			return NULL;
		run_guest(f, &f->vm.vcpu[t->index]);
		if (atomic_fetch_sub(&f->running, 1) == 1)
			futex_wake(&f->running, 1);
	}
}

/* ---- main thread ----------------------------------------------------------------------- */

int floor_exit_run(struct floor_exit *f, uint64_t exits, uint64_t *ret_ns, struct error *err)
{
	uint32_t running;

	f->exits = 0;
	f->wanted = exits;
	f->running = f->vm.count;
	f->go++;
	futex_wake(&f->go, INT_MAX);
	while ((running = f->running) > 0)
		futex_wait(&f->running, running);
	if (f->failed < 0)
		return floor_failed(f->failed, "running the floor's guest", err);
	*ret_ns = f->last_ns - f->first_ns;
	return 0;
}

struct guest_area *floor_exit_area(struct floor_exit *f, unsigned index)
{
	return f->vm.vcpu[index].area;
}

static int start(struct floor_exit *f, struct error *err)
{
	int r = 0;

	f->thread = calloc(f->vm.count, sizeof(*f->thread));
	if (!f->thread)
		return error_set_shortage(err, -ENOMEM, "making the floor's threads");
	for (unsigned i = 0; r == 0 && i < f->vm.count; i++) {
		f->thread[i] = (struct floor_thread){.floor = f, .index = i};
		r = pthread_create(&f->vm.vcpu[i].thread, NULL, run_vcpu, &f->thread[i]);
		f->thread[i].started = r == 0;
	}
	if (r == 0 && f->answer == FLOOR_WAKE) {
		r = pthread_create(&f->helper, NULL, help, f);
		f->helper_started = r == 0;
	}
	return r ? error_set_shortage(err, -r, "starting the floor's threads") : 0;
}

int floor_exit_open(const struct bench *b, unsigned vcpus, enum guest_program program,
		    enum floor_answer answer, bool pinned, struct floor_exit **ret_floor,
		    struct error *err)
{
	struct floor_exit *f = aligned_alloc(CACHE_LINE, sizeof(*f));
	int r;

	if (!f)
		return error_set_shortage(err, -ENOMEM, "making the floor");
	*f = (struct floor_exit){.bench = b, .answer = answer, .pinned = pinned, .bell = 1};
	r = floor_vm_open(&f->vm, vcpus, program, err);
	if (r == 0)
		r = start(f, err);
	if (r < 0) {
		floor_exit_close(f);
		return r;
	}
	*ret_floor = f;
	return 0;
}

void floor_exit_close(struct floor_exit *f)
{
	if (!f)
		return;
	f->go = GO_END;
	futex_wake(&f->go, INT_MAX);
	for (unsigned i = 0; f->thread && i < f->vm.count; i++)
		if (f->thread[i].started)
			pthread_join(f->vm.vcpu[i].thread, NULL);
	f->bell = 0;
	futex_wake(&f->bell, 1);
	if (f->helper_started)
		pthread_join(f->helper, NULL);
	free(f->thread);
	floor_vm_close(&f->vm);
	free(f);
}
