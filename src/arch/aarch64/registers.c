/* A vCPU's registers as KVM names them, one by one or all (KVM API, 4.68 to 4.70). They are
 * restored as they were listed, once what has to come before KVM_RUN or KVM_ARM_VCPU_FINALIZE has
 * been set. Each function's thread is in machine.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/util.h"

#define REGISTERS_MAX 8192
#define BYTES_MAX     256 /* a vector of SVE */

enum { VERSION = 1 };

#define PMCR_EL0    REG_SYS(3, 3, 9, 12, 0)
#define PMCR_N(reg) ((reg) >> 11 & 0x1f) /* how many counters */

/* What a guest learns of its CPU from (ARM ARM, D23.2); the rest goes by its number. */
static const struct {
	uint64_t id;
	const char *name;
} feature_registers[] = {
	{REG_SYS(3, 0, 0, 0, 0), "MIDR_EL1"},
	{REG_SYS(3, 3, 0, 0, 1), "CTR_EL0"},
	{REG_SYS(3, 0, 0, 4, 0), "ID_AA64PFR0_EL1"},
	{REG_SYS(3, 0, 0, 4, 1), "ID_AA64PFR1_EL1"},
	{REG_SYS(3, 0, 0, 4, 4), "ID_AA64ZFR0_EL1"},
	{REG_SYS(3, 0, 0, 5, 0), "ID_AA64DFR0_EL1"},
	{REG_SYS(3, 0, 0, 6, 0), "ID_AA64ISAR0_EL1"},
	{REG_SYS(3, 0, 0, 6, 1), "ID_AA64ISAR1_EL1"},
	{REG_SYS(3, 0, 0, 6, 2), "ID_AA64ISAR2_EL1"},
	{REG_SYS(3, 0, 0, 7, 0), "ID_AA64MMFR0_EL1"},
	{REG_SYS(3, 0, 0, 7, 1), "ID_AA64MMFR1_EL1"},
	{REG_SYS(3, 0, 0, 7, 2), "ID_AA64MMFR2_EL1"},
	{REG_SYS(3, 0, 0, 7, 3), "ID_AA64MMFR3_EL1"},
	{PMCR_EL0, "PMCR_EL0"},
	{KVM_REG_ARM64_SVE_VLS, "SVE's vector lengths"},
};

static int one(int fd, unsigned long request, uint64_t id, const void *value)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value};

	return kvm_ioctl(fd, request, &reg);
}

int register_get(int vcpu_fd, uint64_t id, void *ret_value)
{
	return one(vcpu_fd, KVM_GET_ONE_REG, id, ret_value);
}

int register_set(int vcpu_fd, uint64_t id, const void *value)
{
	return one(vcpu_fd, KVM_SET_ONE_REG, id, value);
}

static size_t bytes_of(uint64_t id)
{
	return (size_t)1 << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

static const char *name_of(uint64_t id, char *buf, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(feature_registers); i++)
		if (feature_registers[i].id == id)
			return feature_registers[i].name;
	snprintf(buf, len, "the register %#llx", (unsigned long long)id);
	return buf;
}

/* The caller frees it. */
static int list(int fd, struct kvm_reg_list **ret_list)
{
	struct kvm_reg_list count = {0}, *list;
	int r = kvm_ioctl(fd, KVM_GET_REG_LIST, &count);

	if (r != -E2BIG)
		return r < 0 ? r : -EPROTO;
	if (count.n > REGISTERS_MAX)
		return -E2BIG;
	list = calloc(1, sizeof(*list) + count.n * sizeof(list->reg[0]));
	if (!list)
		return -ENOMEM;
	list->n = count.n;
	r = kvm_ioctl(fd, KVM_GET_REG_LIST, list);
	if (r < 0) {
		free(list);
		return r;
	}
	*ret_list = list;
	return 0;
}

/* What is the VM's, and what would take away again what another name of it has set: of a pair that
 * sets and clears bits of the PMU, the one that clears reads the same, and comes later. */
static bool is_left_out(uint64_t id)
{
	static const uint64_t ids[] = {
		KVM_REG_ARM_TIMER_CNT,	 KVM_REG_ARM_PTIMER_CNT,
		REG_SYS(3, 0, 9, 14, 2), /* PMINTENCLR_EL1 */
		REG_SYS(3, 3, 9, 12, 2), /* PMCNTENCLR_EL0 */
		REG_SYS(3, 3, 9, 12, 3), /* PMOVSCLR_EL0 */
	};

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (ids[i] == id)
			return true;
	return false;
}

static void save(int fd, struct state_io *io)
{
	CLEANUP_FREE struct kvm_reg_list *all = NULL;
	_Alignas(16) uint8_t value[BYTES_MAX];
	uint32_t count = 0;
	int r = list(fd, &all);

	if (r < 0) {
		state_fail(io, r, "asking KVM which registers there are");
		return;
	}
	for (uint64_t i = 0; i < all->n; i++)
		count += !is_left_out(all->reg[i]);
	state_u32(io, "count", &count);
	for (uint64_t i = 0; r == 0 && i < all->n; i++) {
		uint64_t id = all->reg[i];

		if (is_left_out(id))
			continue;
		r = bytes_of(id) <= sizeof(value) ? register_get(fd, id, value) : -E2BIG;
		if (r < 0)
			state_fail(io, r, "reading the register %#llx", (unsigned long long)id);
		state_u64(io, "id", &id);
		state_bytes(io, "value", value, r == 0 ? bytes_of(id) : 0);
	}
}

/* KVM takes any number of counters, and keeps its own if that is less. */
static bool has_counters(int fd, uint64_t id, const uint8_t *value)
{
	uint64_t wanted, has;

	if (id != PMCR_EL0)
		return true;
	memcpy(&wanted, value, sizeof(wanted));
	return register_get(fd, id, &has) == 0 && PMCR_N(has) == PMCR_N(wanted);
}

/* One that can't be written is right if it has that value. */
static void set(int fd, uint64_t id, const uint8_t *value, struct state_io *io)
{
	_Alignas(16) uint8_t is[BYTES_MAX];
	char buf[40];
	int r = register_set(fd, id, value);

	if (r == 0 && has_counters(fd, id, value))
		return;
	if (r < 0 && register_get(fd, id, is) == 0 && !memcmp(is, value, bytes_of(id)))
		return;
	state_refuse(io, "", "this host's KVM does not take the snapshot's value of %s",
		     name_of(id, buf, sizeof(buf)));
}

static void restore(int fd, struct state_io *io)
{
	_Alignas(16) uint8_t value[BYTES_MAX];
	uint32_t count = 0;

	state_u32(io, "count", &count);
	for (uint32_t i = 0; !io->err.code && i < count; i++) {
		uint64_t id = 0;

		state_u64(io, "id", &id);
		state_check(io, "id", bytes_of(id) <= sizeof(value));
		state_bytes(io, "value", value, io->err.code ? 0 : bytes_of(id));
		if (!io->err.code && !is_left_out(id))
			set(fd, id, value, io);
	}
}

void registers_state(int vcpu_fd, struct state_io *io)
{
	if (state_begin(io, "registers", VERSION)) {
		if (io->restoring)
			restore(vcpu_fd, io);
		else
			save(vcpu_fd, io);
	}
	state_end(io);
}

void registers_features(int vcpu_fd, void (*each)(const char *name, uint32_t bits, void *arg),
			void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(feature_registers); i++) {
		uint64_t value;
		char name[40];

		if (bytes_of(feature_registers[i].id) != sizeof(value) ||
		    register_get(vcpu_fd, feature_registers[i].id, &value) < 0)
			continue;
		snprintf(name, sizeof(name), "%s[31:0]", feature_registers[i].name);
		each(name, (uint32_t)value, arg);
		snprintf(name, sizeof(name), "%s[63:32]", feature_registers[i].name);
		each(name, (uint32_t)(value >> 32), arg);
	}
}
