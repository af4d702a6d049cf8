/* Host CPUs for threads: binding, and whether there are enough of them. Any thread. */
#include "vcpu/pin.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define CPUS_MAX (1u << 16) /* more than any kernel is built for */

int pin_self(int cpu, struct error *err)
{
	size_t size = CPU_ALLOC_SIZE((size_t)cpu + 1);
	cpu_set_t *set = CPU_ALLOC((size_t)cpu + 1);
	int r = 0;

	if (!set)
		return error_set_shortage(err, -ENOMEM, "binding to host CPU %d", cpu);
	CPU_ZERO_S(size, set);
	CPU_SET_S((size_t)cpu, size, set);
	if (sched_setaffinity(0, size, set) < 0) {
		r = -errno;
		/* EINVAL: no such CPU, or it is offline or outside our cpuset. */
		if (r == -EINVAL)
			r = error_contention(err,
					     "host CPU %d, asked for by --pin, is not available",
					     cpu);
		else
			r = error_set(err, r, "binding a thread to host CPU %d", cpu);
	}
	CPU_FREE(set);
	return r;
}

/* Host CPUs that this thread may run on; 1 where that can't be known. */
static unsigned cpus_allowed(void)
{
	/* EINVAL: the kernel's mask is wider than ours. */
	for (unsigned cpus = 1024; cpus <= CPUS_MAX; cpus *= 2) {
		size_t size = CPU_ALLOC_SIZE(cpus);
		cpu_set_t *set = CPU_ALLOC(cpus);
		int n = 0;

		if (!set)
			return 1;
		if (sched_getaffinity(0, size, set) == 0)
			n = CPU_COUNT_S(size, set);
		CPU_FREE(set);
		if (n > 0)
			return (unsigned)n;
	}
	return 1;
}

static int by_value(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Whether two vCPUs are bound to one host CPU. */
static bool shared(unsigned threads, const int *pin)
{
	int *sorted = malloc(threads * sizeof(*sorted));
	bool found = !sorted;

	if (sorted) {
		memcpy(sorted, pin, threads * sizeof(*sorted));
		qsort(sorted, threads, sizeof(*sorted), by_value);
	}
	for (unsigned i = 1; i < threads && !found; i++)
		found = sorted[i] >= 0 && sorted[i] == sorted[i - 1];
	free(sorted);
	return found;
}

bool pin_may_spin(unsigned threads, const int *pin)
{
	return threads < cpus_allowed() && !(pin && shared(threads, pin));
}

bool pin_may_poll(unsigned threads, const int *pin)
{
	return threads <= cpus_allowed() && !(pin && shared(threads, pin));
}
