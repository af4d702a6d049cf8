/* Names and stacks of the kernel's, and what class they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "inspect/sched_classes.h"

static void functions_have_classes(void **state)
{
	static const struct {
		const char *name;
		enum sched_class class;
	} rows[] = {
		{"pick_next_task_fair", SCHED_IS_PICK},
		{"set_next_entity", SCHED_IS_PICK},
		{"enqueue_task_fair", SCHED_IS_QUEUE},
		{"dequeue_entities.isra.0", SCHED_IS_QUEUE},
		{"do_sched_yield", SCHED_IS_QUEUE},
		{"try_to_wake_up", SCHED_IS_WAKE_UP},
		{"select_task_rq_fair", SCHED_IS_WAKE_UP},
		{"sched_balance_find_dst_cpu", SCHED_IS_WAKE_UP},
		{"sched_balance_newidle", SCHED_IS_BALANCE},
		{"load_balance", SCHED_IS_BALANCE},
		{"sched_balance_update_blocked_averages", SCHED_IS_LOAD},
		{"sched_tick", SCHED_IS_TICK},
		{"task_tick_fair", SCHED_IS_TICK},
		{"update_load_avg", SCHED_IS_LOAD},
		{"update_curr", SCHED_IS_LOAD},
		{"psi_group_change", SCHED_IS_LOAD},
		{"scx_bpf_dsq_insert", SCHED_IS_EXT},
		{"enqueue_task_scx", SCHED_IS_EXT}, /* before enqueue_task* */
		{"task_tick_scx", SCHED_IS_EXT},
		{"bpf__sched_ext_ops_enqueue [bpf]", SCHED_IS_EXT},
		{"bpf_prog_5937137a7888a15d_simple_enqueue [bpf]", SCHED_IS_BPF},
		{"bpf_prog_5937137a7888a15d [bpf]", SCHED_IS_BPF},
		{"bpf_trampoline_6442550923", SCHED_IS_BPF},
		{"bpf_prog_load", SCHED_IS_NONE}, /* the kernel's own */
		{"bpf_prog_add", SCHED_IS_NONE},
		{"bpf_prog_enter", SCHED_IS_NONE},
		{"__schedule", SCHED_IS_SWITCH},
		{"finish_task_switch.isra.0", SCHED_IS_SWITCH},
		{"__switch_to_asm", SCHED_IS_SWITCH},
		{"asm_sysvec_apic_timer_interrupt", SCHED_IS_ENTRY},
		{"entry_SYSCALL_64_after_hwframe", SCHED_IS_ENTRY},
		{"el0t_64_sync", SCHED_IS_ENTRY},
		{"pv_native_safe_halt", SCHED_IS_IDLE},
		{"cpu_do_idle", SCHED_IS_IDLE},
		{"kvm_wait", SCHED_IS_LOCK},
		{"schedule_timeout", SCHED_IS_NONE},
		{"do_idle", SCHED_IS_NONE},
		{"_raw_spin_lock", SCHED_IS_NONE},
		{"raw_spin_rq_lock_nested", SCHED_IS_NONE},
		{"vfs_read", SCHED_IS_NONE},
		/* Their names begin as the scheduler's do. */
		{"propagate_entity_cfs_rq", SCHED_IS_LOAD},
		{"propagate_protected_usage", SCHED_IS_NONE}, /* memory cgroups */
		{"propagate_precision", SCHED_IS_NONE},	      /* the verifier */
		{"propagate_mnt", SCHED_IS_NONE},
		{"requeue_delayed_entity", SCHED_IS_QUEUE},
		{"requeue_io", SCHED_IS_NONE}, /* write-back */
		{"task_numa_migrate.isra.0", SCHED_IS_BALANCE},
		{"task_numa_work", SCHED_IS_NONE}, /* goes through page tables */
		{"kick_cpus_irq_workfn", SCHED_IS_EXT},
		{"deferred_irq_workfn", SCHED_IS_EXT},
		/* Modules are drivers. */
		{"scx_init_board [scx200]", SCHED_IS_NONE},
		{"set_next_entity [some_module]", SCHED_IS_NONE},
		{"haltpoll_enter [cpuidle_haltpoll]", SCHED_IS_IDLE},
		{"0xffffffff81000000", SCHED_IS_NONE},
		{"", SCHED_IS_NONE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (sched_class_of(rows[i].name) != rows[i].class)
			fail_msg("%s: %d", rows[i].name, sched_class_of(rows[i].name));
}

static void each_class_has_a_name(void **state)
{
	(void)state;
	for (unsigned c = 0; c < SCHED_CLASSES; c++)
		for (unsigned d = 0; d < c; d++)
			assert_string_not_equal(sched_class_name(c), sched_class_name(d));
}

/* names: innermost first. */
static enum sched_class class_of(const char *const *names,
				 enum sched_class (*of_stack)(const uint8_t *, size_t))
{
	uint8_t class[16];
	size_t n = 0;

	for (; names[n]; n++)
		class[n] = (uint8_t)sched_class_of(names[n]);
	return of_stack(class, n);
}

#define STACK(...) class_of((const char *const[]){__VA_ARGS__, NULL}, sched_class_of_stack)
#define WAITS(...) class_of((const char *const[]){__VA_ARGS__, NULL}, sched_waits_for)

static void waits_are_for_work_or_a_lock(void **state)
{
	(void)state;
	assert_int_equal(WAITS("pv_native_safe_halt", "default_idle", "do_idle"), SCHED_IS_IDLE);
	assert_int_equal(WAITS("kvm_clock_get_cycles", "poll_idle", "cpuidle_enter", "do_idle"),
			 SCHED_IS_IDLE);
	assert_int_equal(WAITS("schedule", "schedule_idle", "do_idle"), SCHED_IS_NONE);
	assert_int_equal(WAITS("sched_tick", "asm_sysvec_apic_timer_interrupt",
			       "pv_native_safe_halt", "default_idle", "do_idle"),
			 SCHED_IS_NONE);
	assert_int_equal(WAITS("pv_native_safe_halt", "kvm_wait", "__pv_queued_spin_lock_slowpath",
			       "_raw_spin_lock"),
			 SCHED_IS_LOCK);
	assert_int_equal(WAITS("kvm_wait", "__pv_queued_spin_lock_slowpath"), SCHED_IS_LOCK);
	/* The class is that of who wants the lock. */
	assert_int_equal(STACK("pv_native_safe_halt", "kvm_wait", "raw_spin_rq_lock_nested",
			       "try_to_wake_up", "do_syscall_64"),
			 SCHED_IS_WAKE_UP);
	assert_int_equal(sched_waits_for(NULL, 0), SCHED_IS_NONE);
}

static void a_stack_is_of_its_innermost_class(void **state)
{
	(void)state;
	assert_int_equal(STACK("_raw_spin_lock", "update_curr", "enqueue_task_fair",
			       "try_to_wake_up", "do_syscall_64"),
			 SCHED_IS_LOAD);
	assert_int_equal(STACK("_raw_spin_lock", "raw_spin_rq_lock_nested", "sched_balance_rq",
			       "sched_balance_newidle", "schedule", "do_syscall_64"),
			 SCHED_IS_BALANCE);
	assert_int_equal(STACK("copy_page", "vfs_read", "do_syscall_64"), SCHED_IS_NONE);
	assert_int_equal(STACK("schedule"), SCHED_IS_SWITCH);
	assert_int_equal(sched_class_of_stack(NULL, 0), SCHED_IS_NONE);
}

static void what_interrupts_the_scheduler_is_not_the_scheduler(void **state)
{
	(void)state;
	assert_int_equal(STACK("virtnet_poll", "common_interrupt", "asm_common_interrupt",
			       "__schedule", "schedule"),
			 SCHED_IS_NONE);
	assert_int_equal(STACK("asm_common_interrupt", "__schedule"), SCHED_IS_NONE);
	/* The tick is, wherever it comes. */
	assert_int_equal(STACK("sched_tick", "update_process_times",
			       "asm_sysvec_apic_timer_interrupt", "vfs_read"),
			 SCHED_IS_TICK);
}

static void a_program_counts_where_sched_ext_called_it(void **state)
{
	(void)state;
	assert_int_equal(STACK("bpf_prog_5937137a7888a15d_simple_enqueue [bpf]", "do_enqueue_task",
			       "enqueue_task_scx", "try_to_wake_up"),
			 SCHED_IS_BPF);
	assert_int_equal(STACK("bpf_map_lookup_elem", "bpf_prog_5937137a7888a15d_x [bpf]",
			       "bpf__sched_ext_ops_select_cpu [bpf]", "select_task_rq_scx"),
			 SCHED_IS_BPF);
	/* A tracer's is not the scheduler's, but what it hangs on is. */
	assert_int_equal(STACK("bpf_prog_5937137a7888a15d_trace [bpf]", "bpf_trampoline_7 [bpf]",
			       "vfs_read"),
			 SCHED_IS_NONE);
	assert_int_equal(STACK("bpf_prog_5937137a7888a15d_trace [bpf]", "try_to_wake_up"),
			 SCHED_IS_WAKE_UP);
	assert_int_equal(STACK("bpf_prog_5937137a7888a15d_x [bpf]",
			       "asm_sysvec_call_function_single", "do_enqueue_task"),
			 SCHED_IS_NONE);
}

static void programs_have_bare_names(void **state)
{
	static const struct {
		const char *name, *bare;
	} rows[] = {
		{"bpf_prog_5937137a7888a15d_simple_enqueue [bpf]", "simple_enqueue"},
		{"bpf_prog_5937137a7888a15d_simple_enqueue", "simple_enqueue"},
		{"bpf_prog_5937137a7888a15d [bpf]", "bpf_prog_5937137a7888a15d"},
		{"bpf_prog_5937137a7888a15d_", NULL},
		{"bpf_prog_5937137a7888a15d_ [bpf]", NULL},
		{"bpf_prog_5937137a7888a15d0_x", NULL},
		{"bpf_prog_5937137a7888a15dx", NULL},
		{"bpf_prog_593_simple_enqueue", NULL},
		{"bpf_prog_", NULL},
		{"bpf_prog", NULL},
		{"simple_enqueue", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = 0;
		const char *bare = sched_program(rows[i].name, &len);

		if (!bare != !rows[i].bare ||
		    (bare && (len != strlen(rows[i].bare) || memcmp(bare, rows[i].bare, len) != 0)))
			fail_msg("%s: %.*s", rows[i].name, (int)len, bare ? bare : "");
	}
}

static void frames_within_sched_ext_are_counted(void **state)
{
	const uint8_t none = SCHED_IS_NONE, bpf = SCHED_IS_BPF, ext = SCHED_IS_EXT,
		      entry = SCHED_IS_ENTRY;

	(void)state;
	assert_int_equal(sched_within_ext((const uint8_t[]){bpf, ext, none}, 3), 1);
	assert_int_equal(sched_within_ext((const uint8_t[]){ext, bpf, none, ext, ext}, 5), 4);
	assert_int_equal(sched_within_ext((const uint8_t[]){none, bpf, entry, ext}, 4), 0);
	assert_int_equal(sched_within_ext((const uint8_t[]){ext, bpf}, 2), 0);
	assert_int_equal(sched_within_ext(NULL, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(functions_have_classes),
		cmocka_unit_test(each_class_has_a_name),
		cmocka_unit_test(waits_are_for_work_or_a_lock),
		cmocka_unit_test(a_stack_is_of_its_innermost_class),
		cmocka_unit_test(what_interrupts_the_scheduler_is_not_the_scheduler),
		cmocka_unit_test(a_program_counts_where_sched_ext_called_it),
		cmocka_unit_test(programs_have_bare_names),
		cmocka_unit_test(frames_within_sched_ext_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
