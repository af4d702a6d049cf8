/* floor-start VCPUS MIB KERNEL: the fewest system calls from exec to KVM_RUN. Its guest's vCPUs
 * halt for ever; a signal ends it.
 * floor-start 1 MIB --restore MEMORY: the same, but its memory is that file's, copied on write, in
 * which GUEST_TOUCH lies; what that says goes to standard output. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

#define TSS_GPA	      0xfffbd000ul
#define KERNEL_GPA    0x200000u
#define KERNEL_MAX    KIB(64)
#define XAPIC_VCPUS   255
#define CPUID_ENTRIES 256
#define STACK_BYTES   KIB(64)

static void check(const char *what, int r)
{
	if (r >= 0)
		return;
	fprintf(stderr, "floor-start: %s: %s\n", what, strerror(errno));
	exit(errno == EMFILE || errno == ENOMEM || errno == EINVAL ? 77 : 125);
}

static struct kvm_cpuid2 *cpuid;
static _Atomic uint32_t next;

static enum guest_program program = GUEST_HALT;

static void say(const struct kvm_run *run)
{
	const char *data = (const char *)run + run->io.data_offset;

	if (run->exit_reason != KVM_EXIT_IO || run->io.port != GUEST_COM1)
		return;
	check("standard output", (int)write(STDOUT_FILENO, data, 1));
}

static void *run_vcpu(int fd, const struct kvm_run *run)
{
	int r;

	check("KVM_SET_CPUID2", ioctl(fd, KVM_SET_CPUID2, cpuid));
	check("registers", guest_enter(fd, atomic_fetch_add(&next, 1), program));
	do {
		r = ioctl(fd, KVM_RUN, 0);
		if (r == 0 && program == GUEST_TOUCH)
			say(run);
	} while (r == 0 ? program == GUEST_TOUCH : errno == EINTR || errno == EAGAIN);
	return NULL;
}

static void *run_further(void *arg)
{
	return run_vcpu((int)(intptr_t)arg, NULL);
}

static void load(uint8_t *ram, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	check(path, fd);
	check(path, (int)pread(fd, ram + KERNEL_GPA, KERNEL_MAX, 0));
	close(fd);
	guest_fill(ram);
}

static void *map(uint64_t bytes, const char *memory)
{
	int fd = memory ? open(memory, O_RDONLY | O_CLOEXEC) : -1;

	if (memory)
		check(memory, fd);
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_NORESERVE | (memory ? 0 : MAP_ANONYMOUS), fd, 0);
}

/* kernel or memory is NULL. */
static int make_vm(int kvm, unsigned vcpus, uint64_t bytes, const char *kernel, const char *memory)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_userspace_memory_region region = {.memory_size = bytes};
	void *ram = map(bytes, memory);
	int vm;

	do
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
	while (vm < 0 && errno == EINTR);
	check("KVM_CREATE_VM", vm);
	check("guest memory", ram == MAP_FAILED ? -1 : 0);
	/* These two say that it is the guest's to whoever counts. */
	check("madvise", madvise(ram, bytes, MADV_DONTDUMP));
	check("madvise", madvise(ram, bytes, MADV_DONTFORK));
	if (kernel)
		load(ram, kernel);
	region.userspace_addr = (uintptr_t)ram;
	/* In front of the devices, behind which it would wait for a tick of the host. */
	check("memory", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	check("KVM_SET_TSS_ADDR", ioctl(vm, KVM_SET_TSS_ADDR, TSS_GPA));
	check("irqchip", vcpus <= XAPIC_VCPUS ? ioctl(vm, KVM_CREATE_IRQCHIP, 0)
					      : ioctl(vm, KVM_ENABLE_CAP, &split));
	return vm;
}

int main(int argc, char **argv)
{
	unsigned vcpus = argc >= 4 ? (unsigned)atoi(argv[1]) : 1;
	uint64_t bytes = argc >= 4 ? MIB(atoi(argv[2])) : MIB(256);
	const char *memory = argc == 5 && !strcmp(argv[3], "--restore") ? argv[4] : NULL;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;
	pthread_attr_t attr;
	size_t run_bytes;

	check("/dev/kvm", kvm);
	program = memory ? GUEST_TOUCH : GUEST_HALT;
	vm = make_vm(kvm, vcpus, bytes, memory ? NULL : argc == 4 ? argv[3] : "/dev/null", memory);
	run_bytes = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	check("memory", cpuid ? 0 : -1);
	cpuid->nent = CPUID_ENTRIES;
	check("KVM_GET_SUPPORTED_CPUID", ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (unsigned i = 0; i < vcpus; i++) {
		int fd = ioctl(vm, KVM_CREATE_VCPU, i);
		void *run;
		pthread_t thread;

		check("KVM_CREATE_VCPU", fd);
		run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		check("run page", run == MAP_FAILED ? -1 : 0);
		/* The last one is this thread's. */
		if (i + 1 == vcpus)
			run_vcpu(fd, run);
		else if ((errno = pthread_create(&thread, &attr, run_further,
						 (void *)(intptr_t)fd)))
			check("threads", -1);
	}
	return 0;
}
