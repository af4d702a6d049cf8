/* A vCPU's CPUID: what KVM supports, with every leaf that speaks of topology or caches replaced by
 * the shape that was asked for. Pure; any thread. */
#include <string.h>

#include "arch/x86_64/machine.h"

/* APIC ids, and what leaves 4, B, 1F, 8000_0008, 8000_001D and 8000_001E make of them:
 *
 *   | package = last-level cache | core | thread |      each field as wide as its count needs
 *
 * A cache is a package, because an APIC id can say no larger unit whose members are not a power of
 * two (5 caches to a node), and because Linux takes the cache from the node id of 8000_001E before
 * family 17h, from the sharing count of 8000_001D since: as a package, all agree. NUMA nodes are
 * the SRAT's. */

/* AMD's last extended leaf here: 8000_0026 is another topology, the host's. */
#define AMD_LAST_LEAF 0x80000025

/* Leaves that are wholly ours: the host's are dropped. */
static bool is_ours(uint32_t function)
{
	if (function > AMD_LAST_LEAF && function < 0xC0000000)
		return true;
	switch (function) {
	case 2:
	case 3:
	case 4:
	case 0xB:
	case 0x1F:
	case 0x80000005:
	case 0x80000006:
	case 0x8000001D:
	case 0x8000001E:
		return true;
	default:
		return false;
	}
}

#define LINE_BYTES 64

const struct arch_cache arch_caches[] = {
	{1, 'd', CACHE_OF_CORE, 32u << 10, 8, LINE_BYTES},
	{1, 'i', CACHE_OF_CORE, 32u << 10, 8, LINE_BYTES},
	{2, 'u', CACHE_OF_CORE, 1u << 20, 16, LINE_BYTES},
	{3, 'u', CACHE_OF_LLC, 16u << 20, 16, LINE_BYTES},
};
const unsigned arch_cache_count = ARRAY_SIZE(arch_caches);

struct builder {
	const struct cpuid_request *q;
	struct kvm_cpuid2 *out;
	struct apic_fields fields;
	struct topology_place place;
	uint32_t apic_id;
	unsigned package_bits;	  /* of thread and core */
	unsigned package_threads; /* that exist */
	unsigned family;	  /* that the guest is told */
};

static struct kvm_cpuid_entry2 *add(struct builder *b, uint32_t function, uint32_t index,
				    uint32_t flags)
{
	struct kvm_cpuid_entry2 *e = &b->out->entries[b->out->nent++];

	*e = (struct kvm_cpuid_entry2){.function = function, .index = index, .flags = flags};
	return e;
}

static void set_vendor(struct kvm_cpuid_entry2 *e, enum cpu_vendor vendor)
{
	const char *name = vendor == CPU_VENDOR_AMD ? "AuthenticAMD" : "GenuineIntel";

	memcpy(&e->ebx, name, 4);
	memcpy(&e->edx, name + 4, 4);
	memcpy(&e->ecx, name + 8, 4);
}

static bool is_hygon(const struct kvm_cpuid_entry2 *e)
{
	return e->ebx == 0x6f677948; /* "Hygo" */
}

/* Family, model, stepping (APM 3, Fn0000_0001). */
static uint32_t family_of(uint32_t signature)
{
	uint32_t base = signature >> 8 & 0xf;

	return base == 0xf ? base + (signature >> 20 & 0xff) : base;
}

static uint32_t signature_of(const struct builder *b, uint32_t host)
{
	uint32_t family = family_of(host);
	uint32_t model = (host >> 4 & 0xf) | (host >> 12 & 0xf0);

	if (b->q->override_vendor) /* ones that go with it: 19h; 6, 55h */
		return b->q->vendor == CPU_VENDOR_AMD ? 0x00A20F10 : 0x00050654;
	/* Linux puts the last-level cache of 17h models up to 1Fh at bit 3 of the APIC id, without
	 * asking 8000_001D. Model 31h, the next of the family, is asked. */
	if (b->q->vendor == CPU_VENDOR_AMD && family == 0x17 && model <= 0x1f)
		return 0x00830F10;
	return host;
}

static void patch_leaf1(struct builder *b, struct kvm_cpuid_entry2 *e)
{
	uint32_t ids = MIN(1u << b->package_bits, 255u);

	e->eax = signature_of(b, e->eax);
	/* Brand, CLFLUSH line in quadwords, ids of the package, xAPIC id. */
	e->ebx = (e->ebx & 0xff) | LINE_BYTES / 8 << 8 | ids << 16 | (b->apic_id & 0xff) << 24;
	e->ecx |= 1u << 31 | 1u << 21; /* hypervisor, x2APIC */
	e->ecx &= ~(1u << 3);	       /* MONITOR/MWAIT */
	e->ecx &= ~(1u << 24);
	if (b->q->tsc_deadline)
		e->ecx |= 1u << 24;
	e->edx &= ~(1u << 28);
	if (b->package_threads > 1)
		e->edx |= 1u << 28; /* HTT: the ids above count */
}

static void patch(struct builder *b, struct kvm_cpuid_entry2 *e)
{
	bool amd = b->q->vendor == CPU_VENDOR_AMD;

	switch (e->function) {
	case 0:
		e->eax = MAX(e->eax, amd ? 0xBu : 0x1Fu);
		if (b->q->override_vendor || is_hygon(e))
			set_vendor(e, b->q->vendor);
		break;
	case 1:
		patch_leaf1(b, e);
		break;
	case 5:
		e->eax = e->ebx = e->ecx = e->edx = 0; /* MWAIT */
		break;
	case 0x40000001: /* Documentation/virt/kvm/x86/cpuid.rst */
		if (b->q->realtime_hint)
			e->edx |= 1; /* KVM_HINTS_REALTIME */
		if (b->q->msi_ext_dest_id)
			e->eax |= 1u << 15; /* KVM_FEATURE_MSI_EXT_DEST_ID */
		break;
	case 0x80000000:
		e->eax = amd ? MIN(MAX(e->eax, 0x8000001Eu), (uint32_t)AMD_LAST_LEAF)
			     : MIN(e->eax, 0x80000008u);
		if (amd && (b->q->override_vendor || is_hygon(e)))
			set_vendor(e, b->q->vendor);
		else if (!amd)
			e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x80000001:
		e->ecx &= ~(1u << 22 | 1u << 1);
		if (amd)
			e->ecx |= 1u << 22; /* topology extensions: 8000_001D and 1E */
		if (amd && b->package_threads > 1)
			e->ecx |= 1u << 1; /* legacy multi-core */
		break;
	case 0x80000008:
		e->ecx =
			amd ? (b->package_bits & 0xf) << 12 | MIN(b->package_threads - 1, 255u) : 0;
		break;
	}
}

static void add_cache(struct builder *b, uint32_t function, uint32_t index,
		      const struct arch_cache *c)
{
	struct kvm_cpuid_entry2 *e = add(b, function, index, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	/* Ids, not CPUs: the fields are rounded up to powers of two. */
	uint32_t sharing = 1u << (c->of == CACHE_OF_LLC ? b->package_bits : b->fields.thread_bits);
	uint32_t cores = 1u << b->fields.core_bits;

	/* SDM 2A, leaf 4: 1 data, 2 instructions, 3 both. */
	uint32_t type = c->type == 'd' ? 1 : c->type == 'i' ? 2 : 3;

	e->eax = type | (uint32_t)c->level << 5 | 1u << 8 | (sharing - 1) << 14;
	if (function == 4)
		e->eax |= MIN(cores - 1, 63u) << 26;
	e->ebx = (LINE_BYTES - 1) | (c->ways - 1) << 22;
	e->ecx = c->bytes / (c->ways * LINE_BYTES) - 1;
}

static void add_caches(struct builder *b)
{
	bool amd = b->q->vendor == CPU_VENDOR_AMD;
	uint32_t function = amd ? 0x8000001D : 4;
	struct kvm_cpuid_entry2 *e;

	for (unsigned i = 0; i < ARRAY_SIZE(arch_caches); i++)
		add_cache(b, function, i, &arch_caches[i]);
	add(b, function, ARRAY_SIZE(arch_caches), KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	if (!amd) {
		e = add(b, 2, 0, 0);
		e->eax = 0x0000FF01; /* once; descriptor FFh: leaf 4 has the caches */
		return;
	}
	e = add(b, 0x80000005, 0, 0);
	e->ecx = e->edx = (32u << 24) | 8u << 16 | 1u << 8 | LINE_BYTES;
	e = add(b, 0x80000006, 0, 0);
	e->ecx = 1024u << 16 | 8u << 12 | 1u << 8 | LINE_BYTES; /* 8h: 16 ways */
	/* Where this names an L3, Linux takes the last-level cache of families before 17h from the
	 * eight bits of 8000_001E's node id; where it names none, from the package, which can count
	 * further. 8000_001D still says that it is there. */
	if (b->family >= 0x17 || b->q->topology->llcs <= 256)
		e->edx = (16u << 20) / (512u << 10) << 18 | 8u << 12 | 1u << 8 | LINE_BYTES;
}

/* Extended topology (SDM 2A, leaves B and 1F): thread level, core level, end. */
static void add_levels(struct builder *b, uint32_t function)
{
	const struct topology *t = b->q->topology;
	struct kvm_cpuid_entry2 *e = add(b, function, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);

	e->eax = b->fields.thread_bits;
	e->ebx = t->threads_per_core;
	e->ecx = 1u << 8;
	e->edx = b->apic_id;
	e = add(b, function, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	e->eax = b->package_bits;
	e->ebx = b->package_threads;
	e->ecx = 2u << 8 | 1;
	e->edx = b->apic_id;
	e = add(b, function, 2, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	e->ecx = 2;
	e->edx = b->apic_id;
}

/* APM 3, Fn8000_001E: extended APIC id, core id and threads, node id (one node a package). */
static void add_amd_ids(struct builder *b)
{
	struct kvm_cpuid_entry2 *e = add(b, 0x8000001E, 0, 0);

	e->eax = b->apic_id;
	/* Eight bits each. FFh is what Linux takes for no compute unit (family 15h), so that cores
	 * past it are told apart by their APIC ids alone. */
	e->ebx = MIN(b->place.core, 0xffu) | MIN(b->q->topology->threads_per_core - 1, 0xffu) << 8;
	e->ecx = MIN(b->place.llc, 0xffu);
}

unsigned cpuid_room(const struct kvm_cpuid2 *supported)
{
	/* Levels twice, caches with their end, leaf 2 or 8000_0005 and 6, 8000_001E. */
	return supported->nent + 3 * 2 + (unsigned)ARRAY_SIZE(arch_caches) + 1 + 2 + 1;
}

void cpuid_build(const struct cpuid_request *q, struct kvm_cpuid2 *ret)
{
	struct builder b = {
		.q = q,
		.out = ret,
		.fields = apic_fields(q->topology),
		.place = topology_locate(q->topology, q->index),
		.apic_id = arch_vcpu_id(q->topology, q->index),
		.package_threads = q->topology->cores_per_llc * q->topology->threads_per_core,
	};

	const struct kvm_cpuid_entry2 *signature = cpuid_find(q->supported, 1);

	b.package_bits = b.fields.thread_bits + b.fields.core_bits;
	b.family = family_of(signature_of(&b, signature ? signature->eax : 0));
	ret->nent = 0;
	for (uint32_t i = 0; i < q->supported->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &q->supported->entries[i];

		if (is_ours(e->function))
			continue;
		ret->entries[ret->nent] = *e;
		patch(&b, &ret->entries[ret->nent++]);
	}
	add_caches(&b);
	add_levels(&b, 0xB);
	if (q->vendor == CPU_VENDOR_INTEL)
		add_levels(&b, 0x1F);
	else
		add_amd_ids(&b);
}

enum cpu_vendor cpuid_vendor(const struct kvm_cpuid2 *supported)
{
	for (uint32_t i = 0; i < supported->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &supported->entries[i];

		if (e->function == 0)
			return is_hygon(e) || e->ebx == 0x68747541 /* "Auth" */ ? CPU_VENDOR_AMD
										: CPU_VENDOR_INTEL;
	}
	return CPU_VENDOR_INTEL;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == 0)
			return &cpuid->entries[i];
	return NULL;
}

unsigned cpuid_phys_bits(const struct kvm_cpuid2 *supported)
{
	/* SDM 2A, CPUID 80000008H, EAX: bits of physical address; 36 where the leaf lacks. Bits 23
	 * to 16, where set, are what nested paging can map (APM 3, GuestPhysAddrSize), which may be
	 * fewer. */
	const struct kvm_cpuid_entry2 *leaf = cpuid_find(supported, 0x80000008);
	unsigned bits = leaf && (leaf->eax & 0xff) ? leaf->eax & 0xff : 36;
	unsigned guest = leaf ? leaf->eax >> 16 & 0xff : 0;

	return guest ? MIN(bits, guest) : bits;
}
