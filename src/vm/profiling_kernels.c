/* Openings of a kernel that come and go under vCPU threads that look at them: hazard pointers.
 * Control thread, but for hold and let_go. */
#include "vm/profiling_kernels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- vCPU threads ------------------------------------------------------------------------ */

struct profiling_kernel *profiling_kernels_hold(struct profiling_kernels *k, unsigned vcpu)
{
	struct profiling_kernel *kernel, *now = atomic_load(&k->newest);

	/* Sequentially consistent, as the exchange in add and the loads in is_held: either it is
	 * seen there, or a newer one is seen here. */
	do {
		kernel = now;
		atomic_store(&k->hazard[vcpu].kernel, kernel);
		now = atomic_load(&k->newest);
	} while (kernel != now);
	return kernel;
}

void profiling_kernels_let_go(struct profiling_kernels *k, unsigned vcpu)
{
	/* Release: pairs with the load in is_held. */
	atomic_store_explicit(&k->hazard[vcpu].kernel, NULL, memory_order_release);
}

/* ---- control thread ---------------------------------------------------------------------- */

int profiling_kernels_init(struct profiling_kernels *k, unsigned vcpus)
{
	size_t bytes = vcpus * sizeof(*k->hazard);

	k->hazard = aligned_alloc(CACHE_LINE, bytes);
	if (!k->hazard)
		return -ENOMEM;
	memset(k->hazard, 0, bytes);
	k->vcpus = vcpus;
	return 0;
}

static bool is_held(const struct profiling_kernels *k, const struct profiling_kernel *kernel)
{
	for (unsigned i = 0; i < k->vcpus; i++)
		if (atomic_load(&k->hazard[i].kernel) == kernel)
			return true;
	return false;
}

void profiling_kernels_tidy(struct profiling_kernels *k)
{
	struct profiling_kernel **link = &k->replaced, *kernel;

	while ((kernel = *link)) {
		if (is_held(k, kernel)) {
			link = &kernel->next;
			continue;
		}
		*link = kernel->next;
		glimpse_close(kernel->glimpse);
		free(kernel);
	}
}

static void replace(struct profiling_kernels *k, struct profiling_kernel *kernel)
{
	struct profiling_kernel *old = atomic_exchange(&k->newest, kernel);

	if (!old)
		return;
	old->next = k->replaced;
	k->replaced = old;
}

int profiling_kernels_add(struct profiling_kernels *k, struct glimpse_kernel *glimpse)
{
	struct profiling_kernel *kernel = calloc(1, sizeof(*kernel));

	if (!kernel)
		return -ENOMEM;
	kernel->glimpse = glimpse;
	kernel->id = ++k->opened;
	replace(k, kernel);
	return 0;
}

bool profiling_kernels_name(const struct profiling_kernels *k, uint32_t id, uint64_t gva, char *buf,
			    size_t len)
{
	struct profiling_kernel *newest = atomic_load(&k->newest), *its = k->replaced;
	bool known = false;

	while (its && its->id != id)
		its = its->next;
	if (its)
		glimpse_name(its->glimpse, gva, buf, len, &known);
	if (!known)
		glimpse_name(newest->glimpse, gva, buf, len, &known);
	return known;
}

void profiling_kernels_done(struct profiling_kernels *k)
{
	free(k->hazard);
	k->hazard = NULL;
	k->vcpus = 0;
	replace(k, NULL);
	profiling_kernels_tidy(k);
	k->opened = 0;
}
