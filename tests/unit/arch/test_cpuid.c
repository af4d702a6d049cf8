/* A vCPU's CPUID read back the way Linux 6.12 reads it (arch/x86/kernel/cpu/topology_*.c,
 * cacheinfo.c), over many shapes and kinds of host: the shape comes out, and nothing of the host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"

#define LEAK 0xBADC0DE5u /* in every host leaf of topology or caches */

struct host {
	const char *vendor;
	uint32_t signature, max_leaf, max_extended;
};

static const struct host hosts[] = {
	{"AuthenticAMD", 0x00A20F10, 0x10, 0x80000026}, /* Zen 3 */
	{"AuthenticAMD", 0x00800F12, 0xD, 0x8000001F},	/* Zen 1 */
	{"AuthenticAMD", 0x00000663, 0xD, 0x8000000A},	/* an emulator's family 6 */
	{"HygonGenuine", 0x00900F01, 0xD, 0x8000001F},
	{"GenuineIntel", 0x000606A6, 0x1F, 0x80000008},
	{"GenuineIntel", 0x000306A9, 0xD, 0x80000008}, /* too old for 1Fh */
	{"CentaurHauls", 0x000307B0, 0xD, 0x80000008},
};

/* Nested paging reaches less far than the processor on some hosts; the lesser counts. */
static void the_address_width_is_the_lesser(void **state)
{
	static const struct {
		uint32_t eax;
		unsigned bits;
	} cases[] = {{0x3030, 48}, {0x283034, 40}, {0x343030, 48}, {0, 36}};
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + sizeof(c->entries[0]));

	(void)state;
	assert_non_null(c);
	assert_int_equal(cpuid_phys_bits(c), 36);
	c->nent = 1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		c->entries[0] =
			(struct kvm_cpuid_entry2){.function = 0x80000008, .eax = cases[i].eax};
		assert_int_equal(cpuid_phys_bits(c), cases[i].bits);
	}
	free(c);
}

static void put(struct kvm_cpuid2 *c, uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx,
		uint32_t ecx, uint32_t edx)
{
	bool indexed = function == 4 || function == 7 || function == 0xB || function == 0xD ||
		       function == 0x1F || function == 0x8000001D || function == 0x80000026;

	c->entries[c->nent++] = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
	};
}

static void put_vendor(struct kvm_cpuid2 *c, uint32_t function, uint32_t eax, const char *vendor)
{
	uint32_t word[3];

	memcpy(word, vendor, sizeof(word));
	put(c, function, 0, eax, word[0], word[2], word[1]);
}

/* What KVM_GET_SUPPORTED_CPUID gives on such a host, in kind. */
static struct kvm_cpuid2 *supported_by(const struct host *host)
{
	static const uint32_t topological[] = {2, 4, 0xB, 0x1F};
	static const uint32_t topological_amd[] = {0x80000005, 0x80000006, 0x8000001D, 0x8000001E,
						   0x80000026};
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 64 * sizeof(c->entries[0]));

	assert_non_null(c);
	put_vendor(c, 0, host->max_leaf, host->vendor);
	put(c, 1, 0, host->signature, LEAK & 0xFFFFFF00, 0x80202009 | 1 << 3, 0x178BFBFF | 1 << 28);
	for (size_t i = 0; i < ARRAY_SIZE(topological); i++)
		put(c, topological[i], 0, LEAK, LEAK, LEAK, LEAK);
	put(c, 0xB, 1, LEAK, LEAK, LEAK, LEAK);
	put(c, 4, 1, LEAK, LEAK, LEAK, LEAK);
	put(c, 5, 0, 0x40, 0x40, 3, 0x11);
	put(c, 7, 0, 1, 0x219C95A9, 0x40068C, 0x10);
	put(c, 7, 1, 0x30, 0, 0, 0);
	put(c, 0xD, 0, 0x207, 0x988, 0x988, 0);
	put(c, 0xD, 1, 0xF, 0x348, 0x1800, 0);
	put_vendor(c, 0x40000000, 0x40000001, "KVMKVMKVM\0\0");
	put(c, 0x40000001, 0, 0x01007EFB, 0, 0, 0);
	put_vendor(c, 0x80000000, host->max_extended, host->vendor);
	put(c, 0x80000001, 0, host->signature, 0, 0x75C237FF, 0x2FD3FBFF);
	put(c, 0x80000007, 0, 0, 0, 0, 0x100);
	put(c, 0x80000008, 0, 0x3030, 0x1000, LEAK, 0);
	for (size_t i = 0; i < ARRAY_SIZE(topological_amd); i++)
		put(c, topological_amd[i], 0, LEAK, LEAK, LEAK, LEAK);
	assert_true(c->nent <= 64);
	return c;
}

/* ---- reading, as a guest's kernel does ------------------------------------------------------ */

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *c, uint32_t function,
					   uint32_t index)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == function &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

/* KVM answers zeros where there is no entry. */
static struct kvm_cpuid_entry2 cpuid(const struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = find(c, function, index);

	return e ? *e : (struct kvm_cpuid_entry2){0};
}

static unsigned order(unsigned count)
{
	unsigned n = 0;

	while (1u << n < count)
		n++;
	return n;
}

struct view {
	uint32_t id;
	unsigned smt_shift, package_shift;
	uint32_t core, package, llc, l2, l1;
	unsigned cache_leaves;
};

static bool read_levels(const struct kvm_cpuid2 *c, uint32_t leaf, struct view *v)
{
	unsigned type, last = 0;

	v->smt_shift = 0;
	for (uint32_t i = 0; i < 8; i++) {
		struct kvm_cpuid_entry2 e = cpuid(c, leaf, i);

		type = e.ecx >> 8 & 0xff;
		if (type == 0 || (e.ebx & 0xffff) == 0)
			return i > 0;
		assert_int_equal(e.ecx & 0xff, i);
		assert_int_equal(type, i + 1);
		assert_true((e.eax & 0x1f) >= last);
		last = v->package_shift = e.eax & 0x1f;
		if (type == 1)
			v->smt_shift = last;
		v->id = e.edx;
	}
	return false;
}

static bool is_amd(const struct kvm_cpuid2 *c)
{
	return cpuid(c, 0, 0).ebx == 0x68747541;
}

static void read_topology(const struct kvm_cpuid2 *c, struct view *v)
{
	uint32_t max = cpuid(c, 0, 0).eax;

	if (max >= 0x1F && read_levels(c, 0x1F, v))
		return;
	if (cpuid(c, 0x80000000, 0).eax >= 0x80000026 && read_levels(c, 0x80000026, v))
		return;
	assert_true(max >= 0xB);
	assert_true(read_levels(c, 0xB, v));
}

static struct kvm_cpuid_entry2 cache_of(const struct kvm_cpuid2 *c, unsigned level, unsigned type,
					unsigned *ret_leaves)
{
	uint32_t leaf = is_amd(c) ? 0x8000001D : 4;
	struct kvm_cpuid_entry2 found = {0};

	for (*ret_leaves = 0;; ++*ret_leaves) {
		struct kvm_cpuid_entry2 e = cpuid(c, leaf, *ret_leaves);

		if ((e.eax & 0x1f) == 0)
			return found;
		if ((e.eax & 0x1f) == type && (e.eax >> 5 & 7) == level)
			found = e;
	}
}

static uint32_t shared_id(const struct kvm_cpuid2 *c, const struct view *v, unsigned level,
			  unsigned type)
{
	unsigned leaves;
	struct kvm_cpuid_entry2 e = cache_of(c, level, type, &leaves);

	assert_true(e.eax != 0);
	return v->id >> order((e.eax >> 14 & 0xfff) + 1);
}

static uint32_t llc_of(const struct kvm_cpuid2 *c, const struct view *v)
{
	uint32_t signature = cpuid(c, 1, 0).eax;
	unsigned family = signature >> 8 & 0xf, model = signature >> 4 & 0xf;

	if (family == 0xf)
		family += signature >> 20 & 0xff;
	if (family >= 6)
		model |= signature >> 12 & 0xf0;
	if (!is_amd(c))
		return shared_id(c, v, 3, 3);
	if (cpuid(c, 0x80000006, 0).edx == 0)
		return v->package;
	if (family < 0x17)
		return cpuid(c, 0x8000001E, 0).ecx & 0xff;
	if (family == 0x17 && model <= 0x1f)
		return v->id >> 3;
	return shared_id(c, v, 3, 3);
}

static struct view view_of(const struct kvm_cpuid2 *c)
{
	struct view v = {0};

	read_topology(c, &v);
	v.core = v.id >> v.smt_shift;
	v.package = v.id >> v.package_shift;
	v.llc = llc_of(c, &v);
	v.l2 = shared_id(c, &v, 2, 3);
	v.l1 = shared_id(c, &v, 1, 1);
	assert_int_equal(shared_id(c, &v, 1, 2), v.l1);
	cache_of(c, 1, 1, &v.cache_leaves);
	return v;
}

/* ---- properties ----------------------------------------------------------------------------- */

static void nothing_of_the_host(const struct kvm_cpuid2 *c, unsigned room)
{
	assert_true(c->nent <= room);
	for (uint32_t i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		assert_true(e->eax != LEAK && e->ebx != LEAK && e->ecx != LEAK && e->edx != LEAK);
		assert_true(e->function != 0x80000026);
		for (uint32_t k = 0; k < i; k++)
			assert_false(c->entries[k].function == e->function &&
				     c->entries[k].index == e->index);
	}
	assert_true((cpuid(c, 1, 0).ebx & 0xFFFF0000) != (LEAK & 0xFFFF0000));
}

static void the_rest_is_the_host_s(const struct kvm_cpuid2 *host, const struct kvm_cpuid2 *c)
{
	static const uint32_t same[][2] = {{7, 0},   {7, 1},	      {0xD, 0},
					   {0xD, 1}, {0x80000007, 0}, {0x40000000, 0}};

	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		assert_memory_equal(find(c, same[i][0], same[i][1]),
				    find(host, same[i][0], same[i][1]),
				    sizeof(struct kvm_cpuid_entry2));
	assert_int_equal(cpuid(c, 0x80000008, 0).eax, cpuid(host, 0x80000008, 0).eax);
}

/* Each leaf that says a count or an id says the same. */
static void leaves_agree(const struct kvm_cpuid2 *c, const struct topology *t, const struct view *v)
{
	unsigned in_package = t->cores_per_llc * t->threads_per_core;
	struct kvm_cpuid_entry2 e = cpuid(c, 1, 0);

	assert_int_equal(e.ebx >> 24, v->id & 0xff);
	assert_int_equal(e.ebx >> 8 & 0xff, 8); /* 64-byte lines */
	assert_int_equal(e.ebx >> 16 & 0xff, MIN(1u << v->package_shift, 255u));
	assert_int_equal(e.edx >> 28 & 1, in_package > 1);
	assert_int_equal(e.ecx >> 3 & 1, 0);	      /* MWAIT */
	assert_int_equal(e.ecx >> 21 & 0x401, 0x401); /* x2APIC, hypervisor */
	for (uint32_t leaf = 0xB; leaf <= 0x1F; leaf += 0x14) {
		if (leaf == 0x1F && is_amd(c))
			continue;
		assert_int_equal(cpuid(c, leaf, 0).ebx, t->threads_per_core);
		assert_int_equal(cpuid(c, leaf, 1).ebx, in_package);
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(cpuid(c, leaf, i).edx, v->id);
		assert_memory_equal(&find(c, leaf, 1)->eax, &find(c, 0xB, 1)->eax, 16);
	}
	if (!is_amd(c)) {
		assert_int_equal(cpuid(c, 0x80000008, 0).ecx, 0);
		assert_int_equal(cpuid(c, 0x80000001, 0).ecx >> 22 & 1, 0);
		assert_true(cpuid(c, 0x80000000, 0).eax <= 0x80000008);
		assert_null(find(c, 0x8000001D, 0));
		return;
	}
	e = cpuid(c, 0x80000008, 0);
	assert_int_equal(e.ecx & 0xff, MIN(in_package - 1, 255u));
	assert_int_equal(e.ecx >> 12 & 0xf, v->package_shift);
	assert_int_equal(cpuid(c, 0x80000001, 0).ecx >> 22 & 1, 1);
	assert_int_equal(cpuid(c, 0x80000001, 0).ecx >> 1 & 1, in_package > 1);
	e = cpuid(c, 0x8000001E, 0);
	assert_int_equal(e.eax, v->id);
	assert_int_equal(e.ebx >> 8 & 0xff, MIN(t->threads_per_core - 1, 255u));
	assert_int_equal(e.ecx >> 8 & 7, 0); /* one node a package */
	assert_null(find(c, 4, 0));
	assert_null(find(c, 0x1F, 0));
}

/* key of each unit in the order of units: equal within it, different between any two. */
struct units {
	uint32_t key[TOPOLOGY_MAX_VCPUS];
	unsigned n;
};

static void note(struct units *u, unsigned unit, uint32_t key)
{
	if (unit < u->n) {
		assert_int_equal(u->key[unit], key);
		return;
	}
	assert_int_equal(unit, u->n);
	for (unsigned i = 0; i < u->n; i++)
		assert_int_not_equal(u->key[i], key);
	u->key[u->n++] = key;
}

static void check_shape(const struct host *host, const struct topology *t, const char *override)
{
	struct kvm_cpuid2 *supported = supported_by(host);
	unsigned room = cpuid_room(supported);
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + room * sizeof(c->entries[0]));
	struct units cpus = {.n = 0}, cores = {.n = 0}, l1s = {.n = 0}, l2s = {.n = 0};
	struct units llcs = {.n = 0}, packages = {.n = 0};
	struct cpuid_request q = {.supported = supported,
				  .topology = t,
				  .vendor = cpuid_vendor(supported),
				  .tsc_deadline = true};

	assert_non_null(c);
	if (override) {
		q.override_vendor = true;
		q.vendor = !strcmp(override, "amd") ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL;
	}
	for (q.index = 0; q.index < topology_vcpus(t); q.index++) {
		struct topology_place place = topology_locate(t, q.index);
		unsigned core = place.llc * t->cores_per_llc + place.core;
		struct view v;

		cpuid_build(&q, c);
		nothing_of_the_host(c, room);
		the_rest_is_the_host_s(supported, c);
		assert_int_equal(is_amd(c), q.vendor == CPU_VENDOR_AMD);
		v = view_of(c);
		assert_int_equal(v.id, arch_vcpu_id(t, q.index));
		assert_int_equal(v.cache_leaves, 4);
		leaves_agree(c, t, &v);
		note(&cpus, q.index, v.id);
		note(&cores, core, v.core);
		note(&l1s, core, v.l1);
		note(&l2s, core, v.l2);
		note(&llcs, place.llc, v.llc);
		note(&packages, place.llc, v.package);
	}
	assert_int_equal(llcs.n, t->llcs);
	free(c);
	free(supported);
}

static void check_everywhere(unsigned nodes, unsigned llcs, unsigned cores, unsigned threads)
{
	static const char *const overrides[] = {NULL, "amd", "intel"};
	struct topology t;
	char spec[64];

	snprintf(spec, sizeof(spec), "%un%ul%uc%ut", nodes, llcs, cores, threads);
	assert_int_equal(topology_parse(spec, &t, NULL), 0);
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++)
		for (size_t o = 0; o < ARRAY_SIZE(overrides); o++)
			check_shape(&hosts[h], &t, overrides[o]);
}

static void small_shapes(void **state)
{
	(void)state;
	for (unsigned l = 1; l <= 5; l++)
		for (unsigned c = 1; c <= 5; c++)
			for (unsigned t = 1; t <= 3; t++)
				check_everywhere(1, l, c, t);
}

static void random_shapes(void **state)
{
	unsigned seed = 20; /* the same shapes each time */

	(void)state;
	for (unsigned n = 0; n < 40; n++) {
		unsigned nodes = 1 + (unsigned)rand_r(&seed) % 3;
		unsigned llcs = nodes * (1 + (unsigned)rand_r(&seed) % 5);
		unsigned cores = 1 + (unsigned)rand_r(&seed) % 12;
		unsigned threads = 1 + (unsigned)rand_r(&seed) % 2;

		check_everywhere(nodes, llcs, cores, threads);
	}
}

static void large_shapes(void **state)
{
	(void)state;
	check_everywhere(1, 14, 9, 2);
	check_everywhere(3, 15, 10, 2);
	check_everywhere(1, 1, 256, 1);
	check_everywhere(1, 128, 1, 2);
	check_everywhere(1, 300, 1, 1); /* past the node id's eight bits */
}

/* One host of each way that Linux finds caches, and every vCPU of the largest shapes. */
static void the_largest_shapes(void **state)
{
	static const unsigned shapes[][4] = {
		{1, 1024, 1, 1}, {1, 1, 1024, 1}, {1, 1, 1, 1024}, {64, 512, 1, 2},
		{1, 341, 3, 1},	 {1, 257, 1, 3},  {1, 1, 341, 3},  {1, 20, 17, 3},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct topology t;
		char spec[64];

		snprintf(spec, sizeof(spec), "%un%ul%uc%ut", shapes[i][0], shapes[i][1],
			 shapes[i][2], shapes[i][3]);
		assert_int_equal(topology_parse(spec, &t, NULL), 0);
		for (size_t h = 0; h < 5; h++)
			check_shape(&hosts[h], &t, NULL);
	}
}

static struct kvm_cpuid2 *build(const struct cpuid_request *q)
{
	struct kvm_cpuid2 *c =
		calloc(1, sizeof(*c) + cpuid_room(q->supported) * sizeof(c->entries[0]));

	assert_non_null(c);
	cpuid_build(q, c);
	return c;
}

/* Nothing offered lies past the last leaves, and no other topology before them. */
static void the_last_leaves_cover_ours(void **state)
{
	struct topology t;

	(void)state;
	assert_int_equal(topology_parse("1n1l2c2t", &t, NULL), 0);
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++) {
		struct kvm_cpuid2 *supported = supported_by(&hosts[h]), *c;
		const struct cpuid_request q = {.supported = supported,
						.topology = &t,
						.vendor = cpuid_vendor(supported)};
		uint32_t last, last_extended;

		c = build(&q);
		last = cpuid(c, 0, 0).eax;
		last_extended = cpuid(c, 0x80000000, 0).eax;
		if (q.vendor == CPU_VENDOR_AMD) {
			assert_in_range(last, 0xB, 0x1E);
			assert_in_range(last_extended, 0x8000001E, 0x80000025);
		} else {
			assert_true(last >= 0x1F);
			assert_int_equal(last_extended, 0x80000008);
		}
		free(c);
		free(supported);
	}
}

static void hints_and_timers_are_as_asked(void **state)
{
	struct kvm_cpuid2 *supported = supported_by(&hosts[0]), *c;
	struct topology t;
	struct cpuid_request q = {.supported = supported, .topology = &t, .vendor = CPU_VENDOR_AMD};

	(void)state;
	assert_int_equal(topology_parse("1n1l2c1t", &t, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		q.realtime_hint = i & 1;
		q.tsc_deadline = i & 2;
		c = build(&q);
		assert_int_equal(cpuid(c, 0x40000001, 0).edx & 1, q.realtime_hint);
		assert_int_equal(cpuid(c, 0x40000001, 0).eax, 0x01007EFB);
		assert_int_equal(cpuid(c, 1, 0).ecx >> 24 & 1, q.tsc_deadline);
		free(c);
	}
	free(supported);
}

static void zen1_becomes_zen2_and_others_stay(void **state)
{
	struct topology t;

	(void)state;
	assert_int_equal(topology_parse("1n1l1c1t", &t, NULL), 0);
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++) {
		struct kvm_cpuid2 *supported = supported_by(&hosts[h]), *c;
		struct cpuid_request q = {.supported = supported,
					  .topology = &t,
					  .vendor = cpuid_vendor(supported)};

		c = build(&q);
		if (hosts[h].signature == 0x00800F12)
			assert_int_equal(cpuid(c, 1, 0).eax, 0x00830F10);
		else
			assert_int_equal(cpuid(c, 1, 0).eax, hosts[h].signature);
		free(c);
		free(supported);
	}
}

static void hygon_is_amd_and_others_are_intel(void **state)
{
	(void)state;
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++) {
		struct kvm_cpuid2 *c = supported_by(&hosts[h]);
		bool amd = hosts[h].vendor[0] == 'A' || hosts[h].vendor[0] == 'H';

		assert_int_equal(cpuid_vendor(c), amd ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL);
		free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_shapes),
		cmocka_unit_test(random_shapes),
		cmocka_unit_test(large_shapes),
		cmocka_unit_test(the_largest_shapes),
		cmocka_unit_test(the_last_leaves_cover_ours),
		cmocka_unit_test(hints_and_timers_are_as_asked),
		cmocka_unit_test(zen1_becomes_zen2_and_others_stay),
		cmocka_unit_test(hygon_is_amd_and_others_are_intel),
		cmocka_unit_test(the_address_width_is_the_lesser),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
