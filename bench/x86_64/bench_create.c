/* bench-create: N vCPUs from nothing until every one of their threads is about to enter KVM_RUN for
 * the first time. The VM, its memory and its interrupt controllers are there before. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "floor_vm.h"
#include "rig.h"

/* As the product's. Threads are small where there are a thousand. */
#define STACK_BYTES KIB(64)
#define KICK	    SIGRTMIN

#define XAPIC_VCPUS   255
#define MSR_APIC_BASE 0x1b
#define X2APIC_ON     0xfee00c00u /* its address, enabled, in x2APIC mode */
#define BSP_BIT	      8

/* ---- the floor ------------------------------------------------------------------------- */

struct floor_create {
	struct floor_vm vm;
	unsigned vcpus;
	const struct kvm_cpuid2 *cpuid;
	struct floor_thread {
		struct floor_create *floor;
		unsigned index;
		bool started;
	} * thread;
	_Atomic int failed; /* negative errno of a thread's */
	_Atomic bool end;
};

static void on_kick(int signo UNUSED)
{
}

/* Ids past xAPIC's reach: interrupts reach them in x2APIC mode only (SDM vol. 3, 11.12). */
static int set_x2apic(int fd, unsigned index)
{
	uint64_t base = X2APIC_ON | (uint64_t)(index == 0) << BSP_BIT;

	return floor_msr(fd, KVM_SET_MSRS, MSR_APIC_BASE, &base);
}

static void *run_vcpu(void *arg)
{
	struct floor_thread *t = arg;
	struct floor_create *f = t->floor;
	struct floor_vcpu *v = &f->vm.vcpu[t->index];

	/* The first has to begin somewhere, on both sides; the others wait for it to start them. */
	if (ioctl(v->fd, KVM_SET_CPUID2, f->cpuid) < 0)
		f->failed = -errno;
	else if ((f->vcpus > XAPIC_VCPUS && set_x2apic(v->fd, t->index) < 0) ||
		 (t->index == 0 && guest_enter(v->fd, t->index, GUEST_HALT) < 0))
		f->failed = -EPROTO;
	while (!f->end) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0)
			break;
		if (errno != EINTR && errno != EAGAIN) {
			f->failed = -errno;
			break;
		}
	}
	return NULL;
}

/* What is measured. */
static int floor_start(struct floor_create *f, unsigned vcpus, struct error *err)
{
	pthread_attr_t attr;
	int r = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (unsigned i = 0; r == 0 && i < vcpus; i++)
		r = floor_vcpu_create(&f->vm, i, err);
	for (unsigned i = 0; r == 0 && i < vcpus; i++) {
		f->thread[i] = (struct floor_thread){.floor = f, .index = i};
		r = -pthread_create(&f->vm.vcpu[i].thread, &attr, run_vcpu, &f->thread[i]);
		f->thread[i].started = r == 0;
		if (r < 0)
			error_set_shortage(err, r, "starting the floor's threads");
	}
	pthread_attr_destroy(&attr);
	return r;
}

static void floor_stop(struct floor_create *f)
{
	f->end = true;
	for (unsigned i = 0; i < f->vm.count; i++) {
		if (!f->thread[i].started)
			continue;
		__atomic_store_n(&f->vm.vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(f->vm.vcpu[i].thread, KICK);
	}
	for (unsigned i = 0; i < f->vm.count; i++)
		if (f->thread[i].started)
			pthread_join(f->vm.vcpu[i].thread, NULL);
}

static int sample(struct bench *b, enum results_side side, uint64_t begin_ns, struct error *err)
{
	uint64_t entered_ns = rig_entries_wait();

	if (!entered_ns)
		return error_failed(err, "starting: not every vCPU ran in time");
	return bench_sample(b, side, (double)(entered_ns - begin_ns), err);
}

static int floor_once(struct bench *b, unsigned vcpus, struct error *err)
{
	struct floor_create f = {0};
	CLEANUP_FREE struct floor_thread *threads = calloc(vcpus, sizeof(*threads));
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = NULL;
	uint64_t begin_ns;
	int r = threads ? 0 : error_set_shortage(err, -ENOMEM, "making the floor");

	f.thread = threads;
	f.vcpus = vcpus;
	if (r == 0)
		r = floor_vm_create(&f.vm, vcpus, err);
	if (r == 0) {
		f.cpuid = cpuid = floor_cpuid(f.vm.kvm_fd);
		r = cpuid ? 0 : error_set_shortage(err, -ENOMEM, "reading the host's CPUID");
	}
	if (r == 0) {
		rig_entries_expect(vcpus);
		begin_ns = now_ns();
		r = floor_start(&f, vcpus, err);
		if (r == 0)
			r = sample(b, RESULTS_FLOOR, begin_ns, err);
		floor_stop(&f);
	}
	if (r == 0 && f.failed < 0)
		r = floor_failed(f.failed, "setting up the floor's vCPUs", err);
	floor_vm_close(&f.vm);
	return r;
}

/* ---- the product ----------------------------------------------------------------------- */

static int product_once(struct bench *b, unsigned vcpus, struct error *err)
{
	const struct rig_config config = {
		.count = vcpus,
		.program = GUEST_HALT,
		.first_only = true,
	};
	struct rig rig = {0};
	int r = rig_prepare(&rig, &config, err);

	if (r == 0) {
		uint64_t begin_ns = now_ns();

		rig_entries_expect(vcpus);
		r = rig_start(&rig, err);
		if (r == 0)
			r = sample(b, RESULTS_PRODUCT, begin_ns, err);
	}
	rig_close(&rig);
	return r;
}

static int run(struct bench *b, struct error *err)
{
	static const struct {
		unsigned vcpus, rounds;
		const char *name;
	} kinds[] = {{1, 100, "create.1"},
		     {64, 30, "create.64"},
		     {256, 10, "create.256"},
		     {1024, 5, "create.1024"}};
	struct sigaction action = {.sa_handler = on_kick};
	int r = bench_pin(b, -1, err);

	sigemptyset(&action.sa_mask);
	if (r == 0 && sigaction(KICK, &action, NULL) < 0)
		r = error_set(err, -errno, "handling the floor's signal");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct results_spec spec = {kinds[i].name,
						  "vCPUs and threads until all are about to run",
						  "ns", .goal = 1.10};

		if (!bench_row(b, &spec, kinds[i].rounds, err))
			continue;
		while (r == 0 && bench_round(b, err)) {
			r = floor_once(b, kinds[i].vcpus, err);
			if (r == 0)
				r = product_once(b, kinds[i].vcpus, err);
		}
	}
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"create",
						     "vCPUs from nothing to their first KVM_RUN",
						     run};

	return bench_main(&program, argc, argv);
}
