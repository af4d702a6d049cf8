/* The guest's kernel as seen from outside, found once and kept. Control thread. */
#include <errno.h>
#include <stdlib.h>

#include "guest/backing.h"
#include "vm/machine.h"

/* The page tables of any vCPU that ran the kernel when it was captured; 0: not known. */
static uint64_t kernel_root(struct machine *m)
{
	if (m->freeze.state != FREEZE_FROZEN)
		return 0;
	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++) {
		const struct vcpu *vcpu = vcpu_pool_get(m->pool, i);

		if (!vcpu->capture_error && arch_vcpu_in_kernel(vcpu->state))
			return arch_vcpu_root(vcpu->state);
	}
	return 0;
}

int machine_inspect(struct machine *m, const struct inspect **ret_in, struct error *err)
{
	struct guest_search *search;
	struct guest_reader mem;
	int r;

	if (!m->inspect) {
		search = malloc(sizeof(*search));
		if (!search)
			return error_set(err, -ENOMEM, "looking into the guest's kernel");
		guest_search_init(search, &m->mem);
		guest_reader_init(&mem, &m->mem);
		mem.next = guest_search_next;
		mem.next_arg = search;
		r = inspect_new(&mem, kernel_root(m), &m->inspect, err);
		guest_search_done(search);
		free(search);
		if (r < 0)
			return r;
		m->inspect->mem.next = NULL; /* it is found */
	}
	*ret_in = m->inspect;
	return 0;
}

void machine_inspect_done(struct machine *m)
{
	inspect_free(m->inspect);
	m->inspect = NULL;
}
