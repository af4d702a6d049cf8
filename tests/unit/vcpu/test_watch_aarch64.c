/* What a vCPU thread makes of watchpoints that trap before the store. KVM and the instruction are
 * the test's; which slots a trap is about, arch/aarch64/watch.h says. No /dev/kvm. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "arch/aarch64/watch.h"
#include "vcpu/pool.h"

#define GVA	   UINT64_C(0xffff800080001000)
#define GPA	   UINT64_C(0) /* the reservation begins at 0 */
#define PC	   UINT64_C(0xffff800080020000)
#define WATCH	   0xd2000022u /* ESR of a watchpoint from a lower level */
#define STEP	   0xca000022u
#define BREAKPOINT 0xf2000800u /* … of BRK */

static struct {
	uint64_t esr, far;
	struct arch_store store; /* the instruction at hand */
	bool done;		 /* … and whether it has been stepped */
	enum arch_watch_how how;
	struct arch_watch armed[ARCH_WATCHES];
	unsigned ends; /* exclusive stores that were done for the guest, or failed */
	bool stored;
} kvm_of_ours;

static struct vcpu_pool pool;
static struct kvm_run run;
static struct vcpu vcpu;
static _Alignas(64) uint64_t words[32]; /* at GVA and, as the guest's memory, at GPA */
static const struct guest_memory memory = {
	.reservation = (uint8_t *)words,
	.reservation_size = sizeof(words),
	.region = {{{.gpa = GPA, .size = sizeof(words)}, (uint8_t *)words}},
	.count = 1,
};

int arch_vcpu_watch(int vcpu_fd UNUSED, const struct arch_watch watch[ARCH_WATCHES],
		    enum arch_watch_how how, const struct kvm_run *page UNUSED)
{
	memcpy(kvm_of_ours.armed, watch, sizeof(kvm_of_ours.armed));
	kvm_of_ours.how = how;
	return 0;
}

enum arch_debug arch_exit_debug(const struct kvm_run *page UNUSED,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots,
				uint32_t *ret_sure)
{
	return watch_debug(kvm_of_ours.esr, kvm_of_ours.far, watch, ret_slots, ret_sure);
}

int arch_vcpu_store(int vcpu_fd UNUSED, const struct guest_memory *mem UNUSED,
		    struct arch_store *ret_store)
{
	*ret_store = kvm_of_ours.store;
	return 0;
}

bool arch_vcpu_store_done(int vcpu_fd UNUSED, const struct arch_store *store UNUSED)
{
	return kvm_of_ours.done;
}

int arch_vcpu_store_end(int vcpu_fd UNUSED, const struct arch_store *store UNUSED, bool stored)
{
	kvm_of_ours.ends++;
	kvm_of_ours.stored = stored;
	return 0;
}

static int open_rig(void **state UNUSED)
{
	memset(&kvm_of_ours, 0, sizeof(kvm_of_ours));
	memset(&pool, 0, sizeof(pool));
	memset(&run, 0, sizeof(run));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(words, 0, sizeof(words));
	kvm_of_ours.done = true;
	pool.vcpu = &vcpu;
	pool.count = 1;
	pool.config.mem = &memory;
	vcpu.pool = &pool;
	vcpu.run = &run;
	return 0;
}

static void publish(unsigned slot, uint64_t gva, unsigned bytes)
{
	const struct vcpu_watch watch = {.gva = gva,
					 .bytes = bytes,
					 .host = (const uint8_t *)words + (gva - GVA)};

	vcpu_watch_publish(&pool, slot, &watch);
	vcpu_watch_arm(&vcpu);
}

/* Slots that hit. */
static uint32_t debug_exit(uint32_t esr, uint64_t far)
{
	kvm_of_ours.esr = esr;
	kvm_of_ours.far = far;
	return vcpu_watch_exit(&vcpu);
}

/* ---- exclusive stores ------------------------------------------------------------------------
 */

/* One try of the guest's. */
static uint32_t exclusive(uint64_t gva, unsigned bytes, unsigned __int128 value, uint64_t far)
{
	kvm_of_ours.store = (struct arch_store){.pc = PC,
						.context = 1,
						.exclusive = true,
						.bytes = bytes,
						.gva = gva,
						.gpa = GPA + gva % 4096,
						.value = value};
	return debug_exit(WATCH, far);
}

/* Since it was armed, the address has become another page: the store is to that, and the watch is
 * of what was there. */
static void a_store_is_where_its_address_is_now(void **state UNUSED)
{
	publish(0, GVA, 8);
	for (unsigned try = 0; try < 2; try++) {
		kvm_of_ours.store = (struct arch_store){.pc = PC,
							.context = 1,
							.exclusive = true,
							.bytes = 8,
							.gva = GVA,
							.gpa = GPA + 128,
							.value = 7};
		debug_exit(WATCH, GVA);
	}
	assert_true(kvm_of_ours.stored);
	assert_int_equal(words[0], 0);
	assert_int_equal(words[16], 7);
	/* Outside of memory, it is the guest's own to do. */
	kvm_of_ours.store.gpa = GPA + sizeof(words);
	kvm_of_ours.ends = 0;
	debug_exit(WATCH, GVA);
	assert_int_equal(kvm_of_ours.ends, 0);
	assert_int_equal(kvm_of_ours.how, ARCH_WATCH_STEP);
}

/* The instruction that was to be stepped is a breakpoint by now: nothing is pending after it. */
static void a_breakpoint_ends_what_was_pending(void **state UNUSED)
{
	publish(0, GVA, 8);
	kvm_of_ours.store = (struct arch_store){.pc = PC};
	debug_exit(WATCH, GVA);
	assert_int_equal(kvm_of_ours.how, ARCH_WATCH_STEP);
	debug_exit(BREAKPOINT, 0);
	assert_int_equal(kvm_of_ours.how, ARCH_WATCH_PASS_ON);
	assert_int_equal(kvm_of_ours.armed[0].bytes, 8);
	vcpu_watch_arm(&vcpu);
	assert_int_equal(kvm_of_ours.armed[0].bytes, 8);
}

/* The address that the trap tells of is one word's. */
static void a_store_of_two_words_hits_both(void **state UNUSED)
{
	const unsigned __int128 two = (unsigned __int128)8 << 64 | 7;

	publish(0, GVA, 8);
	publish(1, GVA + 8, 8);
	publish(2, GVA + 16, 8);
	assert_int_equal(exclusive(GVA, 16, two, GVA), 0);
	assert_int_equal(exclusive(GVA, 16, two, GVA), 1u << 0 | 1u << 1);
	assert_true(kvm_of_ours.stored);
	assert_int_equal(vcpu_watch_hit(&pool, 0)->after, 7);
	assert_int_equal(vcpu_watch_hit(&pool, 1)->after, 8);
	assert_int_equal(vcpu_watch_stores(&pool, 2), 0);
}

/* … or both's, and the store one's. */
static void a_store_of_one_half_hits_that(void **state UNUSED)
{
	publish(0, GVA, 4);
	publish(1, GVA + 4, 4);
	assert_int_equal(exclusive(GVA + 4, 4, 7, GVA + 4), 0);
	assert_int_equal(exclusive(GVA + 4, 4, 7, GVA + 4), 1u << 1);
	assert_int_equal(words[0] >> 32, 7);
	assert_int_equal(vcpu_watch_stores(&pool, 0), 0);
}

/* KASAN's software tags: what is stored through is not the address that was watched. */
static void a_tag_is_no_part_of_the_address(void **state UNUSED)
{
	const uint64_t tagged = (GVA + 4) ^ UINT64_C(0x3a) << 56;

	publish(0, GVA, 8);
	publish(1, GVA + 4, 4);
	assert_int_equal(exclusive(tagged, 4, 7, tagged), 0);
	assert_int_equal(exclusive(tagged, 4, 7, tagged), 1u << 0 | 1u << 1);
	assert_int_equal(words[0] >> 32, 7);
	assert_int_equal(kvm_of_ours.ends, 2);
}

static struct vcpu other; /* another vCPU, which stores in the common way */

static uint32_t store_of_other(uint64_t gva)
{
	const struct arch_store mine = kvm_of_ours.store;
	uint32_t slots;

	kvm_of_ours.store = (struct arch_store){.pc = PC};
	vcpu = other;
	slots = debug_exit(WATCH, gva);
	slots |= debug_exit(STEP, 0);
	other = vcpu;
	kvm_of_ours.store = mine;
	return slots;
}

/* Steady stores to one word do not starve pairs of another. */
static void another_words_stores_are_its_own(void **state UNUSED)
{
	struct vcpu me;

	publish(0, GVA, 8);
	publish(1, GVA + 64, 8);
	other = vcpu;
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 0);
	me = vcpu;
	assert_int_equal(store_of_other(GVA + 64), 1u << 1);
	vcpu = me;
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 1u << 0);
	/* Its own stores do. */
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 0);
	me = vcpu;
	vcpu_watch_unlatch(&pool, 0);
	assert_int_equal(store_of_other(GVA), 1u << 0);
	vcpu = me;
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 0);
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		assert_int_equal(pool.stores[n].under_way, 0);
}

/* Both changes may come to a vCPU at once, while another one ran between them. */
static void a_new_watch_is_none_of_the_old_ones(void **state UNUSED)
{
	publish(0, GVA, 8);
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 0);
	vcpu_watch_withdraw(&pool, 0);
	publish(0, GVA, 8);
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 0);
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 1u << 0);
}

/* Meanwhile nobody counted. */
static void a_change_of_watches_begins_anew(void **state UNUSED)
{
	publish(0, GVA, 8);
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 0);
	vcpu_watch_withdraw(&pool, 0);
	vcpu_watch_arm(&vcpu);
	publish(0, GVA, 8);
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 0);
	assert_false(kvm_of_ours.stored);
	/* Being asked again is no change. */
	vcpu_watch_arm(&vcpu);
	assert_int_equal(exclusive(GVA, 8, 7, GVA), 1u << 0);
	assert_int_equal(kvm_of_ours.ends, 3);
}

/* ---- other stores, which are stepped ----------------------------------------------------------
 */

static void trap(uint64_t far)
{
	kvm_of_ours.store = (struct arch_store){.pc = PC};
	assert_int_equal(debug_exit(WATCH, far), 0);
	assert_int_equal(kvm_of_ours.how, ARCH_WATCH_STEP);
}

/* Slots that hit. */
static uint32_t step(void)
{
	uint32_t slots = debug_exit(STEP, 0);

	assert_int_equal(kvm_of_ours.how, ARCH_WATCH_RUN);
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		vcpu_watch_unlatch(&pool, n);
	return slots;
}

/* Two in one block of 8 bytes: the address says which, if it is of one's bytes. */
static void a_neighbours_store_is_no_hit(void **state UNUSED)
{
	publish(0, GVA, 4);
	publish(1, GVA + 4, 4);
	trap(GVA + 4);
	assert_int_equal(kvm_of_ours.armed[0].bytes, 4);
	assert_int_equal(kvm_of_ours.armed[1].bytes, 0);
	assert_int_equal(step(), 1u << 1);
	assert_int_equal(vcpu_watch_stores(&pool, 0), 0);
	/* One instruction, both of them. */
	trap(GVA);
	trap(GVA);
	assert_int_equal(step(), 1u << 0 | 1u << 1);
}

/* … and if it is of none's, either may be meant. */
static void the_one_that_changes_is_a_hit(void **state UNUSED)
{
	publish(0, GVA, 4);
	publish(1, GVA + 4, 4);
	publish(2, GVA + 128, 8);
	trap(GVA - 4);
	assert_int_equal(kvm_of_ours.armed[0].bytes + kvm_of_ours.armed[1].bytes, 0);
	assert_int_equal(kvm_of_ours.armed[2].bytes, 8);
	words[0] = UINT64_C(7) << 32;
	assert_int_equal(step(), 1u << 1);
	assert_int_equal(vcpu_watch_stores(&pool, 0), 0);
	/* One instruction, both of them. */
	trap(GVA - 4);
	words[0] = 1;
	assert_int_equal(step(), 1u << 0 | 1u << 1);
	/* Of which another vCPU has told already. */
	trap(GVA - 4);
	words[0] = 2;
	pool.watch[0].last = 2;
	assert_int_equal(step(), 0);
	/* A device's store before it is not this instruction's. */
	words[0] = 3;
	trap(GVA - 4);
	words[0] |= UINT64_C(5) << 32;
	assert_int_equal(step(), 1u << 1);
}

/* A wide store's trap may tell of an address that nobody watches. */
static void a_near_watch_is_no_hit(void **state UNUSED)
{
	publish(0, GVA, 8);
	publish(1, GVA + 32, 8);
	trap(GVA + 16);
	words[4] = 1;
	assert_int_equal(step(), 1u << 1);
	assert_int_equal(vcpu_watch_stores(&pool, 0), 0);
}

static void a_store_of_the_same_value_hits_whom_it_names(void **state UNUSED)
{
	publish(0, GVA, 8);
	publish(1, GVA + 8, 8);
	trap(GVA);
	assert_int_equal(step(), 1u << 0);
	/* Two registers: the second trap is in the step. */
	trap(GVA);
	trap(GVA + 8);
	assert_int_equal(step(), 1u << 0 | 1u << 1);
	/* By the first's address, which is off: it must be the other. */
	trap(GVA);
	trap(GVA);
	assert_int_equal(step(), 1u << 0 | 1u << 1);
}

static void a_step_that_did_nothing_is_none(void **state UNUSED)
{
	publish(0, GVA, 8);
	trap(GVA);
	kvm_of_ours.done = false; /* an interrupt came */
	assert_int_equal(step(), 0);
	trap(GVA);
	kvm_of_ours.done = true;
	assert_int_equal(step(), 1u << 0);
	assert_int_equal(vcpu_watch_stores(&pool, 0), 1);
}

#define TEST(f) cmocka_unit_test_setup(f, open_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_store_of_two_words_hits_both),
		TEST(a_store_is_where_its_address_is_now),
		TEST(a_breakpoint_ends_what_was_pending),
		TEST(a_store_of_one_half_hits_that),
		TEST(a_tag_is_no_part_of_the_address),
		TEST(another_words_stores_are_its_own),
		TEST(a_new_watch_is_none_of_the_old_ones),
		TEST(a_change_of_watches_begins_anew),
		TEST(a_neighbours_store_is_no_hit),
		TEST(the_one_that_changes_is_a_hit),
		TEST(a_near_watch_is_no_hit),
		TEST(a_store_of_the_same_value_hits_whom_it_names),
		TEST(a_step_that_did_nothing_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
