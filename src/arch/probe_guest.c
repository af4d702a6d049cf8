/* Runs a guest of one vCPU until it is through, stops, or hangs. */
#include "arch/probe_guest.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "base/util.h"

static void on_alarm(int signo UNUSED)
{
}

static void run_steps(const struct probe_guest *guest, int vcpu, const struct kvm_run *run)
{
	uint64_t end_ns = now_ns() + PROBE_LIMIT_S * 1000000000ull;

	while (now_ns() < end_ns) {
		/* EINTR: the alarm, or a signal of someone else's. */
		if (ioctl(vcpu, KVM_RUN, 0) < 0 ? errno != EINTR : !guest->step(run, guest->arg))
			break;
	}
}

static void run_limited(const struct probe_guest *guest, int vcpu, const struct kvm_run *run)
{
	struct sigaction action = {.sa_handler = on_alarm}, old_action;
	struct itimerval limit = {.it_value.tv_sec = PROBE_LIMIT_S, .it_interval.tv_usec = 100000};
	struct itimerval off = {0};
	sigset_t alarm_set, old_set;

	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	sigaction(SIGALRM, &action, &old_action);
	pthread_sigmask(SIG_UNBLOCK, &alarm_set, &old_set);
	setitimer(ITIMER_REAL, &limit, NULL);
	run_steps(guest, vcpu, run);
	setitimer(ITIMER_REAL, &off, NULL);
	pthread_sigmask(SIG_SETMASK, &old_set, NULL);
	sigaction(SIGALRM, &old_action, NULL);
}

static int run_vcpu(const struct kvm *vm, const struct probe_guest *guest)
{
	int vcpu = kvm_ioctl(vm->vm_fd, KVM_CREATE_VCPU, NULL);
	struct kvm_run *run;
	int r;

	if (vcpu < 0)
		return vcpu;
	r = guest->set_up(vm, vcpu, guest->arg);
	if (r == 0) {
		run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
		if (run == MAP_FAILED) {
			r = -errno;
		} else {
			run_limited(guest, vcpu, run);
			munmap(run, vm->run_size);
		}
	}
	fd_close(&vcpu);
	return r;
}

int probe_guest_run(const struct kvm *kvm, const struct probe_guest *guest, struct error *err)
{
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = guest->ram_gpa,
		.memory_size = guest->ram_size,
	};
	struct kvm own = *kvm;
	uint8_t *ram = mmap(NULL, guest->ram_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (ram == MAP_FAILED)
		return error_set_shortage(err, -errno, "mapping a probe guest's memory");
	guest->fill(ram);
	slot.userspace_addr = (uintptr_t)ram;
	own.vm_fd = -1;
	r = kvm_create_vm(&own, guest->type, err);
	if (r == 0) {
		r = kvm_ioctl(own.vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
		if (r == 0)
			r = run_vcpu(&own, guest);
		if (r < 0)
			error_set_shortage(err, r, "running a probe guest");
		kvm_close_vm(&own);
	}
	munmap(ram, guest->ram_size);
	return r;
}
