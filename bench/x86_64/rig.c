/* A machine of the product's parts, without devices. Linked with --wrap for arch_vcpu_setup, which
 * notes the guest's program, and for ioctl, which tells when KVM_RUN begins and only then gives the
 * vCPU that program's registers: on both sides alike. Control thread but where named. */
#include "rig.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vcpu/futex.h"

#define TURN_NS	    100000000u
#define PATIENCE_NS 10000000000u
#define ENTRIES_NS  1000000u

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __real_arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err);
int __wrap_arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err);

/* ---- entries --------------------------------------------------------------------------- */

/* Any thread. expected: entries that are still to come; 0: nobody asks. entered_ns: of the last,
 * written before the word that its waiter looks at. */
static CACHE_ALIGNED _Atomic uint32_t expected;
static _Atomic uint64_t entered_ns;

static void entry(void)
{
	uint32_t left = atomic_load_explicit(&expected, memory_order_relaxed);

	/* Acquire and release: pairs with rig_entries_expect and rig_entries_wait. */
	while (left > 0 &&
	       !atomic_compare_exchange_weak_explicit(&expected, &left, left - 1,
						      memory_order_acq_rel, memory_order_relaxed))
		;
	if (left == 1)
		/* Release: pairs with rig_entries_wait. */
		atomic_store_explicit(&entered_ns, now_ns(), memory_order_release);
}

/* Any thread. asked: whether anybody wants to know; returned_ns: written before it is cleared. */
static CACHE_ALIGNED _Atomic bool asked;
static _Atomic uint64_t returned_ns;

static void returned(void)
{
	bool yes = true;

	/* Relaxed: the time below is what is looked at. */
	if (!atomic_load_explicit(&asked, memory_order_relaxed) ||
	    !atomic_compare_exchange_strong_explicit(&asked, &yes, false, memory_order_relaxed,
						     memory_order_relaxed))
		return;
	/* Release: pairs with rig_returned_ns. */
	atomic_store_explicit(&returned_ns, now_ns(), memory_order_release);
}

void rig_return_expect(void)
{
	atomic_store_explicit(&returned_ns, 0, memory_order_relaxed);
	/* Release: pairs with the exchange in returned, by way of the vCPUs' release. */
	atomic_store_explicit(&asked, true, memory_order_release);
}

uint64_t rig_returned_ns(void)
{
	return atomic_load_explicit(&returned_ns, memory_order_acquire);
}

/* A vCPU thread's own: the program whose registers its vCPU gets (guest_enter) before its first
 * KVM_RUN, after rig_entries_wait's time has been taken: they are no part of a machine's start. */
static _Thread_local struct {
	bool is_due;
	unsigned index;
	enum guest_program program;
} guest;

static void guest_due(unsigned index, enum guest_program program)
{
	guest.is_due = true;
	guest.index = index;
	guest.program = program;
}

/* A thread is about to enter. As ioctl, on failure: with an errno of no KVM_RUN that is made again,
 * and if it is, the guest is still due. */
static int before_run(int fd)
{
	entry();
	if (likely(!guest.is_due))
		return 0;
	if (guest_enter(fd, guest.index, guest.program) < 0) {
		errno = EIO;
		return -1;
	}
	guest.is_due = false;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_RUN && before_run(fd) < 0)
		return -1;
	r = __real_ioctl(fd, request, arg);
	if (request == KVM_RUN && r == 0)
		returned();
	return r;
}

void rig_entries_expect(unsigned n)
{
	atomic_store_explicit(&entered_ns, 0, memory_order_relaxed);
	/* Release: pairs with entry. */
	atomic_store_explicit(&expected, n, memory_order_release);
}

/* Sleeps between looks, so that it takes no CPU from whom it waits for: the time is theirs. */
uint64_t rig_entries_wait(void)
{
	const struct timespec pause = {.tv_nsec = ENTRIES_NS};
	uint64_t deadline_ns = now_ns() + PATIENCE_NS, at;

	/* Acquire: pairs with entry. */
	while (!(at = atomic_load_explicit(&entered_ns, memory_order_acquire)) &&
	       now_ns() < deadline_ns)
		nanosleep(&pause, NULL);
	return at;
}

int rig_samples(struct bench *b, enum results_side side, const struct guest_area *area,
		uint64_t from, struct error *err)
{
	/* Acquire: pairs with the guest's store, which on x86 is a release. */
	uint64_t count = atomic_load_explicit(&area->count, memory_order_acquire);

	for (uint64_t i = from + 1; i < count; i++) {
		uint32_t ticks = atomic_load_explicit(&area->sample[i % GUEST_SAMPLES],
						      memory_order_relaxed);

		if (bench_sample(b, side, ticks * guest_tick_ns(), err) < 0)
			return err->code;
	}
	return 0;
}

/* ---- vCPUs ----------------------------------------------------------------------------- */

/* Whose vCPUs are set up: written before threads start. */
static const struct rig *current;

int __wrap_arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err)
{
	if (index == 0 || !current->config.first_only)
		guest_due(index, current->config.program);
	return __real_arch_vcpu_setup(vm, index, vcpu_fd, err);
}

static void serve(struct vcpu *vcpu UNUSED, struct kvm_run *run, const struct arch_exit *exit,
		  void *arg)
{
	struct rig *rig = arg;

	rig->served++;
	if (rig->config.serve)
		rig->config.serve(run, exit, rig->config.arg);
}

static void failed(struct vcpu *vcpu, void *arg)
{
	struct rig *rig = arg;

	rig->failure = vcpu->error;
}

/* ---- the freeze ------------------------------------------------------------------------ */

static void hold(struct freeze *f)
{
	freeze_held(f);
}

static void release(struct freeze *f UNUSED)
{
}

static void over(struct freeze *f UNUSED, const struct freeze_report *report UNUSED)
{
}

static void on_frozen(struct freeze_wait *wait, const struct error *err)
{
	struct rig *rig = container_of(wait, struct rig, wait);

	if (err)
		rig->failure = *err;
	else
		rig->frozen = true;
	rig->frozen_ns = now_ns();
}

int rig_turn(struct rig *rig, struct error *err)
{
	int r = loop_turn(rig->loop, TURN_NS);

	if (r < 0)
		return error_set(err, r, "turning the loop");
	if (rig->failure.code < 0) {
		*err = rig->failure;
		return err->code;
	}
	return 0;
}

int rig_hold(struct rig *rig, struct error *err)
{
	int r;

	rig->frozen = false;
	r = freeze_start(&rig->freeze, "bench", &rig->wait, err);
	while (r == 0 && !rig->frozen)
		r = rig_turn(rig, err);
	return r;
}

int rig_go(struct rig *rig, struct error *err)
{
	int r = freeze_thaw(&rig->freeze);

	return r < 0 ? error_set(err, r, "thawing") : 0;
}

/* ---- life ------------------------------------------------------------------------------ */

/* As kvm_open, but that a host without KVM is short of something. */
static int open_kvm(struct kvm *kvm, struct error *err)
{
	int fd = bench_kvm(err);

	if (fd < 0)
		return fd;
	fd_close(&fd);
	return kvm_open(kvm, "/dev/kvm", err);
}

int rig_prepare(struct rig *rig, const struct rig_config *config, struct error *err)
{
	struct arch_vm_config vm = {.topology = &rig->topology};
	struct guest_layout layout;
	unsigned phys_bits;
	int r;

	*rig = (struct rig){.config = *config, .kvm = {.fd = -1, .vm_fd = -1}};
	rig->wait.done = on_frozen;
	r = topology_from_cpus(config->count, &rig->topology, err);
	if (r == 0)
		r = topology_set_memory(&rig->topology, GUEST_RAM_BYTES, err);
	if (r == 0)
		r = open_kvm(&rig->kvm, err);
	if (r == 0)
		r = arch_host_check(&rig->kvm, &phys_bits, err);
	if (r == 0)
		r = arch_memory_layout(&rig->topology, phys_bits, &layout, err);
	if (r == 0)
		r = guest_memory_init(&rig->mem, &layout, err);
	if (r == 0)
		r = kvm_create_vm(&rig->kvm, arch_vm_type(&rig->kvm, &layout), err);
	if (r == 0)
		r = arch_vm_new(&rig->kvm, &rig->mem, &vm, &rig->vm, err);
	if (r == 0)
		r = kvm_set_memory(&rig->kvm, &rig->mem, err);
	if (r == 0)
		r = loop_new(&rig->loop, err);
	if (r == 0)
		guest_fill(rig->mem.region[0].host);
	return r;
}

int rig_start(struct rig *rig, struct error *err)
{
	const struct vcpu_pool_config pool = {
		.count = rig->config.count,
		.topology = &rig->topology,
		.pin = rig->config.pin,
		.serve = serve,
		.failed = failed,
		.arg = rig,
	};
	struct freeze_config freeze = {
		.loop = rig->loop,
		.vm = rig->vm,
		.hold = hold,
		.release = release,
		.over = over,
	};
	int r = vcpu_pool_new(rig->loop, &rig->kvm, &pool, &rig->pool, err);

	current = rig;
	if (r == 0)
		r = arch_vm_vcpus_created(rig->vm, err);
	freeze.pool = rig->pool;
	if (r == 0)
		r = freeze_init(&rig->freeze, &freeze, err);
	if (r == 0)
		r = vcpu_pool_start(rig->pool, rig->vm, err);
	rig->started = r == 0;
	return r;
}

int rig_open(struct rig *rig, const struct rig_config *config, struct error *err)
{
	int r = rig_prepare(rig, config, err);

	if (r == 0)
		r = rig_start(rig, err);
	return r < 0 ? r : rig_hold(rig, err);
}

void rig_close(struct rig *rig)
{
	if (!rig->wait.done)
		return;
	if (rig->started)
		freeze_kill(&rig->freeze);
	if (rig->pool)
		vcpu_pool_stop(rig->pool);
	freeze_done(&rig->freeze);
	vcpu_pool_free(rig->pool);
	loop_free(rig->loop);
	kvm_close_vm(&rig->kvm);
	arch_vm_free(rig->vm);
	guest_memory_done(&rig->mem);
	kvm_close(&rig->kvm);
	*rig = (struct rig){0};
}

struct guest_area *rig_area(struct rig *rig, unsigned index)
{
	return guest_area(rig->mem.region[0].host, index);
}
