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

/* The revision first, since it says what the others mean; which are edges before what is pending.
 */
static const struct span distributor[] = {
	DIST(0x0008, 1),		  /* GICD_IIDR */
	DIST(0x0000, 1),		  /* GICD_CTLR */
	DIST(0x0084, SPI_WORDS),	  /* GICD_IGROUPR */
	DIST(0x0c08, 2 * SPI_WORDS),	  /* GICD_ICFGR */
	DIST(0x0420, 8 * SPI_WORDS),	  /* GICD_IPRIORITYR */
	DIST(0x6100, 2 * 32 * SPI_WORDS), /* GICD_IROUTER, 64 bits each */
	LINES(32, SPI_WORDS),
	DIST(0x0104, SPI_WORDS), /* GICD_ISENABLER */
	DIST(0x0204, SPI_WORDS), /* GICD_ISPENDR: of the latch alone */
	DIST(0x0304, SPI_WORDS), /* GICD_ISACTIVER */
};
static const struct span interface[] = {
	REDIST(0x080, 1),		      /* GICR_IGROUPR0 */
	REDIST(0xc00, 2),		      /* GICR_ICFGR0, GICR_ICFGR1 */
	REDIST(0x400, 8),		      /* GICR_IPRIORITYR */
	LINES(0, 1),	    REDIST(0x100, 1), /* GICR_ISENABLER0 */
	REDIST(0x200, 1),		      /* GICR_ISPENDR0 */
	REDIST(0x300, 1),		      /* GICR_ISACTIVER0 */
	SYSREG(ICC(12, 5)),		      /* ICC_SRE_EL1 */
	SYSREG(ICC(12, 4)), /* ICC_CTLR_EL1: how many priorities, before what is active */
	SYSREG(ICC_PMR),    SYSREG(ICC(8, 3)), /* ICC_BPR0_EL1 */
	SYSREG(ICC(12, 3)),		       /* ICC_BPR1_EL1 */
	ACTIVE(ICC(8, 4)),		       /* ICC_AP0R<n>_EL1 */
	ACTIVE(ICC(9, 0)),		       /* ICC_AP1R<n>_EL1 */
	SYSREG(ICC(12, 6)),		       /* ICC_IGRPEN0_EL1 */
	SYSREG(ICC(12, 7)),		       /* ICC_IGRPEN1_EL1 */
};

static unsigned count_of(const struct span *span, size_t spans)
{
	unsigned count = 0;

	for (size_t i = 0; i < spans; i++)
		count += span[i].count;
	return count;
}

static int one(const struct arch_vm *vm, unsigned long request, const struct span *s, unsigned n,
	       uint64_t affinity, uint64_t *value)
{
	bool wide = s->group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS;
	uint32_t word = (uint32_t)*value;
	struct kvm_device_attr attr = {
		.group = s->group,
		.attr = affinity << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | (s->first + n * s->step),
		.addr = (uintptr_t)(wide ? (void *)value : &word),
	};
	int r = kvm_ioctl(vm->gic_fd, request, &attr);

	if (r == 0 && !wide)
		*value = word;
	if (r < 0 && s->may_lack && n > 0 && *value == 0)
		return 0;
	return r;
}

/* request: KVM_GET_DEVICE_ATTR or KVM_SET_DEVICE_ATTR; value: of each, in order. */
static int all(const struct arch_vm *vm, unsigned long request, const struct span *span,
	       size_t spans, uint64_t affinity, uint64_t *value)
{
	for (size_t i = 0; i < spans; i++)
		for (unsigned n = 0; n < span[i].count; n++) {
			int r = one(vm, request, &span[i], n, affinity, value++);

			if (r < 0)
				return r;
		}
	return 0;
}

static int whole(const struct arch_vm *vm, unsigned long request, uint64_t *value)
{
	int r = all(vm, request, distributor, ARRAY_SIZE(distributor), 0, value);

	value += count_of(distributor, ARRAY_SIZE(distributor));
	for (unsigned i = 0; r == 0 && i < topology_vcpus(vm->topology); i++) {
		r = all(vm, request, interface, ARRAY_SIZE(interface),
			mpidr_affinity(vm->topology, i), value);
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
	int r = !value ? -ENOMEM : io->restoring ? 0 : whole(vm, KVM_GET_DEVICE_ATTR, value);

	if (r < 0) {
		state_fail(io, r, "reading the interrupt controller");
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
	int r = whole(vm, KVM_SET_DEVICE_ATTR, vm->restored_gic);

	free(vm->restored_gic);
	vm->restored_gic = NULL;
	return r < 0 ? error_set(err, r, "restoring the interrupt controller") : 0;
}
