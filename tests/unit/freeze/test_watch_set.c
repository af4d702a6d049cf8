/* What expressions stand for, over a made-up kernel: followed through pointers, armed, and polled.
 * The test plays the one vCPU: it stores, and traps where the slots are armed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_kvm.h"
#include "freeze/watch_set.h"
#include "kernel_fake.h"

#define SCHED_A (FAKE_DIRECT + FAKE_SCHED_GPA)
#define SCHED_B (FAKE_DIRECT + 0xc000u)
#define KIND	4u /* offsets in a scx_sched */
#define INFO	8u
#define PARENT	(FAKE_INIT_TASK + 32)
#define UNSEEN	50000000u /* ns after which a timer would have told */

static struct rig {
	struct kernel_fake kernel;
	struct guest_memory mem;
	struct guest_reader reader;
	struct inspect *in;
	struct loop *loop;
	struct kvm kvm;
	struct arch_vm vm;
	struct topology topology;
	struct vcpu_pool *pool;
	struct watch_expr expr[WATCH_USER_MAX];
	struct watch_set set;
	struct error err;
	unsigned hits, stales;
	/* of the last hit */
	unsigned slot;
	uint64_t before, after;
	int vcpu;
} rig;

/* ---- the rig --------------------------------------------------------------------------- */

static void on_hit(struct watch_set *set, unsigned slot, uint64_t before, uint64_t after, int vcpu)
{
	rig.hits++;
	rig.slot = slot;
	rig.before = before;
	rig.after = after;
	rig.vcpu = vcpu;
	watch_set_go_on(set, slot);
}

static void on_stale(struct watch_set *set UNUSED)
{
	rig.stales++;
}

static void serve(struct vcpu *vcpu UNUSED, struct kvm_run *run UNUSED,
		  const struct arch_exit *exit UNUSED, void *arg UNUSED)
{
}

static uint8_t *at(uint64_t gva)
{
	if (gva >= FAKE_DIRECT && gva - FAKE_DIRECT < FAKE_RAM)
		return rig.kernel.ram + (gva - FAKE_DIRECT);
	return kernel_fake_at(&rig.kernel, gva);
}

/* No vCPU's store that anybody watches. */
static void poke(uint64_t gva, uint64_t value, size_t bytes)
{
	memcpy(at(gva), &value, bytes);
}

/* A kernel with one scheduler, which does well. */
static void open_kernel(unsigned flags)
{
	struct vcpu_pool_config pool = {.count = 1, .topology = &rig.topology, .serve = serve};
	struct error err = {0};

	memset(&rig, 0, sizeof(rig));
	kernel_fake_build(&rig.kernel, flags);
	poke(SCHED_A + KIND, 0, 4);
	rig.mem.reservation = rig.kernel.ram;
	rig.mem.reservation_size = FAKE_RAM;
	rig.mem.region[0] = (struct guest_region){.range.size = FAKE_RAM, .host = rig.kernel.ram};
	rig.mem.count = 1;
	guest_reader_init(&rig.reader, &rig.mem);
	if (inspect_new(&rig.reader, FAKE_ROOT_GPA, &rig.in, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(loop_new(&rig.loop, &err), 0);
	fake_kvm_open(&rig.kvm, &rig.vm);
	assert_int_equal(vcpu_pool_new(rig.loop, &rig.kvm, &pool, &rig.pool, &err), 0);
}

/* … and what is watched in it; one of each: NULL. */
static void open_set(bool scx, bool polls, const char *one, const char *two, const char *three)
{
	const char *const texts[] = {one, two, three};
	struct watch_set_config config = {.loop = rig.loop,
					  .pool = rig.pool,
					  .mem = &rig.mem,
					  .polls = polls,
					  .slots = ARCH_WATCHES,
					  .hit = on_hit,
					  .stale = on_stale};
	unsigned count = 0;

	for (; count < ARRAY_SIZE(texts) && texts[count]; count++)
		if (watch_expr_parse(texts[count], &rig.expr[count], &rig.err) < 0)
			fail_msg("%s", rig.err.what);
	assert_int_equal(watch_set_init(&rig.set, &config, scx, rig.expr, count, &rig.err), 0);
}

static void close_set(void)
{
	watch_set_done(&rig.set);
	for (unsigned i = 0; i < WATCH_USER_MAX; i++)
		watch_expr_done(&rig.expr[i]);
	rig.err = (struct error){0};
}

static void close_all(void)
{
	close_set();
	watch_set_done(&rig.set);
	vcpu_pool_free(rig.pool);
	loop_free(rig.loop);
	fake_kvm_close(&rig.kvm);
	inspect_free(rig.in);
}

static struct vcpu *the_vcpu(void)
{
	return vcpu_pool_get(rig.pool, 0);
}

/* What machine_watch does at a freeze. */
static int find(void)
{
	rig.err = (struct error){0};
	return watch_set_resolve(&rig.set, rig.in, NULL, &rig.err);
}

static void arm(void)
{
	watch_set_apply(&rig.set);
	if (atomic_load(&the_vcpu()->requests) & VCPU_REQ_WATCH)
		vcpu_watch_arm(the_vcpu());
}

static void find_and_arm(void)
{
	if (find() < 0)
		fail_msg("%s", rig.err.what);
	arm();
}

static void store(uint64_t gva, uint64_t value, unsigned bytes)
{
	const struct arch_watch *armed = the_vcpu()->watching.armed;
	uint32_t slots = 0;

	poke(gva, value, bytes);
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (armed[n].bytes && gva < armed[n].gva + armed[n].bytes &&
		    armed[n].gva < gva + bytes)
			slots |= 1u << n;
	if (!slots)
		return;
	fake_debug_exit(the_vcpu()->fd, ARCH_DEBUG_STORED, slots);
	slots = vcpu_watch_exit(the_vcpu());
	if (slots)
		watch_set_exit(&rig.set, slots);
}

static void expect(unsigned slot, enum watch_state state, uint64_t gva, unsigned bytes)
{
	const struct watch_slot *s = &rig.set.slot[slot];

	assert_int_equal(s->state, state);
	assert_int_equal(s->gva, gva);
	assert_int_equal(s->bytes, bytes);
	assert_ptr_equal(s->host, at(gva));
}

static void expect_hits(unsigned hits, unsigned stales)
{
	assert_int_equal(rig.hits, hits);
	assert_int_equal(rig.stales, stales);
}

static void turn_until(const unsigned *count, unsigned wanted)
{
	uint64_t end_ns = now_ns() + UINT64_C(20000000000);

	while (*count < wanted && now_ns() < end_ns)
		assert_true(loop_turn(rig.loop, 1000000) >= 0);
	assert_int_equal(*count, wanted);
}

static void turn_a_while(void)
{
	uint64_t end_ns = now_ns() + UNSEEN;

	while (now_ns() < end_ns)
		assert_true(loop_turn(rig.loop, 1000000) >= 0);
}

/* ---- finding --------------------------------------------------------------------------- */

static void places_are_found_through_pointers(void **state UNUSED)
{
	open_kernel(0);
	open_set(false, false, "scx_root->exit_kind", "scx_root->exit_info->exit_code",
		 "init_task.parent->parent->pid:1");
	find_and_arm();
	expect(1, WATCH_VALUE, SCHED_A + KIND, 4);
	expect(2, WATCH_VALUE, FAKE_INFO_SCX, 8);
	expect(3, WATCH_VALUE, FAKE_INIT_TASK + 8, 1);
	assert_int_equal(rig.set.slot[1].place.pointers, 1);
	assert_int_equal(rig.set.slot[2].place.pointers, 2);
	assert_int_equal(rig.set.slot[2].place.pointer_gva[1], SCHED_A + INFO);
	store(FAKE_INFO_SCX, 5, 8);
	expect_hits(1, 0);
	assert_int_equal(rig.slot, 2);
	assert_int_equal(rig.before, (uint64_t)-7);
	assert_int_equal(rig.after, 5);
	assert_int_equal(rig.vcpu, 0);
	close_set();

	open_set(false, false, "jiffies_64", "nr_cpu_ids:2", "0xffff88800000a058:8");
	find_and_arm();
	expect(1, WATCH_VALUE, FAKE_JIFFIES, 8);
	expect(2, WATCH_VALUE, FAKE_CPU_IDS, 2);
	expect(3, WATCH_VALUE, FAKE_DIRECT + FAKE_PERCPU_GPA(0) + 0x58, 8);
	close_all();
}

static void addresses_need_no_symbols(void **state UNUSED)
{
	struct arch_paging paging;

	open_kernel(0);
	paging = rig.in->space.paging;
	open_set(false, false, "0xffff88800000a058:8", NULL, NULL);
	assert_int_equal(watch_set_resolve(&rig.set, NULL, &paging, &rig.err), 0);
	expect(1, WATCH_VALUE, FAKE_DIRECT + FAKE_PERCPU_GPA(0) + 0x58, 8);
	close_set();
	open_set(false, false, "jiffies_64", NULL, NULL);
	assert_int_equal(watch_set_resolve(&rig.set, NULL, &paging, &rig.err), -EINVAL);
	assert_non_null(strstr(rig.err.what, "no kernel was found"));
	close_all();
}

static void what_cannot_be_watched_is_refused(void **state UNUSED)
{
	static const struct {
		const char *text, *why, *hint;
	} bad[] = {
		{"init_task", "has 72 bytes; 1, 2, 4 or 8 can be watched", ""},
		{"init_task.comm", "has 16 bytes; 1, 2, 4 or 8 can be watched", ""},
		{"init_task.b", "a bit field", ""},
		{"init_task.tgid:8", "not aligned to 8 bytes", ""},
		{"init_task.pid==0x100000000", "a value of 4 bytes never passes", ""},
		{"init_task.parent->flags", "user memory (0x2000)", ""},
		{"fair_sched_class", "say its size: fair_sched_class:BYTES", ""},
		{"jiffies_46", "jiffies_46", "jiffies_64"},
		{"scx_root->exit_kid", "no member exit_kid", "exit_kind"},
		{"init_task->pid", "use .", ""},
		{"0xffff888000060000:8", "nothing is mapped there", ""},
		{"0xffffffff90000000:8", "nothing is mapped there", ""},
		{"init_task.sched_class->next", "not in RAM", ""},
	};

	open_kernel(0);
	/* The lower half begins as the direct map does. */
	kernel_fake_entry(&rig.kernel, FAKE_ROOT_GPA, 0, 0x7000 | 0x63);
	poke(PARENT, 0x2000, 8);
	poke(FAKE_INIT_TASK + 64, FAKE_DIRECT + 0x60000, 8);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		open_set(false, false, bad[i].text, NULL, NULL);
		if (find() != -EINVAL)
			fail_msg("%s was taken", bad[i].text);
		assert_int_equal(rig.err.kind, ERROR_USAGE);
		if (!strstr(rig.err.what, bad[i].why) || !strstr(rig.err.hint, bad[i].hint))
			fail_msg("%s (%s)", rig.err.what, rig.err.hint);
		assert_int_equal(rig.set.slot[1].state, WATCH_SPENT);
		arm();
		assert_int_equal(the_vcpu()->watching.armed[1].bytes, 0);
		close_set();
	}
	close_all();
}

static void a_size_or_a_field_makes_it_good(void **state UNUSED)
{
	open_kernel(0);
	open_set(false, false, "init_task:8", "fair_sched_class:4", "init_task.comm:1");
	find_and_arm();
	expect(1, WATCH_VALUE, FAKE_INIT_TASK, 8);
	expect(2, WATCH_VALUE, FAKE_CLASS, 4);
	expect(3, WATCH_VALUE, FAKE_INIT_TASK + 16, 1);
	close_all();
}

static void there_are_three_for_users(void **state UNUSED)
{
	struct watch_set_config config = {0};
	struct error err = {0};

	assert_int_equal(watch_set_init(&rig.set, &config, false, rig.expr, 4, &err), -EINVAL);
	assert_non_null(strstr(err.what, "3 at most"));
}

/* CPUs of arm64 may have two. */
static void a_host_may_have_fewer(void **state UNUSED)
{
	struct watch_set_config config = {.slots = 2};

	for (unsigned count = 1; count <= 3; count++)
		for (unsigned scx = 0; scx < 2; scx++) {
			struct error err = {0};
			int r = watch_set_init(&rig.set, &config, scx, rig.expr, count, &err);

			assert_int_equal(r<0, count + scx> 2);
			if (r < 0)
				assert_non_null(strstr(err.what, "have 2 watchpoints"));
		}
	config.polls = true;
	assert_int_equal(watch_set_init(&rig.set, &config, true, rig.expr, 3, NULL), 0);
	rig.set = (struct watch_set){0};
}

/* ---- following ------------------------------------------------------------------------- */

static void a_null_pointer_is_watched_until_it_is_set(void **state UNUSED)
{
	open_kernel(0);
	poke(FAKE_SCX_ROOT, 0, 8);
	poke(SCHED_A + INFO, 0, 8);
	open_set(false, false, "scx_root->exit_info->exit_code==9", NULL, NULL);
	find_and_arm();
	expect(1, WATCH_POINTER, FAKE_SCX_ROOT, 8);
	assert_int_equal(the_vcpu()->watching.armed[1].gva, FAKE_SCX_ROOT);

	store(FAKE_SCX_ROOT, SCHED_A, 8);
	expect_hits(0, 1);
	/* Told once, until it is looked for. */
	store(FAKE_SCX_ROOT, SCHED_A, 8);
	expect_hits(0, 1);
	find_and_arm();
	expect(1, WATCH_POINTER, SCHED_A + INFO, 8);

	store(SCHED_A + INFO, FAKE_INFO_SCX, 8);
	expect_hits(0, 2);
	find_and_arm();
	expect(1, WATCH_VALUE, FAKE_INFO_SCX, 8);
	assert_int_equal(rig.set.slot[1].rebinds, 2);
	/* The pointers' stores are nobody's any more, and were no hits. */
	store(SCHED_A + INFO, FAKE_INFO_SCX, 8);
	store(FAKE_INFO_SCX, 8, 8);
	expect_hits(0, 2);
	store(FAKE_INFO_SCX, 9, 8);
	expect_hits(1, 2);
	assert_int_equal(rig.before, 8);
	assert_int_equal(rig.set.slot[1].hits, 1);
	close_all();
}

static void a_pointer_that_changes_is_followed(void **state UNUSED)
{
	open_kernel(0);
	open_set(false, false, "scx_root->exit_kind", NULL, NULL);
	find_and_arm();
	turn_a_while();
	expect_hits(0, 0);
	poke(SCHED_B + KIND, 7, 4);
	poke(FAKE_SCX_ROOT, SCHED_B, 8);
	turn_until(&rig.stales, 1);
	turn_a_while();
	expect_hits(0, 1);
	find_and_arm();
	expect(1, WATCH_VALUE, SCHED_B + KIND, 4);
	assert_int_equal(rig.set.slot[1].rebinds, 1);
	store(SCHED_A + KIND, 3, 4);
	expect_hits(0, 1);
	store(SCHED_B + KIND, 8, 4);
	expect_hits(1, 1);
	assert_int_equal(rig.before, 7);
	/* … and again, to nowhere. */
	poke(FAKE_SCX_ROOT, 0, 8);
	turn_until(&rig.stales, 2);
	find_and_arm();
	expect(1, WATCH_POINTER, FAKE_SCX_ROOT, 8);
	close_all();
}

static void one_that_is_lost_takes_no_other_with_it(void **state UNUSED)
{
	open_kernel(0);
	kernel_fake_entry(&rig.kernel, FAKE_ROOT_GPA, 0, 0x7000 | 0x63);
	poke(FAKE_SCX_ROOT, 0, 8);
	open_set(false, false, "init_task.parent->flags", "scx_root->exit_kind", NULL);
	find_and_arm();
	expect(2, WATCH_POINTER, FAKE_SCX_ROOT, 8);
	/* Both are to be followed; the first leads to user memory now. */
	poke(PARENT, 0x2000, 8);
	store(FAKE_SCX_ROOT, SCHED_A, 8);
	expect_hits(0, 1);
	assert_int_equal(find(), -EINVAL);
	assert_non_null(strstr(rig.err.what, "user memory"));
	arm();
	assert_int_equal(rig.set.slot[1].state, WATCH_SPENT);
	expect(2, WATCH_VALUE, SCHED_A + KIND, 4);
	store(SCHED_A + KIND, 2, 4);
	expect_hits(1, 1);
	close_all();
}

static void what_is_spent_is_over(void **state UNUSED)
{
	open_kernel(0);
	open_set(false, false, "jiffies_64", "nr_cpu_ids", NULL);
	find_and_arm();
	store(FAKE_JIFFIES, 1, 8);
	expect_hits(1, 0);
	watch_set_spend(&rig.set, 1);
	/* Still armed: not until the freeze. */
	store(FAKE_JIFFIES, 2, 8);
	expect_hits(1, 0);
	find_and_arm();
	assert_int_equal(rig.set.slot[1].state, WATCH_SPENT);
	assert_int_equal(the_vcpu()->watching.armed[1].bytes, 0);
	store(FAKE_JIFFIES, 3, 8);
	store(FAKE_CPU_IDS, 3, 4);
	expect_hits(2, 0);
	assert_int_equal(rig.slot, 2);
	close_all();
}

/* ---- a scheduler's exit ---------------------------------------------------------------- */

static void a_schedulers_life_is_followed(void **state UNUSED)
{
	open_kernel(0);
	poke(FAKE_SCX_ROOT, 0, 8);
	open_set(true, false, NULL, NULL, NULL);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_POINTER, FAKE_SCX_ROOT, 8);

	/* Attach. */
	store(FAKE_SCX_ROOT, SCHED_A, 8);
	expect_hits(0, 1);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_VALUE, SCHED_A + KIND, 4);
	/* Its exit info comes later; that is no pointer on the way. */
	store(SCHED_A + INFO, 0, 8);
	turn_a_while();
	expect_hits(0, 1);

	/* An error, then its end. */
	store(SCHED_A + KIND, 1025, 4);
	expect_hits(1, 1);
	assert_int_equal(rig.slot, WATCH_SLOT_SCX);
	assert_int_equal(rig.before, 0);
	assert_int_equal(rig.after, 1025);
	store(SCHED_A + KIND, SCX_KIND_DONE, 4);
	expect_hits(1, 2);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_POINTER, FAKE_SCX_ROOT, 8);

	/* Detach; its memory becomes somebody else's. */
	store(FAKE_SCX_ROOT, 0, 8);
	expect_hits(1, 3);
	find_and_arm();
	store(SCHED_A + KIND, 0xdeadbeef, 4);
	turn_a_while();
	expect_hits(1, 3);

	/* Another's attach, and its clean end: told by a user, then done. */
	store(FAKE_SCX_ROOT, SCHED_B, 8);
	expect_hits(1, 4);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_VALUE, SCHED_B + KIND, 4);
	store(SCHED_B + KIND, 64, 4);
	expect_hits(1, 4);
	store(SCHED_B + KIND, SCX_KIND_DONE, 4);
	expect_hits(1, 5);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_POINTER, FAKE_SCX_ROOT, 8);

	/* A third, in the first one's place without a detach that was seen. */
	poke(SCHED_A + KIND, 0, 4);
	store(FAKE_SCX_ROOT, SCHED_A, 8);
	expect_hits(1, 6);
	find_and_arm();
	store(SCHED_A + KIND, SCX_KIND_ERROR, 4);
	expect_hits(2, 6);
	assert_int_equal(rig.set.slot[WATCH_SLOT_SCX].hits, 2);
	close_all();
}

/* As of the kernel that is frozen at once after an attach, whose scheduler is over already. */
static void one_that_is_over_is_not_watched(void **state UNUSED)
{
	open_kernel(0);
	poke(SCHED_A + KIND, SCX_KIND_DONE, 4);
	open_set(true, false, NULL, NULL, NULL);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_POINTER, FAKE_SCX_ROOT, 8);
	close_all();
}

static void a_static_kind_is_watched_for_good(void **state UNUSED)
{
	open_kernel(FAKE_STATIC_SCX);
	poke(FAKE_SCX_ROOT, 0, 8);
	open_set(true, false, "jiffies_64", NULL, NULL);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_VALUE, FAKE_SCX_ROOT, 4);
	store(FAKE_SCX_ROOT, 0, 4);
	store(FAKE_SCX_ROOT, 64, 4);
	store(FAKE_SCX_ROOT, SCX_KIND_DONE, 4);
	expect_hits(0, 0);
	store(FAKE_SCX_ROOT, 0, 4);
	store(FAKE_SCX_ROOT, 1026, 4);
	expect_hits(1, 0);
	assert_int_equal(rig.before, 0);
	assert_int_equal(rig.after, 1026);
	store(FAKE_SCX_ROOT, SCX_KIND_DONE, 4);
	store(FAKE_SCX_ROOT, 0, 4);
	store(FAKE_SCX_ROOT, SCX_KIND_ERROR, 4);
	expect_hits(2, 0);
	close_all();
}

static void a_kernel_may_have_no_sched_ext(void **state UNUSED)
{
	struct arch_paging paging;

	open_kernel(FAKE_NO_SCX);
	paging = rig.in->space.paging;
	open_set(true, false, NULL, NULL, NULL);
	assert_int_equal(find(), -EINVAL);
	assert_non_null(strstr(rig.err.what, "no sched_ext"));
	rig.err = (struct error){0};
	assert_int_equal(watch_set_resolve(&rig.set, NULL, &paging, &rig.err), -EINVAL);
	assert_non_null(strstr(rig.err.what, "no kernel was found"));
	close_all();
}

/* ---- polling --------------------------------------------------------------------------- */

static void values_are_looked_at_where_nothing_traps(void **state UNUSED)
{
	open_kernel(0);
	poke(FAKE_SCX_ROOT, 0, 8);
	open_set(true, true, "jiffies_64>=100", "nr_cpu_ids", NULL);
	poke(FAKE_JIFFIES, 50, 8);
	find_and_arm();
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		assert_int_equal(the_vcpu()->watching.armed[n].bytes, 0);
	poke(FAKE_JIFFIES, 99, 8);
	turn_a_while();
	expect_hits(0, 0);
	poke(FAKE_JIFFIES, 100, 8);
	turn_until(&rig.hits, 1);
	assert_int_equal(rig.slot, 1);
	assert_int_equal(rig.before, 99);
	assert_int_equal(rig.after, 100);
	assert_int_equal(rig.vcpu, -1);
	/* It stays: no other hit. */
	turn_a_while();
	expect_hits(1, 0);
	poke(FAKE_CPU_IDS, 9, 4);
	turn_until(&rig.hits, 2);
	assert_int_equal(rig.slot, 2);

	/* A scheduler's life. */
	poke(FAKE_SCX_ROOT, SCHED_A, 8);
	turn_until(&rig.stales, 1);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_VALUE, SCHED_A + KIND, 4);
	poke(SCHED_A + KIND, 1024, 4);
	turn_until(&rig.hits, 3);
	assert_int_equal(rig.slot, WATCH_SLOT_SCX);
	poke(SCHED_A + KIND, SCX_KIND_DONE, 4);
	turn_until(&rig.stales, 2);
	find_and_arm();
	expect(WATCH_SLOT_SCX, WATCH_POINTER, FAKE_SCX_ROOT, 8);
	poke(SCHED_A + KIND, 5000, 4);
	turn_a_while();
	expect_hits(3, 2);

	watch_set_spend(&rig.set, 2);
	poke(FAKE_CPU_IDS, 10, 4);
	turn_a_while();
	expect_hits(3, 2);
	close_all();
}

static void a_set_that_was_never_made_is_done(void **state UNUSED)
{
	struct watch_set set = {0};

	watch_set_done(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_are_found_through_pointers),
		cmocka_unit_test(addresses_need_no_symbols),
		cmocka_unit_test(what_cannot_be_watched_is_refused),
		cmocka_unit_test(a_size_or_a_field_makes_it_good),
		cmocka_unit_test(there_are_three_for_users),
		cmocka_unit_test(a_host_may_have_fewer),
		cmocka_unit_test(a_null_pointer_is_watched_until_it_is_set),
		cmocka_unit_test(a_pointer_that_changes_is_followed),
		cmocka_unit_test(one_that_is_lost_takes_no_other_with_it),
		cmocka_unit_test(what_is_spent_is_over),
		cmocka_unit_test(a_schedulers_life_is_followed),
		cmocka_unit_test(one_that_is_over_is_not_watched),
		cmocka_unit_test(a_static_kind_is_watched_for_good),
		cmocka_unit_test(a_kernel_may_have_no_sched_ext),
		cmocka_unit_test(values_are_looked_at_where_nothing_traps),
		cmocka_unit_test(a_set_that_was_never_made_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
