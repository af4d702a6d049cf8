/* Puts the guest that reads a disk (guest_disk.h) into a machine monitor, and passes orders and
 * outcomes between it and who measures. Linked into the product with --wrap=ioctl; or, with
 * SHIM_PRELOAD, loaded into a peer. The monitor's own set-up is over by then: what it put into the
 * guest's memory and registers gives way, as in the rig. The thread of the only vCPU, but where
 * said. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "child.h"
#include "disk_shim.h"
#include "guest.h"
#include "guest_disk.h"

#ifdef SHIM_PRELOAD
#define __wrap_ioctl		       ioctl
#define __real_ioctl(fd, request, arg) ((int)syscall(SYS_ioctl, fd, request, arg))
#else
int __real_ioctl(int fd, unsigned long request, ...);
#endif
int __wrap_ioctl(int fd, unsigned long request, ...);

#define SLOTS 64

static_assert(DISK_IMAGE_GPA == GUEST_IMAGE_GPA, "GUEST_IMAGE jumps there");

/* Memory slots of the machine, written while it is set up: before its vCPU's first KVM_RUN. */
static struct {
	uint64_t gpa, bytes, host;
} memory[SLOTS];

static struct {
	int fd; /* to who measures; -1: not begun */
	struct kvm_run *run;
	struct disk_words *words;
	bool ordered; /* the guest works; else it waits for an order */
} shim = {.fd = -1};

static void check(const char *what, bool fine)
{
	if (fine)
		return;
	fprintf(stderr, "disk_shim: %s: %s\n", what, strerror(errno));
	_exit(125);
}

/* Any thread. The second request's struct begins as the first's. */
static void keep_slot(const struct kvm_userspace_memory_region *r)
{
	if (r->slot >= SLOTS)
		return; /* of another address space */
	memory[r->slot].gpa = r->guest_phys_addr;
	memory[r->slot].bytes = r->memory_size;
	memory[r->slot].host = r->userspace_addr;
}

static void *at(uint64_t gpa, uint64_t bytes)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (gpa >= memory[i].gpa && gpa - memory[i].gpa < memory[i].bytes &&
		    bytes <= memory[i].bytes - (gpa - memory[i].gpa))
			return (void *)(uintptr_t)(memory[i].host + (gpa - memory[i].gpa));
	errno = EFAULT;
	return NULL;
}

static void bind_thread(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check("binding a thread", sched_setaffinity(tid, sizeof(set), &set) == 0 || errno == ESRCH);
}

/* This thread has the first CPU, all others share the second, as their threads will. Until now the
 * monitor saw both, and chose by that whether to spin. */
static void bind_all(void)
{
	const char *cpus = getenv(DISK_SHIM_CPUS);
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	int cpu[2];

	check("finding threads", tasks && cpus);
	check(DISK_SHIM_CPUS, sscanf(cpus, "%d,%d", &cpu[0], &cpu[1]) == 2);
	while ((entry = readdir(tasks)))
		if (atoi(entry->d_name) > 0)
			bind_thread(atoi(entry->d_name), cpu[atoi(entry->d_name) != gettid()]);
	closedir(tasks);
}

static void begin(int vcpu)
{
	const char *image = getenv(DISK_SHIM_IMAGE), *fd = getenv(CHILD_FD);
	uint64_t ns = now_ns();
	int file = open(image ?: "", O_RDONLY | O_CLOEXEC);
	uint8_t *low = at(0, GUEST_FILL_BYTES);
	uint8_t *high = at(DISK_IMAGE_GPA, DISK_END_GPA - DISK_IMAGE_GPA);

	check("guest memory", low && high);
	check("the guest", file >= 0 && fd);
	guest_fill(low);
	memset(high, 0, DISK_END_GPA - DISK_IMAGE_GPA);
	check("reading the guest", read(file, high, DISK_IMAGE_MAX) > 0);
	close(file);
	bind_all();
	check("registers", guest_enter(vcpu, 0, GUEST_IMAGE) == 0);
	shim.run = mmap(NULL, sizeof(*shim.run), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	check("the run page", shim.run != MAP_FAILED);
	shim.words = (void *)(high + (DISK_WORDS_GPA - DISK_IMAGE_GPA));
	shim.fd = atoi(fd);
	shim.ordered = true; /* to come up */
	check("the stamp", write(shim.fd, &ns, sizeof(ns)) == sizeof(ns));
}

/* False: kicked. Where who measures has gone, this process ends. */
static bool wait_order(void)
{
	struct disk_order order;
	ssize_t n;

	/* A kick that lands behind this look waits for the next order, or for the end. */
	if (shim.run->immediate_exit)
		return false;
	n = read(shim.fd, &order, sizeof(order));
	if (n < 0 && errno == EINTR)
		return false;
	if (n != sizeof(order))
		_exit(0);
	shim.words->order = order;
	shim.ordered = true;
	return true;
}

/* The guest is ready: with the outcome of an order, or come up. */
static void hand_over(void)
{
	struct disk_outcome outcome = shim.words->outcome;

	shim.ordered = false;
	if (write(shim.fd, &outcome, sizeof(outcome)) != sizeof(outcome))
		_exit(0);
}

static int run(int vcpu, void *arg)
{
	if (shim.fd < 0)
		begin(vcpu);
	for (;;) {
		int r;

		if (!shim.ordered && !wait_order()) {
			errno = EINTR;
			return -1;
		}
		r = __real_ioctl(vcpu, KVM_RUN, arg);
		if (r < 0 || shim.run->exit_reason != KVM_EXIT_IO || shim.run->io.port != DISK_PORT)
			return r;
		hand_over();
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_RUN)
		return run(fd, arg);
	r = __real_ioctl(fd, request, arg);
	if (r == 0 && (request == KVM_SET_USER_MEMORY_REGION || request == DISK_SHIM_MEMORY2))
		keep_slot(arg);
	return r;
}
