/* The guest's kernel as seen from outside, found once and kept. Control thread. */
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
	struct guest_reader mem;
	int r;

	if (!m->inspect) {
		guest_reader_init(&mem, &m->mem);
		r = inspect_new(&mem, kernel_root(m), &m->inspect, err);
		if (r < 0)
			return r;
	}
	*ret_in = m->inspect;
	return 0;
}

void machine_inspect_done(struct machine *m)
{
	inspect_free(m->inspect);
	m->inspect = NULL;
}
