/* The guest's kernel as seen from outside, found once and kept. Control thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/kinds.h"
#include "base/text.h"
#include "base/util.h"
#include "guest/backing.h"
#include "inspect/vmlinux.h"
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

/* The vmlinux of the build tree that a kernel lies in; NULL: none that can be read. */
static char *vmlinux_of(const char *kernel)
{
	const char *const *in_tree = arch_kind_own()->kernel_in_tree;
	size_t len = strlen(kernel);

	for (; *in_tree; in_tree++) {
		size_t tail = strlen(*in_tree);
		char *path;

		if (tail > len || strcmp(kernel + len - tail, *in_tree) ||
		    (tail < len && kernel[len - tail - 1] != '/'))
			continue;
		path = text_format("%.*svmlinux", (int)(len - tail), kernel);
		if (path && access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* What its own build knows of the kernel that was found: nothing depends on it. */
static void add_vmlinux(struct machine *m)
{
	CLEANUP_FREE char *path = m->config->kernel ? vmlinux_of(m->config->kernel) : NULL;
	struct error err = {0};

	if (path && inspect_add_vmlinux(m->inspect, path, &err) < 0)
		log_info("without the symbols of %s: %s", path, err.what);
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
	if (r < 0)
		return r;
	m->inspect->mem.next = NULL; /* it is found */
	add_vmlinux(m);
	return 0;
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
