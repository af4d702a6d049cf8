/* See fake_kvm.h. The vCPU threads run arch_vcpu_* and KVM_RUN, the control thread the rest. */
#include "fake_kvm.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "vcpu/pool.h"

#define FAKE_VM_FD 999 /* no descriptor */

static struct fake_vcpu {
	int fd;
	unsigned id;
	struct kvm_run *run;
	enum fake_work work;
	struct arch_watch armed[ARCH_WATCHES];
	bool stepping;
	bool put_off; /* its last step was an interrupt */
	bool owed;    /* a debug exception of its own that it has not got */
	enum arch_debug event;
	uint32_t event_slots;
	bool ran;
	bool incomplete; /* an exit was returned, and KVM_RUN not entered since */
} fake[FAKE_VCPUS];
static _Thread_local struct fake_vcpu *running; /* the thread's last in KVM_RUN */
static unsigned fake_count;
static struct arch_vm *fake_vm;
static _Atomic bool unstuck;

_Atomic uint64_t fake_steps;
_Atomic unsigned fake_runs;
_Atomic int fake_capture_result;
unsigned fake_stops, fake_goes_on, fake_ticks_go_on;
static unsigned fake_timers; /* set back */
_Atomic uint64_t fake_word[FAKE_WORDS];
_Atomic uint64_t fake_ration[FAKE_VCPUS];
_Atomic bool fake_hold;
_Atomic unsigned fake_held;
_Atomic int fake_watch_result[FAKE_VCPUS];
_Atomic uint64_t fake_passed_on, fake_lost;

static struct fake_vcpu *find(int fd)
{
	for (unsigned i = 0; i < fake_count; i++)
		if (fake[i].fd == fd)
			return &fake[i];
	abort();
}

/* ---- KVM ------------------------------------------------------------------------------- */

static bool told_to_leave(struct fake_vcpu *v)
{
	return __atomic_load_n(&v->run->immediate_exit, __ATOMIC_SEQ_CST);
}

/* Sleeps, and looks for signals before it does, as one step. */
static bool interrupted(struct fake_vcpu *v, long ns)
{
	const struct timespec limit = {.tv_nsec = ns};
	sigset_t blocked, old;
	bool r;

	sigemptyset(&blocked);
	sigaddset(&blocked, VCPU_KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &blocked, &old);
	r = told_to_leave(v) || ppoll(NULL, 0, &limit, &old) < 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static int fail(int code)
{
	errno = code;
	return -1;
}

static int leave_with(struct fake_vcpu *v, uint32_t reason)
{
	v->run->exit_reason = reason;
	v->incomplete = true;
	return 0;
}

/* ---- stores ---------------------------------------------------------------------------- */

static uint32_t watched(const struct arch_watch *armed, uint32_t words)
{
	uint32_t slots = 0;

	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		for (unsigned w = 0; w < FAKE_WORDS; w++)
			if (words & 1u << w && armed[n].bytes && armed[n].gva == FAKE_WORD_GVA(w))
				slots |= 1u << n;
	return slots;
}

static bool event(struct fake_vcpu *v, enum arch_debug event, uint32_t slots)
{
	v->event = event;
	v->event_slots = slots;
	return true;
}

/* True: it ends KVM_RUN. */
static bool store(struct fake_vcpu *v)
{
	uint32_t words = fake_vm->stores[v->id], slots = watched(v->armed, words);

	if (fake_vm->traps_before && slots) {
		atomic_fetch_add(&fake_held, 1);
		while (atomic_load(&fake_hold) && !told_to_leave(v))
			usleep(100);
		atomic_fetch_sub(&fake_held, 1);
		return event(v, ARCH_DEBUG_STORING, slots & -slots);
	}
	v->put_off = v->stepping && fake_vm->interrupts && !v->put_off;
	if (v->put_off)
		return event(v, ARCH_DEBUG_STEPPED, 0);
	for (unsigned w = 0; w < FAKE_WORDS; w++)
		if (words & 1u << w)
			atomic_fetch_add(&fake_word[w], 1);
	atomic_fetch_sub(&fake_ration[v->id], 1);
	atomic_fetch_add(&fake_steps, 1);
	if (v->stepping)
		return event(v, ARCH_DEBUG_STEPPED, 0);
	return slots && event(v, ARCH_DEBUG_STORED, slots);
}

static bool debug_itself(struct fake_vcpu *v)
{
	v->owed = true;
	atomic_fetch_sub(&fake_ration[v->id], 1);
	atomic_fetch_add(&fake_steps, 1);
	return event(v, ARCH_DEBUG_GUEST, 0);
}

static int run_ration(struct fake_vcpu *v)
{
	if (v->owed)
		atomic_fetch_add(&fake_lost, 1);
	v->owed = false;
	for (;;) {
		bool some = atomic_load(&fake_ration[v->id]);

		if (interrupted(v, some ? 1000 : 200000))
			return fail(EINTR);
		if (some && (v->work == WORK_STORES ? store(v) : debug_itself(v)))
			return leave_with(v, KVM_EXIT_DEBUG);
	}
}

static int run_vcpu(struct fake_vcpu *v)
{
	running = v;
	if (!v->ran)
		atomic_fetch_add(&fake_runs, 1);
	v->ran = true;
	v->incomplete = false; /* entering completes, however soon it leaves */
	if (v->work == WORK_FAILS)
		return fail(EFAULT);
	while (v->work == WORK_STUCK && !atomic_load(&unstuck))
		usleep(100);
	if (told_to_leave(v))
		return fail(EINTR);
	switch (v->work) {
	case WORK_READS:
		atomic_fetch_add(&fake_steps, 1);
		return leave_with(v, KVM_EXIT_MMIO);
	case WORK_WRITES:
		atomic_fetch_add(&fake_steps, 1);
		return leave_with(v, KVM_EXIT_IO);
	case WORK_STORES:
	case WORK_DEBUGS:
		return run_ration(v);
	case WORK_START:
		return interrupted(v, 200000) ? fail(EINTR) : fail(EAGAIN);
	case WORK_HALT:
		while (!interrupted(v, 900000000))
			;
		return fail(EINTR);
	default:
		while (!interrupted(v, 1000))
			atomic_fetch_add(&fake_steps, 1);
		return fail(EINTR);
	}
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	if (request == KVM_RUN)
		return run_vcpu(find(fd));
	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return __real_ioctl(fd, request, arg);
}

static int create(unsigned id)
{
	struct fake_vcpu *v = &fake[fake_count];

	*v = (struct fake_vcpu){.id = id, .work = fake_vm->work[id]};
	v->fd = memfd_create("vcpu", MFD_CLOEXEC);
	if (v->fd < 0 || ftruncate(v->fd, sizeof(struct kvm_run)) < 0)
		return -errno;
	v->run = mmap(NULL, sizeof(struct kvm_run), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		return -errno;
	fake_count++;
	return v->fd;
}

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	if (fd == FAKE_VM_FD && request == KVM_CREATE_VCPU)
		return create((unsigned)(uintptr_t)arg);
	return -ENOTTY;
}

/* ---- the architecture ------------------------------------------------------------------ */

uint32_t arch_vcpu_id(const struct topology *t UNUSED, unsigned index)
{
	return index;
}

bool arch_vcpu_waits(unsigned index UNUSED)
{
	return false;
}

int arch_vcpu_setup(struct arch_vm *vm UNUSED, unsigned index UNUSED, int vcpu_fd UNUSED,
		    struct error *err UNUSED)
{
	return 0;
}

void arch_exit_capture(const struct kvm_run *run, struct arch_exit *out)
{
	*out = (struct arch_exit){
		.reason = run->exit_reason,
		.wants_reply =
			run->exit_reason == KVM_EXIT_MMIO || run->exit_reason == KVM_EXIT_DEBUG,
	};
}

const size_t arch_vcpu_state_size = ALIGN_UP(sizeof(struct arch_vcpu_state), 16);

uint64_t arch_run_registers(const struct kvm *kvm UNUSED)
{
	return 0;
}

void arch_run_forget(struct kvm_run *run UNUSED)
{
}

int arch_vcpu_capture(int vcpu_fd, const struct kvm_run *run UNUSED, struct arch_vcpu_state *state)
{
	state->captures++;
	state->incomplete += find(vcpu_fd)->incomplete;
	return atomic_load(&fake_capture_result);
}

int arch_vcpu_sample(int vcpu_fd UNUSED, struct kvm_run *run UNUSED, uint64_t run_registers UNUSED,
		     struct arch_vcpu_state *state UNUSED)
{
	return -ENOTSUP;
}

bool arch_vcpu_unstarted(int vcpu_fd UNUSED)
{
	return true;
}

bool arch_vcpu_idle(const struct arch_vcpu_state *state UNUSED)
{
	return false;
}

bool arch_vcpu_halted_deaf(const struct arch_vcpu_state *state UNUSED)
{
	return false;
}

void arch_clock_stop(struct arch_vm *vm UNUSED, struct arch_clock *clock)
{
	clock->stopped = true;
	fake_stops++;
}

void arch_clock_go_on(struct arch_vm *vm UNUSED, struct arch_clock *clock)
{
	clock->stopped = false;
	clock->skipped++;
	fake_goes_on++;
}

void arch_vcpu_timer_go_on(int vcpu_fd UNUSED, const struct arch_vcpu_state *state UNUSED,
			   struct arch_clock *clock)
{
	assert(!clock->stopped && fake_ticks_go_on < fake_goes_on);
	fake_timers++;
}

void arch_clock_ticks_go_on(struct arch_vm *vm UNUSED, struct arch_clock *clock)
{
	/* The VM's clocks first, and every vCPU's timer. */
	assert(!clock->stopped && fake_timers == fake_count * fake_goes_on);
	fake_ticks_go_on++;
}

void arch_vcpu_go_on(int vcpu_fd UNUSED, struct arch_vcpu_state *state, struct arch_clock *clock)
{
	state->skipped = clock->skipped;
}

bool arch_kernel_address(uint64_t gva)
{
	return gva >> 63;
}

int arch_vcpu_watch(int vcpu_fd, const struct arch_watch watch[ARCH_WATCHES],
		    enum arch_watch_how how, const struct kvm_run *run UNUSED)
{
	struct fake_vcpu *v = find(vcpu_fd);
	int r = atomic_load(&fake_watch_result[v->id]);

	if (r < 0)
		return r;
	memcpy(v->armed, watch, sizeof(v->armed));
	v->stepping = how == ARCH_WATCH_STEP;
	if (how == ARCH_WATCH_PASS_ON && v->owed) {
		v->owed = false;
		atomic_fetch_add(&fake_passed_on, 1);
	}
	return 0;
}

int arch_vcpu_store(int vcpu_fd UNUSED, const struct guest_memory *mem UNUSED,
		    struct arch_store *ret_store)
{
	if (!fake_vm->interrupts)
		return -EOPNOTSUPP;
	*ret_store = (struct arch_store){.pc = 4};
	return 0;
}

bool arch_vcpu_store_done(int vcpu_fd, const struct arch_store *store UNUSED)
{
	return !find(vcpu_fd)->put_off;
}

int arch_vcpu_store_end(int vcpu_fd UNUSED, const struct arch_store *store UNUSED,
			bool stored UNUSED)
{
	return -EOPNOTSUPP;
}

enum arch_debug arch_exit_debug(const struct kvm_run *run UNUSED,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots,
				uint32_t *ret_sure)
{
	uint32_t all = watched(watch, fake_vm->stores[running->id]);

	*ret_slots = running->event_slots;
	if (fake_vm->vague && running->event == ARCH_DEBUG_STORING)
		*ret_slots = all & -all;
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (!watch[n].bytes)
			*ret_slots &= ~(1u << n);
	*ret_sure = *ret_slots;
	return running->event;
}

/* ---- for the tests --------------------------------------------------------------------- */

void fake_kvm_open(struct kvm *kvm, struct arch_vm *vm)
{
	*kvm = (struct kvm){
		.fd = -1,
		.vm_fd = FAKE_VM_FD,
		.run_size = sizeof(struct kvm_run),
		.immediate_exit = true,
		.max_vcpus = FAKE_VCPUS,
		.max_vcpu_id = FAKE_VCPUS,
	};
	*vm = (struct arch_vm){0};
	fake_vm = vm;
	fake_stops = fake_goes_on = fake_ticks_go_on = fake_timers = 0;
	atomic_store(&fake_steps, 0);
	atomic_store(&fake_runs, 0);
	atomic_store(&fake_capture_result, 0);
	atomic_store(&unstuck, false);
	for (unsigned i = 0; i < FAKE_VCPUS; i++) {
		atomic_store(&fake_ration[i], 0);
		atomic_store(&fake_watch_result[i], 0);
	}
	for (unsigned w = 0; w < FAKE_WORDS; w++)
		atomic_store(&fake_word[w], 0);
	atomic_store(&fake_hold, false);
	atomic_store(&fake_held, 0);
	atomic_store(&fake_passed_on, 0);
	atomic_store(&fake_lost, 0);
}

/* The descriptors are the pool's. */
void fake_kvm_close(struct kvm *kvm)
{
	for (unsigned i = 0; i < fake_count; i++)
		munmap(fake[i].run, sizeof(struct kvm_run));
	fake_count = 0;
	kvm->vm_fd = -1;
}

void fake_debug_exit(int vcpu_fd, enum arch_debug debug, uint32_t slots)
{
	running = find(vcpu_fd);
	event(running, debug, slots);
}

void fake_unstick(void)
{
	atomic_store(&unstuck, true);
}
