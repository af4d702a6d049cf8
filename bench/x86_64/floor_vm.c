/* The smallest VM with an interrupt controller in the kernel. Main thread. */
#include "floor_vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define TSS_GPA	      0xfffbd000ul
#define CPUID_ENTRIES 256
#define XAPIC_VCPUS   255

struct kvm_cpuid2 *floor_cpuid(int kvm_fd)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));

	if (!cpuid)
		return NULL;
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0)
		return cpuid;
	free(cpuid);
	return NULL;
}

int floor_failed(int failed, const char *doing, struct error *err)
{
	if (failed != -EPROTO)
		return error_set(err, failed, "%s", doing);
	return error_failed(err,
			    "%s: KVM did not take a register, or the guest left by an exit that "
			    "its program does not have",
			    doing);
}

int floor_msr(int vcpu_fd, unsigned long request, uint32_t index, uint64_t *value)
{
	_Alignas(struct kvm_msrs)
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = {0};
	struct kvm_msrs *msrs = (struct kvm_msrs *)room;
	const struct kvm_msr_entry entry = {.index = index, .data = *value};

	msrs->nmsrs = 1;
	memcpy(msrs->entries, &entry, sizeof(entry));
	if (ioctl(vcpu_fd, request, msrs) != 1)
		return -EPROTO;
	*value = msrs->entries[0].data;
	return 0;
}

/* All in the kernel; past the ids that xAPIC reaches, the local APICs only. */
static int make_irqchip(int fd, unsigned count)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	return count <= XAPIC_VCPUS ? ioctl(fd, KVM_CREATE_IRQCHIP, 0)
				    : ioctl(fd, KVM_ENABLE_CAP, &split);
}

int floor_vm_create(struct floor_vm *vm, unsigned count, struct error *err)
{
	struct kvm_userspace_memory_region region = {.memory_size = GUEST_RAM_BYTES};
	int run_bytes;

	*vm = (struct floor_vm){.kvm_fd = -1, .fd = -1, .ram = MAP_FAILED};
	vm->kvm_fd = bench_kvm(err);
	if (vm->kvm_fd < 0)
		return err->code;
	vm->vcpu = calloc(count, sizeof(*vm->vcpu));
	run_bytes = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->ram = mmap(NULL, GUEST_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	/* A loaded host says EINTR now and then. */
	do
		vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	while (vm->fd < 0 && errno == EINTR);
	if (!vm->vcpu || run_bytes < 0 || vm->ram == MAP_FAILED || vm->fd < 0 ||
	    ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA) < 0 || make_irqchip(vm->fd, count) < 0)
		return error_set_shortage(err, -errno, "making the floor's VM");
	vm->run_bytes = (size_t)run_bytes;
	region.userspace_addr = (uintptr_t)vm->ram;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return error_set_shortage(err, -errno, "giving the floor's VM memory");
	guest_fill(vm->ram);
	return 0;
}

int floor_vcpu_create(struct floor_vm *vm, unsigned index, struct error *err)
{
	struct floor_vcpu *v = &vm->vcpu[index];

	*v = (struct floor_vcpu){.area = guest_area(vm->ram, index % GUEST_AREAS)};
	v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, index);
	if (v->fd < 0)
		return error_set_shortage(err, -errno, "creating the floor's vCPU %u", index);
	v->run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		fd_close(&v->fd);
		return error_set_shortage(err, -errno, "mapping the floor's vCPU %u", index);
	}
	vm->count = index + 1;
	return 0;
}

int floor_vm_open(struct floor_vm *vm, unsigned count, enum guest_program program,
		  struct error *err)
{
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = NULL;
	int r = floor_vm_create(vm, count, err);

	if (r == 0) {
		cpuid = floor_cpuid(vm->kvm_fd);
		if (!cpuid)
			r = error_set_shortage(err, -ENOMEM, "reading the host's CPUID");
	}
	for (unsigned i = 0; r == 0 && i < count; i++) {
		r = floor_vcpu_create(vm, i, err);
		if (r == 0 && ioctl(vm->vcpu[i].fd, KVM_SET_CPUID2, cpuid) < 0)
			r = error_set(err, -errno, "setting the floor's CPUID");
		if (r < 0)
			break;
		r = guest_enter(vm->vcpu[i].fd, i, program);
		if (r < 0)
			error_set(err, r, "setting the floor's registers");
	}
	if (r < 0)
		floor_vm_close(vm);
	return r;
}

void floor_vm_close(struct floor_vm *vm)
{
	if (!vm->ram)
		return;
	for (unsigned i = 0; i < vm->count; i++) {
		munmap(vm->vcpu[i].run, vm->run_bytes);
		fd_close(&vm->vcpu[i].fd);
	}
	free(vm->vcpu);
	fd_close(&vm->fd);
	if (vm->ram != MAP_FAILED)
		munmap(vm->ram, GUEST_RAM_BYTES);
	fd_close(&vm->kvm_fd);
	*vm = (struct floor_vm){0};
}
