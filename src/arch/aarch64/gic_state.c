/* What KVM's GICv3 keeps, register by register, in the order in which it takes them back
 * (Documentation/virt/kvm/devices/arm-vgic-v3.rst; registers: IHI 0069, 12). There is no ITS, so
 * that there are no LPIs, nor tables of theirs. Control thread. */
#include <errno.h>
#include <stdlib.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/util.h"

#define SPI_WORDS ((GIC_IRQS - 32) / 32) /* of a bit for each SPI */

/* KVM's number of a CPU interface's register: op0 to op2, as in REG_SYS. */
#define ICC(crm, op2) (3u << 14 | 12u << 7 | (crm) << 3 | (op2))
#define ICC_PMR	      (3u << 14 | 4u << 7 | 6u << 3)

enum { VERSION = 1 };

struct span {
	uint32_t group;
	uint32_t first; /* offset, or number */
	uint16_t count; /* of registers: words, or system registers */
	uint8_t step;	/* from one to the next */
	bool may_lack;	/* all but the first: CPUs with few priorities have less, and 0 is none */
};

#define DIST(offset, words)                                                                        \
	{                                                                                          \
		KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset, words, 4, false                            \
	}
#define REDIST(offset, words)                                                                      \
	{                                                                                          \
		KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, 0x10000 + (offset), words, 4, false              \
	}
#define SYSREG(number)                                                                             \
	{                                                                                          \
		KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, number, 1, 1, false                              \
	}
#define ACTIVE(number)                                                                             \
	{                                                                                          \
		KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, number, 4, 1, true                               \
	}
#define LINES(intid, words)                                                                        \
	{                                                                                          \
		KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, intid, words, 32, false                           \
	}

/* clang-format off */
/* The revision first, since it says what the others mean. */
static const struct span distributor[] = {
	DIST(0x0008, 1),                  /* GICD_IIDR */
	DIST(0x0000, 1),                  /* GICD_CTLR */
	DIST(0x0084, SPI_WORDS),          /* GICD_IGROUPR */
	DIST(0x0c08, 2 * SPI_WORDS),      /* GICD_ICFGR */
	DIST(0x0420, 8 * SPI_WORDS),      /* GICD_IPRIORITYR */
	DIST(0x6100, 2 * 32 * SPI_WORDS), /* GICD_IROUTER, 64 bits each */
	LINES(32, SPI_WORDS),
	DIST(0x0104, SPI_WORDS),          /* GICD_ISENABLER */
	DIST(0x0204, SPI_WORDS),          /* GICD_ISPENDR: of the latch alone */
	DIST(0x0304, SPI_WORDS),          /* GICD_ISACTIVER */
};
static const struct span interface[] = {
	REDIST(0x080, 1),   /* GICR_IGROUPR0 */
	REDIST(0xc00, 2),   /* GICR_ICFGR0, GICR_ICFGR1 */
	REDIST(0x400, 8),   /* GICR_IPRIORITYR */
	LINES(0, 1),
	REDIST(0x100, 1),   /* GICR_ISENABLER0 */
	REDIST(0x200, 1),   /* GICR_ISPENDR0 */
	REDIST(0x300, 1),   /* GICR_ISACTIVER0 */
	SYSREG(ICC(12, 5)), /* ICC_SRE_EL1 */
	SYSREG(ICC(12, 4)), /* ICC_CTLR_EL1: how many priorities, before what is active */
	SYSREG(ICC_PMR),
	SYSREG(ICC(8, 3)),  /* ICC_BPR0_EL1 */
	SYSREG(ICC(12, 3)), /* ICC_BPR1_EL1 */
	ACTIVE(ICC(8, 4)),  /* ICC_AP0R<n>_EL1 */
	ACTIVE(ICC(9, 0)),  /* ICC_AP1R<n>_EL1 */
	SYSREG(ICC(12, 6)), /* ICC_IGRPEN0_EL1 */
	SYSREG(ICC(12, 7)), /* ICC_IGRPEN1_EL1 */
};
/* clang-format on */

static unsigned count_of(const struct span *span, size_t spans)
{
	unsigned count = 0;

	for (size_t i = 0; i < spans; i++)
		count += span[i].count;
	return count;
}

static uint64_t attr_of(const struct span *s, unsigned n, uint64_t affinity)
{
	return affinity << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | (s->first + n * s->step);
}

static int get(const struct arch_vm *vm, const struct span *s, uint64_t attr, uint64_t *ret_value)
{
	uint32_t word = 0;
	int r;

	if (s->group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS)
		return kvm_get_attr(vm->gic_fd, s->group, attr, ret_value);
	r = kvm_get_attr(vm->gic_fd, s->group, attr, &word);
	*ret_value = word;
	return r;
}

static int set(const struct arch_vm *vm, const struct span *s, uint64_t attr, uint64_t value)
{
	uint32_t word = (uint32_t)value;

	return s->group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
		       ? kvm_set_attr(vm->gic_fd, s->group, attr, &value)
		       : kvm_set_attr(vm->gic_fd, s->group, attr, &word);
}

/* value: of each, in order. *ret_attr: which failed. */
static int all(const struct arch_vm *vm, bool restore, const struct span *span, size_t spans,
	       uint64_t affinity, uint64_t *value, uint64_t *ret_attr)
{
	for (size_t i = 0; i < spans; i++)
		for (unsigned n = 0; n < span[i].count; n++, value++) {
			uint64_t attr = attr_of(&span[i], n, affinity);
			int r = restore ? set(vm, &span[i], attr, *value)
					: get(vm, &span[i], attr, value);

			if (r == -EINVAL && span[i].may_lack && n > 0 && *value == 0)
				r = 0;
			*ret_attr = attr;
			if (r < 0)
				return r;
		}
	return 0;
}

static int whole(const struct arch_vm *vm, bool restore, uint64_t *value, uint64_t *ret_attr)
{
	int r = all(vm, restore, distributor, ARRAY_SIZE(distributor), 0, value, ret_attr);

	value += count_of(distributor, ARRAY_SIZE(distributor));
	for (unsigned i = 0; r == 0 && i < topology_vcpus(vm->topology); i++) {
		r = all(vm, restore, interface, ARRAY_SIZE(interface),
			mpidr_affinity(vm->topology, i), value, ret_attr);
		value += count_of(interface, ARRAY_SIZE(interface));
	}
	return r;
}

static void section(struct state_io *io, const char *name, unsigned count, uint64_t *value)
{
	uint32_t listed = count;

	if (state_begin(io, name, VERSION)) {
		state_u32(io, "count", &listed);
		state_check(io, "count", listed == count);
		for (unsigned i = 0; i < count; i++)
			state_u64(io, "value", &value[i]);
	}
	state_end(io);
}

void gic_state(struct arch_vm *vm, struct state_io *io)
{
	unsigned vcpus = topology_vcpus(vm->topology);
	unsigned first = count_of(distributor, ARRAY_SIZE(distributor));
	unsigned each = count_of(interface, ARRAY_SIZE(interface));
	CLEANUP_FREE uint64_t *value = calloc(first + (size_t)vcpus * each, sizeof(*value));
	uint64_t attr = 0;
	int r = !value ? -ENOMEM : io->restoring ? 0 : whole(vm, false, value, &attr);

	if (r < 0) {
		state_fail(io, r, "reading the interrupt controller (%#llx)",
			   (unsigned long long)attr);
		return;
	}
	section(io, "gic", first, value);
	for (unsigned i = 0; i < vcpus; i++)
		section(io, "gic-cpu", each, value + first + (size_t)i * each);
	if (!state_restoring(io))
		return;
	free(vm->restored_gic);
	vm->restored_gic = value;
	value = NULL;
}

int gic_restore(struct arch_vm *vm, struct error *err)
{
	uint64_t attr = 0;
	int r = whole(vm, true, vm->restored_gic, &attr);

	free(vm->restored_gic);
	vm->restored_gic = NULL;
	if (r == -EINVAL)
		return error_usage(err,
				   "gic: this host's GIC does not take the snapshot's "
				   "register %#llx",
				   (unsigned long long)attr);
	return r < 0 ? error_set_shortage(err, r, "restoring the interrupt controller (%#llx)",
					  (unsigned long long)attr)
		     : 0;
}
