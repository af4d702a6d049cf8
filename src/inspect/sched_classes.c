/* The table: names as of Linux 6.12, and where they were others since 6.1, those as well. The first
 * row that fits counts. Pure; any thread. */
#include "inspect/sched_classes.h"

#include <string.h>

#include "base/util.h"

#define TAG_DIGITS 16u /* BPF_TAG_SIZE, as bpf_get_prog_name (kernel/bpf/core.c) writes it */

static const struct row {
	uint8_t class;
	const char *names; /* apart by spaces; a star at an end stands for anything */
} rows[] = {
	/* Ways in (arch/x86/entry, arch/arm64/kernel/entry*). */
	{SCHED_IS_ENTRY, "asm_* entry_* do_syscall_64 x64_sys_call do_int80_* do_fast_syscall_32 "
			 "ret_from_fork* el0_* el0t_* el1_* el1h_* vectors ret_to_user "
			 "ret_to_kernel secondary_startup_64*"},
	/* kernel/sched/idle.c, arch/x86/kernel/process.c, drivers/acpi, drivers/cpuidle. */
	{SCHED_IS_IDLE, "default_idle native_safe_halt pv_native_safe_halt native_halt "
			"acpi_safe_halt acpi_idle_do_entry mwait_idle mwait_idle_with_hints* "
			"intel_idle* poll_idle cpu_idle_poll cpu_do_idle arch_cpu_idle "
			"haltpoll_*"},
	/* arch/x86/kernel/kvm.c, arch/x86/xen/spinlock.c, arch/x86/hyperv/hv_spinlock.c. */
	{SCHED_IS_LOCK, "kvm_wait xen_qlock_wait hv_qlock_wait"},

	/* kernel/sched/ext.c: before the classes whose operations it implements. */
	{SCHED_IS_EXT, "*_scx scx_* bpf_scx_* __scx_* do_enqueue_task direct_dispatch "
		       "dispatch_enqueue dispatch_dequeue dispatch_to_local_dsq "
		       "consume_dispatch_q consume_remote_task consume_local_task "
		       "consume_global_dsq balance_one finish_dispatch flush_dispatch_buf "
		       "find_user_dsq find_global_dsq find_dsq_for_dispatch "
		       "move_task_between_dsqs move_remote_task_to_local_dsq "
		       "move_local_task_to_local_dsq task_unlink_from_dsq touch_core_sched* "
		       "process_ddsp_deferred_locals kick_cpus_irq_workfn kick_one_cpu* "
		       "deferred_irq_workfn deferred_bal_cb_workfn free_dsq_irq_workfn ops_dequeue "
		       "local_dsq_post_enq set_task_runnable clr_task_runnable "
		       "run_deferred update_locked_rq bpf__sched_ext_ops_*"},
	{SCHED_IS_BPF, "bpf_trampoline_* bpf_dispatcher_*"}, /* and programs */

	/* Between CPUs (fair.c, rt.c, deadline.c, core.c); first, what is only called so. */
	{SCHED_IS_WAKE_UP, "sched_balance_find_dst_*"},
	{SCHED_IS_LOAD, "sched_balance_update_blocked_averages update_blocked_averages"},
	{SCHED_IS_BALANCE,
	 "sched_balance_* load_balance newidle_balance rebalance_domains "
	 "run_rebalance_domains update_sd_lb_stats* update_sg_lb_stats* update_sd_pick_busiest "
	 "find_busiest_* calculate_imbalance detach_tasks detach_one_task attach_tasks "
	 "attach_one_task can_migrate_task should_we_balance active_load_balance_cpu_stop "
	 "nohz_balance* _nohz_idle_balance nohz_csd_func nohz_balancer_kick "
	 "trigger_load_balance balance_fair balance_rt balance_dl balance_stop balance_idle "
	 "pull_rt_task push_rt_task* pull_dl_task push_dl_task* rto_push_irq_work_func "
	 "migration_cpu_stop move_queued_task __migrate_task set_task_cpu migrate_task_rq_* "
	 "migrate_swap_stop __migrate_swap_task task_numa_migrate task_numa_find_cpu "
	 "task_numa_assign task_numa_compare "
	 "update_group_capacity nohz_run_idle_balance "
	 "push_cpu_stop need_active_balance"},

	/* Where a woken task goes (core.c, fair.c, rt.c, deadline.c). */
	{SCHED_IS_WAKE_UP,
	 "try_to_wake_up wake_up_process wake_up_state wake_up_q wake_q_add* default_wake_function "
	 "ttwu_* "
	 "select_task_rq* select_idle_* select_fallback_rq sched_ttwu_pending "
	 "wake_up_new_task wakeup_preempt* check_preempt_* resched_curr* __resched_curr "
	 "find_idlest_* find_energy_efficient_cpu "
	 "available_idle_cpu wake_affine* wake_wide record_wakee find_lowest_rq "
	 "find_later_rq cpupri_find* cpudl_find __ttwu_* wake_up_if_idle "
	 "sched_fork sched_cgroup_fork sched_post_fork sched_exec"},

	/* Which task is next. */
	{SCHED_IS_PICK, "pick_next_task* __pick_next_task pick_task_* pick_next_entity pick_eevdf "
			"__pick_eevdf __pick_first_entity __pick_last_entity entity_eligible "
			"vruntime_eligible set_next_entity set_next_task_* put_prev_entity "
			"put_prev_task_* put_prev_set_next_task prev_balance pick_next_rt_entity "
			"pick_next_pushable_*"},

	/* The tick. */
	{SCHED_IS_TICK, "sched_tick scheduler_tick sched_tick_remote task_tick_* entity_tick "
			"hrtick* calc_global_load_tick sched_slice* check_cfs_rq_runtime "
			"__account_cfs_rq_runtime sched_rt_period_timer sched_cfs_period_timer "
			"sched_cfs_slack_timer dl_task_timer inactive_task_timer"},

	/* Run times, loads, pressure (pelt.c, psi.c, stats.c). */
	{SCHED_IS_LOAD,
	 "update_load_avg __update_load_avg_* ___update_load_* accumulate_sum decay_load "
	 "update_cfs_group update_curr* update_rt_rq_load_avg update_dl_rq_load_avg "
	 "update_irq_load_avg update_hw_load_avg update_rq_clock* attach_entity_* "
	 "detach_entity_* propagate_entity_* reweight_entity reweight_task* update_min_vruntime "
	 "__update_min_vruntime avg_vruntime update_entity_lag update_deadline util_est_* "
	 "update_tg_load_avg calc_group_* cpuacct_charge psi_* update_stats_* "
	 "__update_stats_* sched_info_* sched_core_account_* update_other_load_avgs "
	 "cpufreq_update_util sugov_update_* dl_server_update* rt_rq_throttled"},

	/* Into and out of run queues. */
	{SCHED_IS_QUEUE,
	 "enqueue_task* enqueue_entity __enqueue_entity enqueue_dl_* enqueue_rt_* "
	 "enqueue_top_rt_rq dequeue_task* dequeue_entity dequeue_entities __dequeue_entity "
	 "dequeue_dl_* dequeue_rt_* dequeue_top_rt_rq activate_task deactivate_task "
	 "block_task try_to_block_task place_entity requeue_delayed_entity requeue_task_rt "
	 "requeue_rt_entity yield_task* do_sched_yield "
	 "__x64_sys_sched_yield __arm64_sys_sched_yield __do_sys_sched_yield yield_to "
	 "finish_delayed_dequeue_* "
	 "set_delayed clear_delayed throttle_cfs_rq unthrottle_cfs_rq* tg_throttle_* "
	 "tg_unthrottle_* "
	 "list_add_leaf_cfs_rq attach_task switched_to_* switched_from_* prio_changed_* "
	 "__dequeue_dl_entity __enqueue_dl_entity dl_server_*"},

	/* The switch itself (core.c, arch/x86/mm/tlb.c, arch/x86/kernel/process_64.c). */
	{SCHED_IS_SWITCH,
	 "schedule __schedule schedule_idle schedule_preempt_disabled schedule_user "
	 "preempt_schedule* __cond_resched* context_switch prepare_task_switch "
	 "finish_task_switch __switch_to* switch_mm* enter_lazy_tlb switch_fpu_* "
	 "__balance_callbacks balance_push do_balance_callbacks sched_submit_work "
	 "sched_update_worker cpu_switch_to "
	 "fpsimd_thread_switch schedule_tail mm_cid_* sched_mm_cid_* task_mm_cid_work"},
};

static bool fits(const char *pattern, size_t len, const char *name, size_t name_len)
{
	if (len && pattern[len - 1] == '*')
		return name_len >= len - 1 && !memcmp(pattern, name, len - 1);
	if (len && pattern[0] == '*')
		return name_len >= len - 1 &&
		       !memcmp(pattern + 1, name + name_len - (len - 1), len - 1);
	return len == name_len && !memcmp(pattern, name, len);
}

static bool in_row(const char *names, const char *name, size_t name_len)
{
	while (*names) {
		size_t len = strcspn(names, " ");

		if (fits(names, len, name, name_len))
			return true;
		names += len + (names[len] == ' ');
	}
	return false;
}

const char *sched_program(const char *name, size_t *ret_len)
{
	static const char prefix[] = "bpf_prog_";
	const char *tag = name + sizeof(prefix) - 1;

	if (strncmp(name, prefix, sizeof(prefix) - 1) != 0 ||
	    strspn(tag, "0123456789abcdef") < TAG_DIGITS)
		return NULL;
	tag += TAG_DIGITS;
	/* One that has no name goes by its tag. */
	if (*tag == '_' && tag[1] && tag[1] != ' ')
		name = tag + 1;
	else if (*tag && *tag != ' ')
		return NULL;
	*ret_len = strcspn(name, " ");
	return name;
}

/* Trampolines have an owner, too: " [bpf]". */
static bool is_module(const char *name)
{
	const char *owner = strstr(name, " [");

	return owner && strcmp(owner, " [bpf]") != 0;
}

enum sched_class sched_class_of(const char *name)
{
	size_t len = strcspn(name, ". ");

	if (sched_program(name, &(size_t){0}))
		return SCHED_IS_BPF;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (in_row(rows[i].names, name, len))
			/* The scheduler is no module; drivers that wait for work may be. */
			return rows[i].class < SCHED_CLASSES && is_module(name) ? SCHED_IS_NONE
										: rows[i].class;
	return SCHED_IS_NONE;
}

size_t sched_within_ext(const uint8_t *class_of, size_t n)
{
	size_t within = 0;

	for (size_t i = 0; i < n && class_of[i] != SCHED_IS_ENTRY; i++)
		if (class_of[i] == SCHED_IS_EXT)
			within = i;
	return within;
}

enum sched_class sched_class_of_stack(const uint8_t *class_of, size_t n)
{
	size_t within = sched_within_ext(class_of, n);

	for (size_t i = 0; i < n && class_of[i] != SCHED_IS_ENTRY; i++) {
		if (class_of[i] == SCHED_IS_NONE || class_of[i] >= SCHED_CLASSES)
			continue;
		if (class_of[i] != SCHED_IS_BPF || i < within)
			return class_of[i];
	}
	return SCHED_IS_NONE;
}

enum sched_class sched_waits_for(const uint8_t *class_of, size_t n)
{
	enum sched_class found = SCHED_IS_NONE;

	/* A lock's wait halts by the function that the idle loop halts by. */
	for (size_t i = 0; i < n && class_of[i] != SCHED_IS_ENTRY; i++) {
		if (class_of[i] == SCHED_IS_LOCK)
			return SCHED_IS_LOCK;
		if (class_of[i] == SCHED_IS_IDLE)
			found = SCHED_IS_IDLE;
	}
	return found;
}

const char *sched_class_name(enum sched_class c)
{
	static const char *const names[] = {
		[SCHED_IS_NONE] = "other",	  [SCHED_IS_PICK] = "pick",
		[SCHED_IS_QUEUE] = "queue",	  [SCHED_IS_WAKE_UP] = "wake_up",
		[SCHED_IS_BALANCE] = "balance",	  [SCHED_IS_TICK] = "tick",
		[SCHED_IS_LOAD] = "load",	  [SCHED_IS_EXT] = "sched_ext",
		[SCHED_IS_BPF] = "bpf_scheduler", [SCHED_IS_SWITCH] = "switch",
		[SCHED_IS_ENTRY] = "entry",
	};

	return names[c];
}

bool sched_class_of_switches(enum sched_class c)
{
	return c == SCHED_IS_PICK || c == SCHED_IS_QUEUE || c == SCHED_IS_EXT ||
	       c == SCHED_IS_BPF || c == SCHED_IS_SWITCH;
}
