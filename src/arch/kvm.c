/* /dev/kvm and VM descriptors: opening, checking, and the calls that every architecture shares.
 * Control thread. */
#include "arch/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/util.h"

#define API_VERSION    12
#define RETRY_LIMIT_NS 2000000000u
#define RETRY_PAUSE_NS 5000000
#define DEFAULT_VCPUS  4 /* KVM_CAP_NR_VCPUS, where the kernel does not say (KVM API, 4.4) */

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* KVM takes less than 2^31 pages in one slot (KVM_MEM_MAX_NR_PAGES of its kvm_main.c). */
#define SLOT_MAX GIB(4096)

static int open_failed(const char *path, int code, struct error *err)
{
	error_set_shortage(err, code, "opening %s", path);
	if (code == -ENOENT || code == -ENXIO || code == -ENODEV)
		error_hint(err, "%s; in a virtual machine, its host has to allow nesting",
			   arch_kvm_hint);
	else if (code == -EACCES || code == -EPERM)
		error_hint(err, "be in the group that owns %s", path);
	return code;
}

int kvm_open(struct kvm *kvm, const char *path, struct error *err)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int version, r;

	if (fd < 0)
		return open_failed(path, -errno, err);
	version = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);
	if (version < 0) {
		close(fd);
		return error_set(err, version, "asking %s for KVM's API version", path);
	}
	if (version != API_VERSION) {
		r = error_usage(err, "%s: API version %d, %d is needed", path, version,
				API_VERSION);
		close(fd);
		return r;
	}
	r = kvm_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (r < (int)sizeof(struct kvm_run)) {
		close(fd);
		return error_set(err, r < 0 ? r : -EPROTO, "asking %s for the size of a run page",
				 path);
	}
	*kvm = (struct kvm){.fd = fd, .vm_fd = -1, .run_size = (uint32_t)r};
	kvm->immediate_exit = kvm_cap(kvm, KVM_CAP_IMMEDIATE_EXIT) > 0;
	kvm->max_vcpus = (uint32_t)(kvm_cap(kvm, KVM_CAP_MAX_VCPUS)
					    ?: kvm_cap(kvm, KVM_CAP_NR_VCPUS) ?: DEFAULT_VCPUS);
	kvm->max_vcpu_id = (uint32_t)kvm_cap(kvm, KVM_CAP_MAX_VCPU_ID) ?: kvm->max_vcpus;
	return 0;
}

int kvm_cap(const struct kvm *kvm, long cap)
{
	int fd = kvm->vm_fd >= 0 ? kvm->vm_fd : kvm->fd;
	int r = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

int kvm_require(const struct kvm *kvm, const struct kvm_need *needs, size_t n, struct error *err)
{
	char missing[384] = "";
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		if (kvm_cap(kvm, needs[i].cap) > 0 || len >= sizeof(missing))
			continue;
		len += (size_t)snprintf(missing + len, sizeof(missing) - len, "%s%s",
					len ? ", " : "", needs[i].name);
	}
	if (!len)
		return 0;
	return error_contention(err, "this host's KVM lacks %s", missing);
}

static bool is_passing(int code)
{
	return code == -ENOMEM || code == -EBUSY || code == -EMFILE || code == -ENFILE ||
	       code == -EAGAIN;
}

int kvm_create_vm(struct kvm *kvm, unsigned long type, struct error *err)
{
	const struct timespec pause = {.tv_nsec = RETRY_PAUSE_NS};
	uint64_t end_ns = now_ns() + RETRY_LIMIT_NS;
	int fd;

	for (;;) {
		/* EINTR: a signal came while KVM set up its notifiers; nothing is left of it. */
		fd = ioctl(kvm->fd, KVM_CREATE_VM, type);
		if (fd >= 0)
			break;
		if (errno == EINTR)
			continue;
		if (!is_passing(-errno) || now_ns() > end_ns)
			return error_set_shortage(err, -errno, "creating a VM");
		nanosleep(&pause, NULL);
	}
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	kvm->vm_fd = fd;
	return 0;
}

static int set_slot(struct kvm *kvm, const struct guest_memory *mem, uint32_t slot, uint64_t gpa,
		    uint64_t len, struct error *err)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)guest_ptr(mem, gpa, len),
	};
	int r = kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

	return r < 0 ? error_set_shortage(err, r, "giving the guest its memory at %#llx",
					  (unsigned long long)gpa)
		     : 0;
}

int kvm_set_memory(struct kvm *kvm, const struct guest_memory *mem, struct error *err)
{
	uint32_t slots = 0;
	unsigned i = 0;
	int r = 0;

	while (i < mem->count && r == 0) {
		uint64_t at = mem->region[i].range.gpa, end = at;

		/* One reservation: what touches in the guest touches here. */
		while (i < mem->count && mem->region[i].range.gpa == end)
			end += mem->region[i++].range.size;
		for (; at < end && r == 0; at += MIN(end - at, SLOT_MAX))
			r = set_slot(kvm, mem, slots++, at, MIN(end - at, SLOT_MAX), err);
	}
	return r;
}

int kvm_irqfd(struct kvm *kvm, int fd, uint32_t gsi, struct error *err)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};
	int r = kvm_ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd);

	return r < 0 ? error_set_shortage(err, r, "binding an event to interrupt %u", gsi) : 0;
}

int kvm_ioeventfd_mmio(struct kvm *kvm, int fd, uint64_t addr, uint32_t value, struct error *err)
{
	struct kvm_ioeventfd event = {
		.datamatch = value,
		.addr = addr,
		.len = sizeof(value),
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int r = kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &event);

	return r < 0 ? error_set_shortage(err, r, "binding an event to writes at %#llx",
					  (unsigned long long)addr)
		     : 0;
}

int kvm_set_msi_routes(struct kvm *kvm, const struct kvm_route *route, unsigned n)
{
	CLEANUP_FREE struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + n * sizeof(table->entries[0]));

	if (!table)
		return -ENOMEM;
	table->nr = n;
	for (unsigned i = 0; i < n; i++)
		table->entries[i] = (struct kvm_irq_routing_entry){
			.gsi = route[i].gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = route[i].addr_lo,
				  .address_hi = route[i].addr_hi,
				  .data = route[i].data},
		};
	return kvm_ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, table);
}

int kvm_signal_msi(struct kvm *kvm, const struct kvm_route *route)
{
	struct kvm_msi msi = {
		.address_lo = route->addr_lo,
		.address_hi = route->addr_hi,
		.data = route->data,
	};

	return kvm_ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi);
}

int kvm_enable_cap(struct kvm *kvm, uint32_t cap, uint64_t arg0)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {arg0}};

	return kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &enable);
}

int kvm_set_halt_poll(struct kvm *kvm, uint32_t ns, struct error *err)
{
	int r = kvm_cap(kvm, KVM_CAP_HALT_POLL) > 0 ? kvm_enable_cap(kvm, KVM_CAP_HALT_POLL, ns)
						    : 0;

	return r < 0 ? error_set(err, r, "setting halt polling to %u ns", ns) : 0;
}

void kvm_close_vm(struct kvm *kvm)
{
	fd_close(&kvm->vm_fd);
}

void kvm_close(struct kvm *kvm)
{
	kvm_close_vm(kvm);
	fd_close(&kvm->fd);
	free(kvm->host);
	kvm->host = NULL;
}
