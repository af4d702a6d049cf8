/* The steps of performance mode that change the process or the VM. Control thread, but for the
 * threads that bring memory in. */
#include "vm/perf/apply.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <malloc.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/parse.h"
#include "base/util.h"
#include "vm/perf/room.h"

#define CHUNK	      MIB(64)
#define THREADS_MAX   16
#define TICK_NS	      200000000
#define DEFAULT_SLACK 0 /* prctl: back to the default */
#define RT_RUNTIME    "/proc/sys/kernel/sched_rt_runtime_us"
#define LARGE_PAGE    "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
#define INTAKE_STACK  KIB(64)
/* What mlockall() counts besides the guest: all address space of the process, used or not. Measured
 * and rounded up, see docs/decisions.md. */
#define OWN_LOCKED  MIB(64)
#define VCPU_LOCKED KIB(1280) /* a stack, histograms, the run pages */

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

static void check_lock_limit(const struct perf_need *need, struct perf_missing *m)
{
	uint64_t own = OWN_LOCKED + need->vcpus * VCPU_LOCKED;
	struct rlimit limit;
	char shown[32];

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= need->span + own || has_capability(CAP_IPC_LOCK))
		return;
	perf_missing_add(m, "ulimit -l unlimited (limits.conf: memlock), or CAP_IPC_LOCK",
			 "locking memory is refused: RLIMIT_MEMLOCK is %s, and %" PRIu64
			 " KiB are needed: %" PRIu64 " for the guest's addresses, %" PRIu64
			 " for stasis itself",
			 format_size(limit.rlim_cur, shown, sizeof(shown)),
			 (need->span + own) >> 10, need->span >> 10, own >> 10);
}

/* bytes: without what is on huge pages that the host has set aside. */
static bool check_memory(uint64_t bytes, struct perf_missing *m)
{
	struct perf_room room;

	perf_room_read("", &room);
	if (room.bytes < bytes)
		perf_missing_add(m, "less memory (-m)",
				 "%" PRIu64 " MiB of memory are needed at once, and %" PRIu64
				 " MiB are available in %s: %" PRIu64 " MiB too few",
				 bytes >> 20, room.bytes >> 20, room.whose,
				 (bytes - room.bytes) >> 20);
	return room.bytes >= bytes;
}

bool perf_apply_check(const struct perf_need *need, struct perf_missing *missing)
{
	check_realtime(missing);
	check_throttle(missing);
	check_lock_limit(need, missing);
	return check_memory(need->hugetlb ? 0 : need->bytes, missing);
}

/* ---- exits and the clock ------------------------------------------------------------------- */

bool perf_apply_exits(struct kvm *kvm, struct perf_missing *missing)
{
	unsigned can = (unsigned)kvm_cap(kvm, KVM_CAP_X86_DISABLE_EXITS);
	unsigned want = can & (KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_HLT);
	int r;

	/* Elsewhere KVM itself lets a vCPU wait that is alone on its CPU (arm64: WFI, WFE). */
	if (strcmp(arch_name, "x86_64"))
		return false;
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
	return want & KVM_X86_DISABLE_EXITS_HLT;
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

/* Whether what is bound to the same nodes has room there, all regions of it together. */
static bool nodes_have_room(const struct guest_memory *mem, const struct host_cpu_set *nodes,
			    unsigned region, struct perf_missing *missing)
{
	uint64_t room = perf_room_of_nodes("", &nodes[region]), need = 0;

	for (unsigned i = 0; i < mem->count; i++) {
		bool same = !memcmp(&nodes[i], &nodes[region], sizeof(nodes[i]));

		if (same && i < region)
			return true; /* has been asked for */
		need += same ? mem->region[i].range.size : 0;
	}
	if (need > room)
		perf_missing_add(missing, "less memory (-m, --numa-node), or fewer guest nodes",
				 "the host's nodes of the vCPUs of guest node %u have %" PRIu64
				 " MiB available, and %" PRIu64 " MiB are to be bound to them",
				 mem->region[region].range.node, room >> 20, need >> 20);
	return need <= room;
}

bool perf_apply_placement(const struct guest_memory *mem, const struct topology *t,
			  const struct host_cpus *host, const struct perf_plan *plan, bool hugetlb,
			  bool fits, struct perf_missing *missing)
{
	CLEANUP_FREE struct host_cpu_set *nodes = calloc(mem->count, sizeof(*nodes));
	int bind = nodes ? 0 : -ENOMEM, huge = 0;

	for (unsigned i = 0; nodes && i < mem->count; i++)
		nodes[i] = host_nodes(t, host, plan, mem->region[i].range.node);
	for (unsigned i = 0; bind == 0 && host->all_nodes > 1 && i < mem->count; i++) {
		const struct guest_region *region = &mem->region[i];

		if (host_cpu_set_count(&nodes[i]) == 0)
			continue;
		fits = (hugetlb || nodes_have_room(mem, nodes, i, missing)) && fits;
		if (syscall(SYS_mbind, region->host, region->range.size, MPOL_BIND, nodes[i].word,
			    (unsigned long)HOST_CPUS_MAX, MPOL_MF_STRICT) < 0)
			bind = -errno;
	}
	/* What isn't brought in is not to be as large as can be. */
	for (unsigned i = 0; !hugetlb && fits && i < mem->count; i++)
		if (madvise(mem->region[i].host, mem->region[i].range.size, MADV_HUGEPAGE) < 0)
			huge = -errno;
	if (bind < 0)
		perf_missing_add(missing, NULL,
				 "the guest's memory can't be bound to the nodes of its vCPUs: %s",
				 strerror(-bind));
	if (huge < 0)
		perf_missing_note(missing, "a host kernel with transparent huge pages",
				  "the guest's memory is in small pages: %s", strerror(-huge));
	return fits;
}

/* The pieces of all regions, handed out to threads. */
struct intake {
	const struct guest_memory *mem;
	uint64_t total;
	_Atomic uint64_t next; /* byte, over all regions: who adds to it owns the piece before */
	_Atomic uint64_t done; /* bytes; relaxed, for showing and for the end, after the joins */
	_Atomic int error;     /* the first, or -EINTR; relaxed: who sees it later does more */
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
	pthread_attr_t attr;
	uint64_t want = MIN(in->total / CHUNK, (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	size_t least = ALIGN_UP((size_t)sysconf(_SC_THREAD_STACK_MIN) + KIB(16), KIB(4));
	unsigned n = 0;

	/* Stacks stay with the process, to be used again: those of 8 MiB would be locked. */
	if (pthread_attr_init(&attr) == 0) {
		pthread_attr_setstacksize(&attr, MAX(INTAKE_STACK, least));
		while (n < MIN(want, (uint64_t)THREADS_MAX) &&
		       pthread_create(&thread[n], &attr, intake_thread, in) == 0)
			n++;
		pthread_attr_destroy(&attr);
	}
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

/* What the kernel calls large, in bytes: 2 MiB, but for pages of 16 or 64 KiB. */
static uint64_t large_page(void)
{
	CLEANUP_FREE char *text = NULL;
	uint64_t bytes = 0;
	size_t len;

	if (file_read(LARGE_PAGE, 64, &text, &len) == 0)
		bytes = strtoull(text, NULL, 10);
	return bytes >= KIB(64) ? bytes : MIB(2);
}

static bool is_guests(const struct guest_memory *mem, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < mem->count; i++) {
		uint64_t begin = (uintptr_t)mem->region[i].host;

		if (from < begin + mem->region[i].range.size && begin < to)
			return true;
	}
	return false;
}

/* How much of the guest's memory could be in large pages, and is not, by smaps (proc(5)): a line of
 * addresses, then lines of figures. Regions that touch are one mapping there, where they are bound
 * to the same nodes. UINT64_MAX if it can't be read. */
static uint64_t in_small_pages(const struct guest_memory *mem)
{
	CLEANUP_FREE char *line = NULL;
	FILE *f = fopen("/proc/self/smaps", "re");
	uint64_t large = large_page(), small = 0, most = 0, a, b, kib;
	size_t len = 0;

	if (!f)
		return UINT64_MAX;
	while (getline(&line, &len, f) > 0) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &a, &b) == 2) {
			most = is_guests(mem, a, b) && ALIGN_UP(a, large) < b
				       ? b / large * large - ALIGN_UP(a, large)
				       : 0;
		} else if (sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1) {
			small += most - MIN(most, kib << 10);
		}
	}
	fclose(f);
	return small;
}

/* madvise() says nothing of it: large pages may be off, or none be free. */
static void check_large_pages(const struct guest_memory *mem, struct perf_missing *missing)
{
	uint64_t small = in_small_pages(mem);

	if (small == UINT64_MAX)
		perf_missing_note(
			missing, NULL,
			"/proc/self/smaps doesn't say what pages the guest's memory is in");
	else if (small > 0)
		perf_missing_add(
			missing,
			"echo madvise >/sys/kernel/mm/transparent_hugepage/enabled; echo 1 "
			">/proc/sys/vm/compact_memory; or --hugepages",
			"%" PRIu64 " MiB of the guest's memory are in small pages", small >> 20);
}

int perf_apply_memory(const struct guest_memory *mem, bool hugetlb,
		      bool (*tick)(uint64_t done, void *arg), void *arg, bool *ret_whole,
		      struct perf_missing *missing)
{
	struct intake in = {.mem = mem};
	int r;

	/* An arena for each thread that allocates would count as 64 MiB of locked memory. */
	(void)mallopt(M_ARENA_MAX, 1);
	for (unsigned i = 0; i < mem->count; i++)
		in.total += mem->region[i].range.size;
	*ret_whole = false;
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
	*ret_whole = r == 0;
	return 0;
}

void perf_apply_lock(const struct guest_memory *mem, struct perf_missing *missing)
{
	/* Huge pages that are there stay; none is made or split from now on. */
	for (unsigned i = 0; i < mem->count; i++)
		(void)madvise(mem->region[i].host, mem->region[i].range.size, MADV_NOHUGEPAGE);
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		perf_missing_add(missing, "ulimit -l unlimited, or CAP_IPC_LOCK",
				 "memory can't be locked: %s", strerror(errno));
}

/* ---- threads ------------------------------------------------------------------------------- */

int perf_apply_realtime(pthread_t thread, int priority)
{
	const struct sched_param param = {.sched_priority = priority};

	return -pthread_setschedparam(thread, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
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

	/* Without a privilege the flag can't be taken back. */
	(void)pthread_setschedparam(pthread_self(), SCHED_OTHER | SCHED_RESET_ON_FORK, &param);
	(void)prctl(PR_SET_TIMERSLACK, (unsigned long)DEFAULT_SLACK);
	(void)munlockall();
}
