/* The whole state of a vCPU and of the VM, by one function that saves and restores. Each function's
 * thread is in arch.h.
 *
 * A vCPU restores itself; the GIC knows CPUs by their MPIDR and is touched only while none of them
 * is, so that it comes last, and the counter after it. */
#include "arch/aarch64/machine.h"
#include "base/util.h"

enum { VERSION = 1 };

void arch_vm_features(const struct arch_vm *vm,
		      void (*each)(const char *name, uint32_t bits, void *arg), void *arg)
{
	registers_features(vm->vcpu_fd[0], each, arg);
}

/* ---- the VM ---------------------------------------------------------------------------------- */

_Static_assert(SVE_LENGTH_WORDS == KVM_ARM64_SVE_VLS_WORDS, "KVM's own");

/* KVM takes any set of lengths that is a part of the host's. */
static void lengths_state(struct arch_vm *vm, struct state_io *io)
{
	int r = 0;

	if (!vm->has_sve)
		return;
	if (!io->restoring)
		r = register_get(vm->vcpu_fd[0], KVM_REG_ARM64_SVE_VLS, vm->sve_lengths);
	if (r < 0)
		state_fail(io, r, "reading SVE's vector lengths");
	if (state_begin(io, "sve", VERSION)) {
		for (size_t i = 0; i < ARRAY_SIZE(vm->sve_lengths); i++)
			state_u64(io, "lengths", &vm->sve_lengths[i]);
		vm->has_lengths = true;
	}
	state_end(io);
}

/* What its vCPUs were asked to have: a restored one has that, and no more. */
static void features_state(struct arch_vm *vm, struct state_io *io)
{
	uint32_t features = vm->features;
	bool stolen = vm->has_stolen;

	if (state_begin(io, "features", VERSION)) {
		state_u32(io, "features", &features);
		state_bool(io, "stolen_time", &stolen);
		if (state_restoring(io) && features & ~vm->features)
			state_refuse(io, "features",
				     "this host's KVM lacks features of vCPUs (bits %#x)",
				     features & ~vm->features);
		if (state_restoring(io) && stolen && !vm->has_stolen)
			state_refuse(io, "stolen_time", "this host's KVM has no stolen time");
	}
	state_end(io);
	if (state_restoring(io)) {
		cpu_features(vm, features);
		vm->has_stolen = stolen;
		if (!stolen)
			vm->plan.stolen_gpa = 0;
	}
	lengths_state(vm, io);
}

/* count: of the guest's counter. */
static void counter_state(uint64_t *count, struct state_io *io)
{
	uint64_t hz = freeze_counter_hz(), saved = hz;

	if (state_begin(io, "counter", VERSION)) {
		state_u64(io, "count", count);
		state_u64(io, "hz", &saved);
		if (state_restoring(io) && saved != hz)
			state_refuse(io, "hz", "it counts %llu a second, and this host's %llu",
				     (unsigned long long)saved, (unsigned long long)hz);
	}
	state_end(io);
}

void arch_vm_save(struct arch_vm *vm, const struct arch_clock *clock, struct state_io *io)
{
	uint64_t count = freeze_guest_count(vm, clock);

	features_state(vm, io);
	gic_state(vm, io);
	counter_state(&count, io);
}

void arch_vm_restore(struct arch_vm *vm, struct arch_clock *clock UNUSED, struct state_io *io)
{
	features_state(vm, io);
	gic_state(vm, io);
	counter_state(&vm->restored_count, io);
}

int arch_vm_vcpus_restored(struct arch_vm *vm, struct error *err)
{
	int r = gic_restore(vm, err);

	if (r < 0)
		return r;
	r = freeze_set_count(vm, vm->restored_count);
	return r < 0 ? error_set(err, r, "setting the guest's counter") : 0;
}

/* ---- one vCPU -------------------------------------------------------------------------------- */

/* What is pending of system errors: nothing, for a KVM before Linux 4.19. */
static void events_state(const struct arch_vm *vm, int fd, struct state_io *io)
{
	bool has = kvm_cap(vm->kvm, KVM_CAP_VCPU_EVENTS) > 0;
	struct kvm_vcpu_events events = {0};
	int r = 0;

	if (!io->restoring && has)
		r = kvm_ioctl(fd, KVM_GET_VCPU_EVENTS, &events);
	if (state_begin(io, "events", VERSION))
		state_bytes(io, "struct", &events, sizeof(events));
	if (state_restoring(io) && (has || events.exception.serror_pending))
		r = kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &events);
	if (r < 0)
		state_fail(io, r, io->restoring ? "KVM does not take it" : "reading it");
	state_end(io);
}

/* Whether it is powered: who was never started stays so. */
static void power_state(int fd, struct state_io *io)
{
	struct kvm_mp_state mp = {0};
	int r = io->restoring ? 0 : kvm_ioctl(fd, KVM_GET_MP_STATE, &mp);

	if (state_begin(io, "mp", VERSION))
		state_u32(io, "state", &mp.mp_state);
	if (state_restoring(io))
		r = kvm_ioctl(fd, KVM_SET_MP_STATE, &mp);
	if (r < 0)
		state_fail(io, r, io->restoring ? "KVM does not take it" : "reading it");
	state_end(io);
}

static void vcpu_state(const struct arch_vm *vm, int fd, struct state_io *io)
{
	registers_state(fd, io);
	events_state(vm, fd, io);
	power_state(fd, io);
}

void arch_vcpu_save(struct arch_vm *vm, unsigned index UNUSED, int vcpu_fd,
		    const struct arch_vcpu_state *state UNUSED, struct arch_clock *clock UNUSED,
		    struct state_io *io)
{
	vcpu_state(vm, vcpu_fd, io);
}

void arch_vcpu_restore(struct arch_vm *vm, unsigned index, int vcpu_fd,
		       struct arch_clock *clock UNUSED, struct state_io *io)
{
	struct error err = {0};
	int r = cpu_init(vm, index, vcpu_fd, &err);

	if (r == 0)
		vcpu_state(vm, vcpu_fd, io);
	else if (!io->err.code)
		io->err = err; /* it has words of its own */
}

/* A GIC keeps the edge of an interrupt that is not enabled (IHI 0069, 4.1.2). */
bool arch_edge_is_lost(const struct kvm *kvm UNUSED, uint32_t gsi UNUSED)
{
	return false;
}
