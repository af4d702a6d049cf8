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

static int find(struct machine *m, struct error *err)
{
	struct guest_search *search = malloc(sizeof(*search));
	struct guest_reader mem;
	int r;

	if (!search)
		return error_set(err, -ENOMEM, "looking into the guest's kernel");
	guest_search_init(search, &m->mem);
	guest_reader_init(&mem, &m->mem);
	mem.next = guest_search_next;
	mem.next_arg = search;
	r = inspect_search(&mem, kernel_root(m), &m->inspection.from, &m->inspect, err);
	guest_search_done(search);
	free(search);
	if (r == 0)
		m->inspect->mem.next = NULL; /* it is found */
	return r;
}

int machine_inspect(struct machine *m, const struct inspect **ret_in, struct error *err)
{
	struct machine_inspection *i = &m->inspection;
	bool still = m->freeze.state != FREEZE_RUNNING;
	struct error lack = {0};
	int r;

	if (!m->inspect) {
		if (still && i->lack.code && i->lack_freeze == m->freeze.freezes) {
			if (err)
				*err = i->lack;
			return i->lack.code;
		}
		r = find(m, &lack);
		if (r < 0) {
			/* A shortage may pass; what the guest lacks, it lacks while it stands. */
			i->lack = r == -ENOMEM || !still ? (struct error){0} : lack;
			i->lack_freeze = m->freeze.freezes;
			if (err)
				*err = lack;
			return r;
		}
	}
	*ret_in = m->inspect;
	return 0;
}

void machine_inspect_done(struct machine *m)
{
	inspect_free(m->inspect);
	m->inspect = NULL;
	m->inspection = (struct machine_inspection){0};
}
