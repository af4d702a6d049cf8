/* Finds a guest's kernel and opens its tables. Any thread. */
#include "inspect/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

#define CANDIDATES_MAX 64   /* copies of VMCOREINFO to try: crash kernels, old boots, page cache */
#define CPUS_MAX       8192 /* NR_CPUS of the largest configuration */

/* ---- finding --------------------------------------------------------------------------- */

/* Whether a VMCOREINFO belongs to a kernel that is there: its own tables map its own addresses,
 * and where a vCPU's root is known, that root maps them to the same places. */
static bool candidate_holds(struct inspect *in, uint64_t root_gpa)
{
	static const char *const keys[] = {"SYMBOL(swapper_pg_dir)", "SYMBOL(_stext)"};
	struct arch_kernel_info info = {.number = vmcoreinfo_number, .arg = &in->info};
	struct space live;

	if (arch_paging_kernel(&info, &in->space.paging))
		return false;
	live = in->space;
	live.paging.root_gpa = root_gpa;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		uint64_t gva, gpa, live_gpa;

		if (!vmcoreinfo_number(&in->info, keys[i], &gva) ||
		    space_translate(&in->space, gva, &gpa))
			return false;
		if (i == 0 && gpa != in->space.paging.symbol_gpa)
			return false;
		/* A root for user mode maps little of the kernel: that says nothing. */
		if (root_gpa && !space_translate(&live, gva, &live_gpa) && live_gpa != gpa)
			return false;
	}
	return true;
}

static int find(struct inspect *in, uint64_t root_gpa, uint64_t *from, struct error *err)
{
	uint64_t at = *from, pages = INSPECT_SEARCH_MAX / SPACE_PAGE;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < CANDIDATES_MAX; i++) {
		r = vmcoreinfo_next(&in->mem, &at, &pages, &in->info);
		if (r == 0 && candidate_holds(in, root_gpa))
			return 0;
	}
	if (r == -ENOENT && !*from) {
		error_set(err, -ENODATA, "finding a Linux kernel in guest memory");
		error_hint(err, "a guest that is still booting has none yet");
		return -ENODATA;
	}
	error_set(err, -ENODATA, "finding a Linux kernel in guest memory from 0x%" PRIx64 " to %s",
		  *from, r == -ENOENT ? "its end" : "as far as one search goes");
	error_hint(err, "try again: the next search goes on from there");
	*from = r == -ENOENT ? 0 : at;
	return -ENODATA;
}

/* ---- types ----------------------------------------------------------------------------- */

static int types_load(struct inspect *in, struct error *err)
{
	uint64_t start, end;
	CLEANUP_FREE void *blob = NULL;

	if (kallsyms_address(&in->symbols, "__start_BTF", &start) ||
	    kallsyms_address(&in->symbols, "__stop_BTF", &end))
		return error_set(err, -ENODATA, "the guest's kernel has no type information (BTF)");
	if (end <= start || end - start > TYPES_BLOB_MAX)
		return error_set(err, -EBADMSG, "measuring the guest's BTF");
	blob = malloc(end - start);
	if (!blob)
		return error_set_shortage(err, -ENOMEM, "copying the guest's BTF");
	if (space_read(&in->space, start, blob, end - start))
		return error_set(err, -EFAULT, "copying the guest's BTF");
	return types_new(blob, end - start, &in->types, err);
}

/* ---- the object ------------------------------------------------------------------------ */

int inspect_new(const struct guest_reader *mem, uint64_t root_gpa, struct inspect **ret_in,
		struct error *err)
{
	uint64_t from = 0;

	return inspect_search(mem, root_gpa, &from, ret_in, err);
}

int inspect_search(const struct guest_reader *mem, uint64_t root_gpa, uint64_t *from,
		   struct inspect **ret_in, struct error *err)
{
	struct inspect *in = calloc(1, sizeof(*in));
	int rc;

	if (!in)
		return error_set_shortage(err, -ENOMEM, "looking into the guest");
	in->mem = *mem;
	in->space.mem = &in->mem;
	rc = find(in, root_gpa, from, err);
	if (rc == 0)
		rc = kallsyms_load(&in->space, &in->info, &in->symbols, err);
	if (rc < 0) {
		inspect_free(in);
		return rc;
	}
	if (!vmcoreinfo_text(&in->info, "OSRELEASE", in->release, sizeof(in->release)))
		in->release[0] = '\0';
	vmcoreinfo_number(&in->info, "KERNELOFFSET", &in->kaslr_offset);
	vmcoreinfo_number(&in->info, "NUMBER(phys_base)", &in->phys_base);
	rc = types_load(in, &in->types_lack);
	if (rc == -ENOMEM) {
		if (err)
			*err = in->types_lack;
		inspect_free(in);
		return rc;
	}
	*ret_in = in;
	return 0;
}

void inspect_free(struct inspect *in)
{
	if (!in)
		return;
	types_free(in->types);
	kallsyms_done(&in->symbols);
	free(in);
}

/* ---- symbols --------------------------------------------------------------------------- */

int inspect_symbol(const struct inspect *in, const char *name, uint64_t *ret_gva, struct error *err)
{
	const char *nearest;

	if (!kallsyms_address(&in->symbols, name, ret_gva))
		return 0;
	error_usage(err, "the guest's kernel has no symbol %s", name);
	nearest = err ? kallsyms_nearest(&in->symbols, name) : NULL;
	if (nearest)
		error_hint(err, "did you mean %s?", nearest);
	return -ENOENT;
}

void inspect_format(const struct inspect *in, uint64_t gva, char *buf, size_t len)
{
	struct kallsyms_hit hit;

	if (kallsyms_name(&in->symbols, gva, &hit))
		snprintf(buf, len, "%s+0x%" PRIx64 "/0x%" PRIx64, hit.name, hit.offset, hit.size);
	else
		snprintf(buf, len, "0x%" PRIx64, gva);
}

unsigned inspect_cpus(const struct inspect *in)
{
	uint64_t gva, n;

	if (kallsyms_address(&in->symbols, "nr_cpu_ids", &gva) ||
	    space_read_uint(&in->space, gva, 4, &n) || n > CPUS_MAX)
		return 0;
	return (unsigned)n;
}

int inspect_percpu(const struct inspect *in, uint64_t gva, unsigned cpu, uint64_t *ret_gva)
{
	unsigned cpus = inspect_cpus(in);
	uint64_t table, offset;

	if (cpu >= (cpus ? cpus : CPUS_MAX))
		return -ERANGE;
	if (kallsyms_address(&in->symbols, "__per_cpu_offset", &table) ||
	    space_read_uint(&in->space, table + 8 * (uint64_t)cpu, 8, &offset))
		return -EFAULT;
	*ret_gva = gva + offset; /* wraps on purpose: the offset may be negative */
	return 0;
}
