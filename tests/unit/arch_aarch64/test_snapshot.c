/* A machine's state from one KVM to another, both played: every register of the vCPUs and of the
 * GIC arrives, in an order that a GIC takes; what the other can't have is refused by name. aarch64.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/util.h"

#define VM_FD		   1000 /* no descriptors */
#define GIC_FD		   1001
#define VCPU_FD		   1010
#define VCPUS		   3
#define CAP_COUNTER_OFFSET 227
#define SET_COUNTER_OFFSET _IOW(KVMIO, 0xb5, uint64_t[2])
#define REG_V(n)                                                                                   \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U128 | KVM_REG_ARM_CORE |                                    \
	 KVM_REG_ARM_CORE_REG(fp_regs.vregs[n]))
#define PMCR	   REG_SYS(3, 3, 9, 12, 0)
#define PMCNTENSET REG_SYS(3, 3, 9, 12, 1)
#define PMCNTENCLR REG_SYS(3, 3, 9, 12, 2)
#define ID_PFR0	   REG_SYS(3, 0, 0, 4, 0)
#define FEATURES   (1u << KVM_ARM_VCPU_PSCI_0_2 | 1u << KVM_ARM_VCPU_SVE)
#define ICFGR	   0xc08
#define ISPENDR	   0x204
#define ICC_CTLR   0xc664
#define ICC_AP1R_1 0xc649

static const uint64_t ids[] = {
	REG_X(0),
	REG_X(30),
	REG_PC,
	REG_PSTATE,
	REG_V(0),
	REG_V(31),
	KVM_REG_ARM_TIMER_CTL,
	KVM_REG_ARM_TIMER_CNT,
	KVM_REG_ARM_TIMER_CVAL,
	KVM_REG_ARM_PTIMER_CNT,
	REG_TTBR1_EL1,
	REG_MPIDR_EL1,
	ID_PFR0,
	REG_CLIDR_EL1,
	PMCR,
	PMCNTENSET,
	PMCNTENCLR,
	KVM_REG_ARM64_SVE_VLS,
};

struct attr {
	uint32_t group;
	uint64_t attr, value;
};

/* One host. */
static struct host {
	/* Of the register of SVE's lengths, no more than this is looked at. */
	unsigned __int128 reg[VCPUS][ARRAY_SIZE(ids)][4];
	bool finalized[VCPUS];
	unsigned counters; /* its PMU has */
	struct attr attr[1024];
	unsigned attrs;
	struct kvm_mp_state mp[VCPUS];
	struct kvm_vcpu_events events[VCPUS];
	uint64_t offset; /* the host's counter less the guest's */
	bool fixed_id;	 /* takes no other ID_AA64PFR0_EL1 */
	unsigned priority_registers;
	unsigned initialised;
} hosts[2], *host;

static struct kvm kvm = {.fd = -1, .vm_fd = VM_FD};
static struct topology topology;

static uint64_t counter(void)
{
	uint64_t count;

	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(count)::"memory");
	return count;
}

static size_t bytes_of(uint64_t id)
{
	return (size_t)1 << (id >> 52 & 15);
}

static void set_word(void *reg, uint64_t word)
{
	memcpy(reg, &word, sizeof(word));
}

static void *reg_of(struct host *h, unsigned vcpu, uint64_t id)
{
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (ids[i] == id)
			return h->reg[vcpu][i];
	fail_msg("no register %#llx", (unsigned long long)id);
	return NULL;
}

/* The two are one, which the one sets and the other clears. */
static void clear_enabled(unsigned vcpu, uint64_t bits)
{
	uint64_t word;

	memcpy(&word, reg_of(host, vcpu, PMCNTENSET), sizeof(word));
	set_word(reg_of(host, vcpu, PMCNTENSET), word & ~bits);
	set_word(reg_of(host, vcpu, PMCNTENCLR), word & ~bits);
}

static int one_reg(unsigned vcpu, unsigned long request, const struct kvm_one_reg *reg)
{
	void *value = (void *)(uintptr_t)reg->addr;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		void *is = host->reg[vcpu][i];
		uint64_t word;

		if (ids[i] != reg->id)
			continue;
		memcpy(&word, value, sizeof(word));
		if (request == KVM_GET_ONE_REG)
			memcpy(value, is, bytes_of(reg->id));
		else if (reg->id == PMCNTENCLR)
			clear_enabled(vcpu, word); /* … as KVM until 6.14 */
		else if (reg->id == KVM_REG_ARM64_SVE_VLS && host->finalized[vcpu])
			return EPERM;
		else if (reg->id == PMCR && (word >> 11 & 31) > host->counters)
			set_word(is, (word & ~(UINT64_C(31) << 11)) | host->counters << 11);
		else if (reg->id == ID_PFR0 && host->fixed_id && memcmp(value, is, 8))
			return EINVAL;
		else
			memcpy(is, value, bytes_of(reg->id));
		return 0;
	}
	/* The caches, which every vCPU is given. */
	return (reg->id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM_DEMUX ? 0 : ENOENT;
}

static int list(struct kvm_reg_list *to)
{
	if (to->n < ARRAY_SIZE(ids)) {
		to->n = ARRAY_SIZE(ids);
		return E2BIG;
	}
	to->n = ARRAY_SIZE(ids);
	memcpy(to->reg, ids, sizeof(ids));
	return 0;
}

static int gic_attr(unsigned long request, const struct kvm_device_attr *a)
{
	bool wide = a->group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS;
	uint32_t number = (uint32_t)a->attr;
	struct attr *entry = NULL;

	/* AP0R1 and up, AP1R1 and up. */
	if (wide && ((number & 0xfffc) == 0xc644 || (number & 0xfffc) == 0xc648) &&
	    (number & 3) >= host->priority_registers)
		return EINVAL;
	for (unsigned i = 0; i < host->attrs; i++)
		if (host->attr[i].group == a->group && host->attr[i].attr == a->attr)
			entry = &host->attr[i];
	if (!entry) {
		assert_true(host->attrs < ARRAY_SIZE(host->attr));
		entry = &host->attr[host->attrs++];
		*entry = (struct attr){a->group, a->attr, 0};
		/* Each has a value of its own, in the one that is saved. */
		if (request == KVM_GET_DEVICE_ATTR)
			entry->value =
				wide ? host->attrs * UINT64_C(0x100000001) : host->attrs * 0x1001u;
	}
	if (request == KVM_GET_DEVICE_ATTR)
		memcpy((void *)(uintptr_t)a->addr, &entry->value, wide ? 8 : 4);
	else
		memcpy(&entry->value, (void *)(uintptr_t)a->addr, wide ? 8 : 4);
	return 0;
}

static int vcpu_ioctl(unsigned vcpu, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_GET_ONE_REG:
	case KVM_SET_ONE_REG:
		return one_reg(vcpu, request, arg);
	case KVM_GET_REG_LIST:
		return list(arg);
	case KVM_ARM_VCPU_INIT:
		host->initialised++;
		host->finalized[vcpu] = false;
		return 0;
	case KVM_ARM_VCPU_FINALIZE:
		host->finalized[vcpu] = true;
		return 0;
	case KVM_GET_MP_STATE:
		memcpy(arg, &host->mp[vcpu], sizeof(host->mp[vcpu]));
		return 0;
	case KVM_SET_MP_STATE:
		memcpy(&host->mp[vcpu], arg, sizeof(host->mp[vcpu]));
		return 0;
	case KVM_GET_VCPU_EVENTS:
		memcpy(arg, &host->events[vcpu], sizeof(host->events[vcpu]));
		return 0;
	case KVM_SET_VCPU_EVENTS:
		memcpy(&host->events[vcpu], arg, sizeof(host->events[vcpu]));
		return 0;
	default:
		fail_msg("ioctl %#lx of a vCPU", request);
		return 0;
	}
}

int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_CHECK_EXTENSION)
		return (long)arg == CAP_COUNTER_OFFSET || (long)arg == KVM_CAP_VCPU_EVENTS;
	if (fd == GIC_FD)
		errno = gic_attr(request, arg);
	else if (fd >= VCPU_FD)
		errno = vcpu_ioctl((unsigned)(fd - VCPU_FD), request, arg);
	else {
		assert_int_equal(request, SET_COUNTER_OFFSET);
		memcpy(&host->offset, arg, sizeof(host->offset));
		errno = 0;
	}
	return errno ? -1 : 0;
}

/* ---- from one to the other ------------------------------------------------------------------- */

static struct arch_vm machine_on(struct host *h)
{
	struct arch_vm vm = {.kvm = &kvm, .topology = &topology, .gic_fd = GIC_FD};

	cpu_features(&vm, FEATURES);

	host = h;
	assert_int_equal(freeze_set_offset(&vm, NULL), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		vm.vcpu_fd[i] = VCPU_FD + (int)i;
	return vm;
}

static struct state_io saved_vm, saved_vcpu[VCPUS];
static uint64_t saved_count;

static int set_up(void **state UNUSED)
{
	struct arch_clock clock = {0};
	struct arch_vm vm;

	assert_int_equal(topology_parse("1n1l3c1t", &topology, NULL), 0);
	memset(hosts, 0, sizeof(hosts));
	for (unsigned i = 0; i < ARRAY_SIZE(hosts); i++)
		hosts[i] = (struct host){.priority_registers = 1, .counters = 31};
	vm = machine_on(&hosts[0]);
	for (unsigned i = 0; i < VCPUS; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(ids); k++)
			memset(host->reg[i][k], (int)(16 * i + k + 1), bytes_of(ids[k]));
		/* They read the same; and all have the same lengths. */
		memcpy(reg_of(host, i, PMCNTENCLR), reg_of(host, i, PMCNTENSET), 8);
		memset(reg_of(host, i, KVM_REG_ARM64_SVE_VLS), 0x33, 64);
		host->mp[i].mp_state = i == 2 ? KVM_MP_STATE_STOPPED : KVM_MP_STATE_RUNNABLE;
		host->events[i].exception.serror_pending = i == 1;
	}
	arch_clock_stop(&vm, &clock);
	saved_count = clock.host - vm.counter_offset;
	for (unsigned i = 0; i < VCPUS; i++) {
		state_save(&saved_vcpu[i]);
		arch_vcpu_save(&vm, i, vm.vcpu_fd[i], NULL, &clock, &saved_vcpu[i]);
		assert_int_equal(state_result(&saved_vcpu[i], NULL), 0);
	}
	state_save(&saved_vm);
	arch_vm_save(&vm, &clock, &saved_vm);
	assert_int_equal(state_result(&saved_vm, NULL), 0);
	return 0;
}

static int tear_down(void **state UNUSED)
{
	state_free(&saved_vm);
	for (unsigned i = 0; i < VCPUS; i++)
		state_free(&saved_vcpu[i]);
	return 0;
}

static int restore_vm(struct arch_vm *vm, size_t len, struct error *err)
{
	struct arch_clock clock = {0};
	struct state_io io;

	state_restore(&io, saved_vm.bytes, len);
	arch_vm_restore(vm, &clock, &io);
	return state_result(&io, err);
}

static int restore_vcpu(struct arch_vm *vm, unsigned i, size_t len, struct error *err)
{
	struct arch_clock clock = {0};
	struct state_io io;

	state_restore(&io, saved_vcpu[i].bytes, len);
	arch_vcpu_restore(vm, i, vm->vcpu_fd[i], &clock, &io);
	return state_result(&io, err);
}

static int restore(struct arch_vm *vm, struct error *err)
{
	int r = restore_vm(vm, saved_vm.len, err);

	for (unsigned i = 0; r == 0 && i < VCPUS; i++)
		r = restore_vcpu(vm, i, saved_vcpu[i].len, err);
	return r < 0 ? r : arch_vm_vcpus_restored(vm, err);
}

static const struct attr *attr_of(const struct host *h, uint32_t group, uint64_t attr)
{
	for (unsigned i = 0; i < h->attrs; i++)
		if (h->attr[i].group == group && h->attr[i].attr == attr)
			return &h->attr[i];
	return NULL;
}

static void everything_arrives(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);
	struct error err = {0};

	if (restore(&vm, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(hosts[1].initialised, VCPUS);
	for (unsigned i = 0; i < VCPUS; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(ids); k++) {
			/* A counter that one vCPU sets is every vCPU's; and the PMU's second
			 * name of what is enabled would disable it. */
			bool left_out = ids[k] == KVM_REG_ARM_TIMER_CNT ||
					ids[k] == KVM_REG_ARM_PTIMER_CNT || ids[k] == PMCNTENCLR;
			static const uint8_t none[64];

			assert_memory_equal(hosts[1].reg[i][k],
					    left_out ? (const void *)none : hosts[0].reg[i][k],
					    bytes_of(ids[k]));
		}
		assert_int_equal(hosts[1].mp[i].mp_state, hosts[0].mp[i].mp_state);
		assert_int_equal(hosts[1].events[i].exception.serror_pending, i == 1);
	}
	/* All of the GIC that was read, and nothing else: two words for 64 SPIs, sixteen for their
	 * priorities, two for each one's target. */
	assert_int_equal(hosts[0].attrs, 2 + 5 * 2 + 4 + 16 + 2 * 64 + VCPUS * (15 + 7 + 2));
	assert_int_equal(hosts[1].attrs, hosts[0].attrs);
	for (unsigned i = 0; i < hosts[0].attrs; i++) {
		const struct attr *was = &hosts[0].attr[i];
		const struct attr *is = attr_of(&hosts[1], was->group, was->attr);

		assert_non_null(is);
		assert_int_equal(is->value, was->value);
	}
	assert_null(vm.restored_gic);
}

static void come_in_order(uint32_t group, uint64_t first, uint64_t then)
{
	assert_non_null(attr_of(&hosts[1], group, first));
	assert_non_null(attr_of(&hosts[1], group, then));
	assert_true(attr_of(&hosts[1], group, first) < attr_of(&hosts[1], group, then));
}

/* The revision says what all others mean, and how many priorities there are which are active. */
static void the_gic_has_an_order(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);
	const struct attr *first = hosts[1].attr;

	assert_int_equal(restore(&vm, NULL), 0);
	assert_int_equal(first->group, KVM_DEV_ARM_VGIC_GRP_DIST_REGS);
	assert_int_equal(first->attr, 8); /* GICD_IIDR */
	come_in_order(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 8, ICFGR);
	come_in_order(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, ICFGR, ISPENDR);
	for (unsigned i = 0; i < VCPUS; i++) {
		uint64_t who = mpidr_affinity(&topology, i) << 32;

		for (uint64_t offset = 0x10100; offset <= 0x10300; offset += 0x100)
			assert_non_null(
				attr_of(&hosts[1], KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, who | offset));
		come_in_order(KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, who | ICC_CTLR, who | 0xc644);
		come_in_order(KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, who | ICC_CTLR, who | 0xc648);
	}
}

static void the_counter_goes_on(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);
	uint64_t before, after;

	assert_int_equal(restore_vm(&vm, saved_vm.len, NULL), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(restore_vcpu(&vm, i, saved_vcpu[i].len, NULL), 0);
	before = counter();
	assert_int_equal(arch_vm_vcpus_restored(&vm, NULL), 0);
	after = counter();
	assert_int_equal(hosts[1].offset, vm.counter_offset);
	assert_in_range(hosts[1].offset, before - saved_count, after - saved_count);
}

static void a_register_that_is_fixed_is_named(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);
	struct error err = {0};

	hosts[1].fixed_id = true;
	assert_int_equal(restore_vm(&vm, saved_vm.len, NULL), 0);
	assert_int_equal(restore_vcpu(&vm, 0, saved_vcpu[0].len, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "ID_AA64PFR0_EL1"));
	/* … but not if it is what it has to be. */
	for (size_t k = 0; k < ARRAY_SIZE(ids); k++)
		if (ids[k] == ID_PFR0)
			memcpy(hosts[1].reg[0][k], hosts[0].reg[0][k], 8);
	assert_int_equal(restore_vcpu(&vm, 0, saved_vcpu[0].len, NULL), 0);
	free(vm.restored_gic);
}

/* A CPU with more priorities has more registers of active ones. */
static void active_priorities_that_a_host_lacks(void **state)
{
	struct error err = {0};
	struct arch_vm vm;

	tear_down(NULL);
	set_up(NULL);
	/* Saved with one, restored where there are four: no more than that one is set. */
	hosts[1].priority_registers = 4;
	vm = machine_on(&hosts[1]);
	assert_int_equal(restore(&vm, NULL), 0);
	assert_int_equal(attr_of(&hosts[1], KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, ICC_AP1R_1)->value,
			 0);
	/* The other way round, something would be lost. */
	tear_down(state);
	hosts[0].priority_registers = 4;
	host = &hosts[0];
	state_save(&saved_vm);
	vm = machine_on(&hosts[0]);
	arch_vm_save(&vm, &(struct arch_clock){0}, &saved_vm);
	for (unsigned i = 0; i < VCPUS; i++) {
		state_save(&saved_vcpu[i]);
		arch_vcpu_save(&vm, i, vm.vcpu_fd[i], NULL, NULL, &saved_vcpu[i]);
	}
	hosts[1] = (struct host){.priority_registers = 1, .counters = 31};
	vm = machine_on(&hosts[1]);
	assert_int_equal(restore(&vm, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "0xc645")); /* ICC_AP0R1_EL1 */
}

static void a_pmu_with_fewer_counters_is_refused(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);
	struct error err = {0};

	hosts[1].counters = 0;
	assert_int_equal(restore_vm(&vm, saved_vm.len, NULL), 0);
	assert_int_equal(restore_vcpu(&vm, 0, saved_vcpu[0].len, &err), -EINVAL);
	assert_non_null(strstr(err.what, "PMCR_EL0"));
	free(vm.restored_gic);
}

/* Stolen time: a machine has it or not, wherever it is. */
static void stolen_time_stays_as_it_was(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);

	vm.has_stolen = true;
	vm.plan.stolen_gpa = 0x1000;
	assert_int_equal(restore_vm(&vm, saved_vm.len, NULL), 0);
	assert_false(vm.has_stolen);
	assert_int_equal(vm.plan.stolen_gpa, 0);
	free(vm.restored_gic);
}

static void features_that_a_host_lacks(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);
	struct error err = {0};

	vm.features = 1u << KVM_ARM_VCPU_SVE;
	assert_int_equal(restore_vm(&vm, saved_vm.len, &err), -EINVAL);
	assert_non_null(strstr(err.what, "features.features"));
	assert_int_equal(err.kind, ERROR_USAGE);
	/* More of them do no harm: the machine has what it had. */
	vm.features = FEATURES | 1u << KVM_ARM_VCPU_PMU_V3;
	vm.has_pmu = true;
	assert_int_equal(restore_vm(&vm, saved_vm.len, NULL), 0);
	assert_int_equal(vm.features, FEATURES);
	assert_false(vm.has_pmu);
	free(vm.restored_gic);
}

/* Wherever they end. */
static void what_is_cut_short_is_refused(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);

	for (size_t len = 0; len < saved_vm.len; len++)
		assert_int_equal(restore_vm(&vm, len, NULL), -EINVAL);
	for (size_t len = 0; len < saved_vcpu[0].len; len++)
		assert_int_equal(restore_vcpu(&vm, 0, len, NULL), -EINVAL);
	free(vm.restored_gic);
}

/* Random bytes, and ones with a bit changed: an answer, whatever it is. */
static void what_is_hostile_is_bounded(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[1]);

	srand(1);
	for (unsigned n = 0; n < 4000; n++) {
		struct state_io *from = n % 2 ? &saved_vm : &saved_vcpu[1];
		size_t at = (size_t)rand() % from->len;
		uint8_t was = from->bytes[at];

		from->bytes[at] = (uint8_t)rand();
		if (n % 2)
			(void)!restore_vm(&vm, saved_vm.len, NULL);
		else
			(void)!restore_vcpu(&vm, 1, saved_vcpu[1].len, NULL);
		from->bytes[at] = was;
		hosts[1].attrs = 0;
	}
	free(vm.restored_gic);
}

static void see(const char *name, uint32_t bits, void *arg)
{
	if (!strcmp(name, "ID_AA64PFR0_EL1[63:32]"))
		*(uint32_t *)arg = bits;
}

static void features_are_told(void **state UNUSED)
{
	struct arch_vm vm = machine_on(&hosts[0]);
	uint32_t bits = 0;

	arch_vm_features(&vm, see, &bits);
	assert_int_equal(bits, 0x0d0d0d0d);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(everything_arrives),
		TEST(the_gic_has_an_order),
		TEST(the_counter_goes_on),
		TEST(a_register_that_is_fixed_is_named),
		TEST(active_priorities_that_a_host_lacks),
		TEST(a_pmu_with_fewer_counters_is_refused),
		TEST(stolen_time_stays_as_it_was),
		TEST(features_that_a_host_lacks),
		TEST(what_is_cut_short_is_refused),
		TEST(what_is_hostile_is_bounded),
		TEST(features_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
