/* The steps of performance mode that change the process or the VM. Control thread, but for the
 * threads that bring memory in. */
#include "vm/perf/apply.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/parse.h"
#include "base/util.h"

#define CHUNK	       MIB(64)
#define THREADS_MAX    16
#define TICK_NS	       200000000
#define DEFAULT_SLACK  0 /* prctl: back to the default */
#define RT_RUNTIME     "/proc/sys/kernel/sched_rt_runtime_us"
#define MEMINFO_MAX    KIB(16)
#define OWN_LOCKED_MAX MIB(64) /* of the process besides the guest's memory */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* ---- before ------------------------------------------------------------------------------- */

/* Tried, not read: limits, capabilities and control groups all have a say. Without
 * SCHED_RESET_ON_FORK, which nobody may take back who needs the limit for it. */
static void check_realtime(struct perf_missing *m)
{
	struct sched_param old, want = {.sched_priority = PERF_CONTROL_PRIORITY};
	int policy = sched_getscheduler(0);
	struct rlimit limit = {0};

	sched_getparam(0, &old);
	if (sched_setscheduler(0, SCHED_FIFO, &want) == 0) {
		(void)sched_setscheduler(0, policy, &old);
		return;
	}
	getrlimit(RLIMIT_RTPRIO, &limit);
	perf_missing_add(m, "ulimit -r 2 (limits.conf: rtprio), or CAP_SYS_NICE",
			 "real-time priority is refused: RLIMIT_RTPRIO is %" PRIu64
			 ", %d is needed, and CAP_SYS_NICE lacks",
			 (uint64_t)limit.rlim_cur, PERF_CONTROL_PRIORITY);
}

static void check_throttle(struct perf_missing *m)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;

	if (file_read(RT_RUNTIME, 64, &text, &len) < 0 || text[0] == '-')
		return;
	text[strcspn(text, "\n")] = '\0';
	perf_missing_note(m, "sysctl kernel.sched_rt_runtime_us=-1",
			  "the host's other work may take the rest of each second from a busy vCPU "
			  "(kernel.sched_rt_runtime_us is %.12s)",
			  text);
}

/* In effect for this thread; false if that can't be asked. */
static bool has_capability(unsigned cap)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	return syscall(SYS_capget, &header, data) == 0 &&
	       data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap);
}

static void check_lock_limit(uint64_t bytes, struct perf_missing *m)
{
	struct rlimit limit;
	char shown[32];

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= bytes + OWN_LOCKED_MAX || has_capability(CAP_IPC_LOCK))
		return;
	perf_missing_add(m, "ulimit -l unlimited (limits.conf: memlock), or CAP_IPC_LOCK",
			 "locking the guest's memory is refused: RLIMIT_MEMLOCK is %s",
			 format_size(limit.rlim_cur, shown, sizeof(shown)));
}

/* A field of /proc/meminfo in bytes; UINT64_MAX if it isn't there. */
static uint64_t meminfo(const char *field)
{
	CLEANUP_FREE char *text = NULL;
	const char *line;
	uint64_t kib;
	size_t len;

	if (file_read("/proc/meminfo", MEMINFO_MAX, &text, &len) < 0)
		return UINT64_MAX;
	line = strstr(text, field);
	if (!line || sscanf(line + strlen(field), ": %" SCNu64, &kib) != 1)
		return UINT64_MAX;
	return kib << 10;
}

/* bytes: without what is on huge pages that the host has set aside. */
static bool check_memory(uint64_t bytes, struct perf_missing *m)
{
	uint64_t available = meminfo("MemAvailable");

	if (available < bytes)
		perf_missing_add(m, "less memory (-m)",
				 "%" PRIu64 " MiB of memory are needed at once, and %" PRIu64
				 " MiB are available: %" PRIu64 " MiB too few",
				 bytes >> 20, available >> 20, (bytes - available) >> 20);
	return available >= bytes;
}

bool perf_apply_check(uint64_t bytes, bool hugetlb, struct perf_missing *missing)
{
	check_realtime(missing);
	check_throttle(missing);
	check_lock_limit(bytes, missing);
	return check_memory(hugetlb ? 0 : bytes, missing);
}

/* ---- exits and the clock ------------------------------------------------------------------- */

void perf_apply_exits(struct kvm *kvm, struct perf_missing *missing)
{
	unsigned can = (unsigned)kvm_cap(kvm, KVM_CAP_X86_DISABLE_EXITS);
	unsigned want = can & (KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_HLT);
	int r;

	/* Elsewhere KVM itself lets a vCPU wait that is alone on its CPU (arm64: WFI, WFE). */
	if (strcmp(arch_name, "x86_64"))
		return;
	r = want ? kvm_enable_cap(kvm, KVM_CAP_X86_DISABLE_EXITS, want) : 0;
	/* Both or none: PAUSE alone may still go. */
	if (r < 0 && (want & KVM_X86_DISABLE_EXITS_HLT)) {
		want = can & KVM_X86_DISABLE_EXITS_PAUSE;
		r = want ? kvm_enable_cap(kvm, KVM_CAP_X86_DISABLE_EXITS, want) : 0;
	}
	if (r < 0)
		want = 0;
	if (!(want & KVM_X86_DISABLE_EXITS_PAUSE))
		perf_missing_note(missing, NULL,
				  "KVM keeps the exits of a guest that spins (PAUSE)");
	if (!(want & KVM_X86_DISABLE_EXITS_HLT))
		perf_missing_note(missing, NULL,
				  "KVM keeps the exits of a guest that is idle (HLT), as it must "
				  "with SMT on CPUs that predict returns across siblings");
}

void perf_apply_clock(struct kvm *kvm, struct perf_missing *missing)
{
	struct kvm_clock_data clock = {0};
	int r;

	/* Elsewhere the guest's clock is the CPU's own counter. */
	if (!(kvm_cap(kvm, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_TSC_STABLE))
		return;
	r = kvm_ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock);
	if (r == 0) {
		struct kvm_clock_data set = {.clock = clock.clock};

		r = kvm_ioctl(kvm->vm_fd, KVM_SET_CLOCK, &set);
	}
	if (r == 0)
		r = kvm_ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock);
	if (r < 0 || !(clock.flags & KVM_CLOCK_TSC_STABLE))
		perf_missing_add(missing, "a host that boots with a stable TSC as its clocksource",
				 "the VM's clock does not run on a stable TSC");
}

/* ---- memory -------------------------------------------------------------------------------- */

/* Host nodes of the vCPUs of a guest node; of all vCPUs where it has none. */
static struct host_cpu_set host_nodes(const struct topology *t, const struct host_cpus *host,
				      const struct perf_plan *plan, unsigned node)
{
	struct host_cpu_set nodes = {0};

	for (unsigned v = 0; v < plan->vcpus; v++) {
		const struct host_cpu *cpu =
			plan->cpu[v] < 0 ? NULL : host_cpus_find(host, (unsigned)plan->cpu[v]);

		if (cpu && (t->node[node].llcs == 0 || topology_locate(t, v).node == node))
			host_cpu_set_add(&nodes, cpu->node);
	}
	return nodes;
}

void perf_apply_placement(const struct guest_memory *mem, const struct topology *t,
			  const struct host_cpus *host, const struct perf_plan *plan, bool hugetlb,
			  struct perf_missing *missing)
{
	int bind = 0, huge = 0;

	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *region = &mem->region[i];
		struct host_cpu_set nodes = host_nodes(t, host, plan, region->range.node);

		if (host->all_nodes > 1 && host_cpu_set_count(&nodes) > 0 && bind == 0 &&
		    syscall(SYS_mbind, region->host, region->range.size, MPOL_BIND, nodes.word,
			    (unsigned long)HOST_CPUS_MAX, MPOL_MF_STRICT) < 0)
			bind = -errno;
		if (!hugetlb && madvise(region->host, region->range.size, MADV_HUGEPAGE) < 0)
			huge = -errno;
	}
	if (bind < 0)
		perf_missing_add(missing, NULL,
				 "the guest's memory can't be bound to the nodes of its vCPUs: %s",
				 strerror(-bind));
	if (huge < 0)
		perf_missing_note(missing, "a host kernel with transparent huge pages",
				  "the guest's memory is in small pages: %s", strerror(-huge));
}

/* The pieces of all regions, handed out to threads. */
struct intake {
	const struct guest_memory *mem;
	uint64_t total;
	_Atomic uint64_t next; /* byte, over all regions: who adds to it owns the piece before */
	_Atomic uint64_t done; /* bytes; relaxed, for showing and for the end, after the joins */
	_Atomic int error;     /* the first; relaxed, read after the joins */
};

/* A kernel before 5.14: touches each page without changing it. */
static void touch(uint8_t *host, uint64_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	for (uint64_t at = 0; at < len; at += page)
		__atomic_fetch_or(host + at, 0, __ATOMIC_RELAXED);
}

static int take_in(uint8_t *host, uint64_t len)
{
	int r;

	do
		r = madvise(host, len, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
	while (r == -EINTR || r == -EAGAIN);
	if (r == -EINVAL) {
		touch(host, len);
		r = 0;
	}
	return r;
}

/* The part of [from, from + CHUNK), counted over all regions, that lies in region i. */
static int take_in_piece(struct intake *in, uint64_t from)
{
	uint64_t before = 0, to = MIN(from + CHUNK, in->total);
	int r = 0;

	for (unsigned i = 0; i < in->mem->count && r == 0; i++) {
		const struct guest_region *region = &in->mem->region[i];
		uint64_t size = region->range.size;
		uint64_t a = MAX(from, before), b = MIN(to, before + size);

		if (a < b)
			r = take_in(region->host + (a - before), b - a);
		before += size;
	}
	return r;
}

static void *intake_thread(void *arg)
{
	struct intake *in = arg;

	for (;;) {
		uint64_t from = atomic_fetch_add_explicit(&in->next, CHUNK, memory_order_relaxed);
		int r, none = 0;

		/* Relaxed: one failure, or a signal, is enough; whose comes first does not matter.
		 */
		if (from >= in->total || atomic_load_explicit(&in->error, memory_order_relaxed) < 0)
			return NULL;
		r = take_in_piece(in, from);
		if (r < 0) {
			atomic_compare_exchange_strong_explicit(&in->error, &none, r,
								memory_order_relaxed,
								memory_order_relaxed);
			return NULL;
		}
		atomic_fetch_add_explicit(&in->done, MIN(CHUNK, in->total - from),
					  memory_order_relaxed);
	}
}

static int take_all_in(struct intake *in, bool (*tick)(uint64_t done, void *arg), void *arg)
{
	pthread_t thread[THREADS_MAX];
	uint64_t want = MIN(in->total / CHUNK, (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	unsigned n = 0;

	while (n < MIN(want, (uint64_t)THREADS_MAX) &&
	       pthread_create(&thread[n], NULL, intake_thread, in) == 0)
		n++;
	if (n == 0)
		intake_thread(in);
	for (unsigned i = 0; i < n; i++) {
		struct timespec until;

		do {
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += TICK_NS;
			until.tv_sec += until.tv_nsec / 1000000000;
			until.tv_nsec %= 1000000000;
			if (!tick(atomic_load_explicit(&in->done, memory_order_relaxed), arg))
				atomic_store_explicit(&in->error, -EINTR, memory_order_relaxed);
		} while (pthread_timedjoin_np(thread[i], NULL, &until) == ETIMEDOUT);
	}
	return atomic_load_explicit(&in->error, memory_order_relaxed);
}

/* What of [from, to) of this process the kernel has in large pages, by smaps (proc(5)): a line of
 * addresses, then lines of figures. UINT64_MAX if it can't be read. */
static uint64_t in_large_pages(uint64_t from, uint64_t to)
{
	CLEANUP_FREE char *line = NULL;
	FILE *f = fopen("/proc/self/smaps", "re");
	uint64_t sum = 0, begin = 0, a, b, kib;
	size_t len = 0;

	if (!f)
		return UINT64_MAX;
	while (getline(&line, &len, f) > 0) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &a, &b) == 2)
			begin = a;
		else if (begin >= from && begin < to &&
			 sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
			sum += kib << 10;
	}
	fclose(f);
	return sum;
}

/* madvise() says nothing of it: large pages may be off, or none be free. */
static void check_large_pages(const struct guest_memory *mem, struct perf_missing *missing)
{
	uint64_t small = 0;

	for (unsigned i = 0; i < mem->count; i++) {
		uint64_t from = (uintptr_t)mem->region[i].host;
		uint64_t to = from + mem->region[i].range.size;
		uint64_t large = in_large_pages(from, to);
		uint64_t most = ALIGN_UP(from, MIB(2)) < to
					? to / MIB(2) * MIB(2) - ALIGN_UP(from, MIB(2))
					: 0;

		small += most > large ? most - large : 0;
	}
	if (small > 0)
		perf_missing_add(
			missing,
			"echo madvise >/sys/kernel/mm/transparent_hugepage/enabled; echo 1 "
			">/proc/sys/vm/compact_memory; or --hugepages",
			"%" PRIu64 " MiB of the guest's memory are in small pages", small >> 20);
}

int perf_apply_memory(const struct guest_memory *mem, bool hugetlb,
		      bool (*tick)(uint64_t done, void *arg), void *arg,
		      struct perf_missing *missing)
{
	struct intake in = {.mem = mem};
	int r;

	for (unsigned i = 0; i < mem->count; i++)
		in.total += mem->region[i].range.size;
	r = take_all_in(&in, tick, arg);
	if (r == -EINTR)
		return r;
	if (r < 0)
		perf_missing_add(missing, "less memory (-m)",
				 "the guest's memory is not all there: %" PRIu64 " of %" PRIu64
				 " MiB, then %s",
				 (uint64_t)in.done >> 20, in.total >> 20, strerror(-r));
	else if (!hugetlb)
		check_large_pages(mem, missing);
	/* Huge pages that are there stay; none is made or split from now on. */
	for (unsigned i = 0; i < mem->count; i++)
		(void)madvise(mem->region[i].host, mem->region[i].range.size, MADV_NOHUGEPAGE);
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		perf_missing_add(missing, "ulimit -l unlimited, or CAP_IPC_LOCK",
				 "memory can't be locked: %s", strerror(errno));
	return 0;
}

/* ---- threads ------------------------------------------------------------------------------- */

int perf_apply_realtime(pthread_t thread, int priority)
{
	const struct sched_param param = {.sched_priority = priority};

	return -pthread_setschedparam(thread, SCHED_FIFO, &param);
}

/* For CPU_FREE; NULL when out of memory. *ret_size is in bytes. */
static cpu_set_t *kernels_set(const struct host_cpu_set *cpus, size_t *ret_size)
{
	cpu_set_t *set = CPU_ALLOC(HOST_CPUS_MAX);

	*ret_size = CPU_ALLOC_SIZE(HOST_CPUS_MAX);
	if (!set)
		return NULL;
	CPU_ZERO_S(*ret_size, set);
	for (unsigned i = 0; i < HOST_CPUS_MAX; i++)
		if (host_cpu_set_has(cpus, i))
			CPU_SET_S(i, *ret_size, set);
	return set;
}

int perf_apply_affinity(const struct host_cpu_set *cpus)
{
	size_t size;
	cpu_set_t *set = kernels_set(cpus, &size);
	int r = 0;

	if (!set)
		return -ENOMEM;
	if (sched_setaffinity(0, size, set) < 0)
		r = -errno;
	CPU_FREE(set);
	return r;
}

bool perf_apply_workers(struct loop *loop, const struct host_cpu_set *cpus,
			struct perf_missing *missing)
{
	cpu_set_t *set = NULL;
	size_t size;
	int r;

	if (host_cpu_set_count(cpus) == 0) {
		perf_missing_note(
			missing, NULL,
			"the control thread sleeps: no other host CPU of ours is left for "
			"what the kernel does for it");
		return false;
	}
	set = kernels_set(cpus, &size);
	r = set ? loop_set_worker_cpus(loop, set, size) : -ENOMEM;
	if (set)
		CPU_FREE(set);
	if (r < 0)
		perf_missing_note(missing, NULL,
				  "the control thread sleeps: what the kernel does for it can't be "
				  "kept to other host CPUs: %s%s",
				  strerror(-r), r == -EINVAL ? ", as before Linux 5.14" : "");
	return r == 0;
}

void perf_apply_timer_slack(void)
{
	(void)prctl(PR_SET_TIMERSLACK, 1ul);
}

void perf_apply_ordinary(void)
{
	const struct sched_param param = {0};

	(void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &param);
	(void)prctl(PR_SET_TIMERSLACK, (unsigned long)DEFAULT_SLACK);
	(void)munlockall();
}
