/* /dev/kvm and a VM descriptor: the calls that are the same on every architecture.
 * Owned by the control thread; vCPU threads use only their own vCPU descriptor. */
#ifndef STASIS_ARCH_KVM_H
#define STASIS_ARCH_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>

#include "base/error.h"
#include "guest/memory.h"

struct kvm {
	int fd;		     /* /dev/kvm */
	int vm_fd;	     /* -1 until kvm_create_vm */
	uint32_t run_size;   /* bytes of a vCPU's run mapping */
	bool immediate_exit; /* KVM_CAP_IMMEDIATE_EXIT */
	uint32_t max_vcpus, max_vcpu_id;
	unsigned phys_bits; /* most that a VM's type can ask for; arch_host_check's, or 0 */
	void *host;	    /* what arch_host_check has read, for arch_vm_new, or NULL; malloc'ed */
};

struct kvm_need {
	long cap;
	const char *name;
};

/* Opens path (normally "/dev/kvm") and requires API 12. ENOENT, EACCES: usage-free host errors
 * with a hint (load the module, join group kvm); shortages are contention. */
int kvm_open(struct kvm *kvm, const char *path, struct error *err) MUST_CHECK;
/* All n capabilities, or one error that names every one that lacks. */
int kvm_require(const struct kvm *kvm, const struct kvm_need *needs, size_t n,
		struct error *err) MUST_CHECK;
/* KVM_CHECK_EXTENSION on the VM if there is one, else on the system; 0 if unknown. */
int kvm_cap(const struct kvm *kvm, long cap);
/* KVM_CREATE_VM with retries (EINTR without end, the codes of a loaded host with backoff for up to
 * 2 s); shortages are contention. type is the architecture's machine type. */
int kvm_create_vm(struct kvm *kvm, unsigned long type, struct error *err) MUST_CHECK;
/* As few slots as it can be: regions that touch share one. Read-write. */
int kvm_set_memory(struct kvm *kvm, const struct guest_memory *mem, struct error *err) MUST_CHECK;
/* Binds eventfd to gsi, edge. */
int kvm_irqfd(struct kvm *kvm, int fd, uint32_t gsi, struct error *err) MUST_CHECK;
/* A message-signalled interrupt, and the GSI whose irqfd sends it. */
struct kvm_route {
	uint32_t gsi, addr_lo, addr_hi, data;
};
/* KVM_SET_GSI_ROUTING: these n are the whole table from now on. Waits for a grace period of the
 * host's, milliseconds; on failure the old table stands. Negative errno. */
int kvm_set_msi_routes(struct kvm *kvm, const struct kvm_route *route, unsigned n) MUST_CHECK;
/* KVM_SIGNAL_MSI: once, past the table. The number of vCPUs that took it, or negative errno. */
int kvm_signal_msi(struct kvm *kvm, const struct kvm_route *route) MUST_CHECK;
/* Writes of value (4 bytes) to addr signal fd instead of exiting. */
int kvm_ioeventfd_mmio(struct kvm *kvm, int fd, uint64_t addr, uint32_t value,
		       struct error *err) MUST_CHECK;
int kvm_enable_cap(struct kvm *kvm, uint32_t cap, uint64_t arg0) MUST_CHECK;
/* How long the host polls for a halted vCPU before it sleeps. Without the capability the module's
 * own halt polling stands. */
int kvm_set_halt_poll(struct kvm *kvm, uint32_t ns, struct error *err) MUST_CHECK;
/* ioctl that repeats on EINTR and returns a negative errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg) MUST_CHECK;
/* KVM_GET_DEVICE_ATTR and KVM_SET_DEVICE_ATTR of a device or a vCPU (KVM API, 4.80); the value's
 * size is the attribute's. Negative errno. */
static inline int kvm_get_attr(int fd, uint32_t group, uint64_t which, void *ret_value)
{
	struct kvm_device_attr a = {.group = group, .attr = which, .addr = (uintptr_t)ret_value};

	return kvm_ioctl(fd, KVM_GET_DEVICE_ATTR, &a);
}
static inline int kvm_set_attr(int fd, uint32_t group, uint64_t which, const void *value)
{
	struct kvm_device_attr a = {.group = group, .attr = which, .addr = (uintptr_t)value};

	return kvm_ioctl(fd, KVM_SET_DEVICE_ATTR, &a);
}
/* Closes the VM descriptor only; after the vCPUs', before guest memory goes. */
void kvm_close_vm(struct kvm *kvm);
/* Closes the VM, then /dev/kvm. Accepts a zeroed object with both descriptors -1. */
void kvm_close(struct kvm *kvm);

#endif
