/* What the accounts of all vCPUs, KVM and the host say of their times. Control thread; the vCPU
 * threads go on meanwhile. */
#include "vm/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/util.h"
#include "vm/kvm_stats.h"
#include "vm/perf/evidence.h"
#include "vm/stats_rows.h"

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static json_int_t ns_of(double ticks, double ns_per_tick)
{
	return (json_int_t)(ticks * ns_per_tick + 0.5);
}

/* ---- times ----------------------------------------------------------------------------- */

static json_t *times_json(const struct account_times *t, double ns_per_tick)
{
	static const char *const names[] = {
		[ACCOUNT_GUEST] = "guest",     [ACCOUNT_HAND_OFF] = "hand_off",
		[ACCOUNT_WAITING] = "waiting", [ACCOUNT_SERVED] = "served",
		[ACCOUNT_SAMPLED] = "sampled", [ACCOUNT_PARKED] = "parked",
		[ACCOUNT_IDLE] = "idle",
	};
	json_t *json = json_pack("{s:I}", "wall", ns_of((double)t->wall, ns_per_tick));

	for (unsigned i = 0; i < ACCOUNT_PHASES; i++)
		json_object_set_new(json, names[i],
				    json_integer(ns_of((double)t->spent[i], ns_per_tick)));
	return json;
}

static json_t *rows_json(struct vcpu_pool *pool, double ns_per_tick)
{
	unsigned vcpus = vcpu_pool_count(pool);
	CLEANUP_FREE const struct account **accounts = calloc(vcpus, sizeof(struct account *));

	if (!accounts)
		return json_array();
	for (unsigned i = 0; i < vcpus; i++)
		accounts[i] = vcpu_pool_get(pool, i)->account;
	return stats_rows(accounts, vcpus, ns_per_tick);
}

void stats_add_exits(json_t *exits, struct vcpu_pool *pool)
{
	double ns_per_tick = 1 / ticks_per_ns();
	struct account_times all = {0};
	json_t *vcpus = json_array();

	for (unsigned i = 0; i < vcpu_pool_count(pool); i++) {
		const struct vcpu *vcpu = vcpu_pool_get(pool, i);
		struct account_times t;

		account_times(vcpu->account, &t);
		all.wall += t.wall;
		for (unsigned k = 0; k < ACCOUNT_PHASES; k++)
			all.spent[k] += t.spent[k];
		json_array_append_new(vcpus, json_pack("{s:i, s:I, s:o}", "vcpu", (int)i, "exits",
						       (json_int_t)get(&vcpu->stats.exits),
						       "time_ns", times_json(&t, ns_per_tick)));
	}
	json_object_set_new(exits, "time_ns", times_json(&all, ns_per_tick));
	json_object_set_new(exits, "accounts", rows_json(pool, ns_per_tick));
	json_object_set_new(exits, "vcpus", vcpus);
}

/* ---- KVM's own ------------------------------------------------------------------------- */

static void move(json_t *times, const char *from, const char *to, json_int_t ns)
{
	json_int_t a = json_integer_value(json_object_get(times, from));
	json_int_t b = json_integer_value(json_object_get(times, to));

	json_object_set_new(times, from, json_integer(a - ns));
	json_object_set_new(times, to, json_integer(b + ns));
}

void stats_correct(json_t *times, json_t *all, const json_t *stats)
{
	json_int_t guest = json_integer_value(json_object_get(times, "guest")), halted;

	/* Started without an exit (arm64), and none since: KVM has counted those to itself. */
	if (guest == 0 && json_integer_value(json_object_get(stats, "exits")) > 0) {
		guest = json_integer_value(json_object_get(times, "idle"));
		move(times, "idle", "guest", guest);
		move(all, "idle", "guest", guest);
	}
	halted = (json_int_t)MIN(kvm_stats_halted_ns(stats), (uint64_t)guest);
	move(times, "guest", "idle", halted);
	/* As much as of this one: another's time is not taken for it. */
	move(all, "guest", "idle", halted);
}

/* Numbers only: distributions are each vCPU's. */
static void add_numbers(json_t *sum, json_t *stats)
{
	const char *name;
	json_t *value;

	json_object_foreach(stats, name, value)
	{
		uint64_t n = (uint64_t)json_integer_value(json_object_get(sum, name));

		n += (uint64_t)json_integer_value(value);
		if (json_is_integer(value))
			json_object_set_new(sum, name, json_integer((json_int_t)n));
	}
}

/* Of a vCPU that has been in KVM_RUN once. */
static int read_vcpu(struct vcpu *vcpu, struct kvm_stats_like *like, json_t **ret_stats)
{
	/* Relaxed: as its store. */
	int fd = atomic_load_explicit(&vcpu->stats_fd, memory_order_relaxed);

	return fd < 0 ? -ENODATA : kvm_stats_read_like(like, fd, ret_stats);
}

static int read_vm(int vm_fd, json_t **ret_stats)
{
	CLEANUP_FD int fd = ioctl(vm_fd, KVM_GET_STATS_FD);

	return fd < 0 ? -errno : kvm_stats_read(fd, ret_stats);
}

void stats_add_kvm(json_t *exits, int vm_fd, struct vcpu_pool *pool)
{
	json_t *rows = json_object_get(exits, "vcpus"), *all = json_object_get(exits, "time_ns");
	struct kvm_stats_like like = {0};
	json_t *sum, *stats = NULL;
	int r = read_vm(vm_fd, &stats);

	if (r < 0) {
		json_object_set_new(exits, "kvm",
				    json_pack("{s:s}", "unavailable",
					      r == -ENOTTY || r == -EINVAL
						      ? "this host's KVM has no binary statistics"
						      : strerror(-r)));
		return;
	}
	sum = json_object();
	json_object_set_new(exits, "kvm", json_pack("{s:o, s:o}", "vm", stats, "vcpus", sum));
	for (unsigned i = 0; i < vcpu_pool_count(pool); i++) {
		json_t *row = json_array_get(rows, i);

		if (read_vcpu(vcpu_pool_get(pool, i), &like, &stats) < 0)
			continue;
		add_numbers(sum, stats);
		stats_correct(json_object_get(row, "time_ns"), all, stats);
		json_object_set_new(row, "kvm", stats);
	}
	kvm_stats_like_done(&like);
}

void stats_add_counters(json_t *exits, const struct counters *counters)
{
	json_t *rows = json_object_get(exits, "vcpus"), *sum;

	if (!counters->n)
		return;
	sum = json_object();
	for (unsigned i = 0; i < counters->n; i++) {
		json_t *one = counters_json(counters, i);

		add_numbers(sum, one);
		json_object_set_new(json_array_get(rows, i), "counters", one);
	}
	json_object_set_new(exits, "counters", sum);
}

static bool is_halted(const json_t *stats)
{
	return json_integer_value(json_object_get(stats, "blocking")) != 0;
}

void stats_bound(json_t *times, json_t *all, const json_t *stats, uint64_t most_ns)
{
	json_int_t guest = json_integer_value(json_object_get(times, "guest"));

	if (!is_halted(stats) || (uint64_t)guest <= most_ns)
		return;
	move(times, "guest", "idle", guest - (json_int_t)most_ns);
	move(all, "guest", "idle", guest - (json_int_t)most_ns);
}

/* ---- the host's ------------------------------------------------------------------------ */

/* How long the thread of one that is halted, and so is there, can have been in the guest: one call,
 * for what it ran; host, or NULL, knows what it waited, too. */
static bool on_cpu(const struct vcpu *vcpu, const json_t *host, uint64_t *ret_ns)
{
	struct timespec t;
	clockid_t clock;

	if (json_object_get(host, "run_ns")) {
		*ret_ns = (uint64_t)(json_integer_value(json_object_get(host, "run_ns")) +
				     json_integer_value(json_object_get(host, "run_delay_ns")));
		return true;
	}
	if (pthread_getcpuclockid(vcpu->thread, &clock) != 0 || clock_gettime(clock, &t) < 0)
		return false;
	*ret_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	return true;
}

static void bound(json_t *exits, json_t *row, const struct vcpu *vcpu, const json_t *host)
{
	const json_t *stats = json_object_get(row, "kvm");
	uint64_t most_ns;

	if (is_halted(stats) && on_cpu(vcpu, host, &most_ns))
		stats_bound(json_object_get(row, "time_ns"), json_object_get(exits, "time_ns"),
			    stats, most_ns);
}

static json_t *host_json(const struct vcpu *vcpu)
{
	static const struct evidence_thread began = {0};
	struct evidence_thread now;

	return evidence_read_thread("/proc/self", vcpu->tid, &now) < 0
		       ? NULL
		       : evidence_thread_json(&began, &now);
}

void stats_add_host(json_t *exits, struct vcpu_pool *pool)
{
	json_t *rows = json_object_get(exits, "vcpus"), *sum;
	bool few = vcpu_pool_count(pool) <= STATS_HOST_MAX;

	sum = few ? json_object() : json_pack("{s:s}", "unavailable", "for so many vCPUs");
	for (unsigned i = 0; i < vcpu_pool_count(pool); i++) {
		const struct vcpu *vcpu = vcpu_pool_get(pool, i);
		json_t *host = few ? host_json(vcpu) : NULL, *row = json_array_get(rows, i);

		bound(exits, row, vcpu, host);
		if (!host)
			continue;
		add_numbers(sum, host);
		json_object_set_new(row, "host", host);
	}
	json_object_del(sum, "cpu");
	json_object_set_new(exits, "host", sum);
}

/* ---- what they don't say ----------------------------------------------------------------- */

/* Values that the histograms of all rows had no room for. */
static uint64_t not_in_buckets(const json_t *accounts)
{
	static const char *const names[] = {"guest", "hand_off", "waiting", "served"};
	uint64_t n = 0;

	for (size_t i = 0; i < json_array_size(accounts); i++)
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			n += (uint64_t)json_integer_value(
				json_object_get(json_object_get(json_array_get(accounts, i),
								names[k]),
						"not_in_buckets"));
	return n;
}

/* KVM may be asked not to see halts, and see them all the same (in a guest of another KVM). */
static bool has_seen_halts(const json_t *exits)
{
	const json_t *kvm = json_object_get(json_object_get(exits, "kvm"), "vcpus");

	return json_integer_value(json_object_get(kvm, "halt_exits")) > 0;
}

void stats_add_lacks(json_t *exits, bool halts_unseen)
{
	uint64_t lost = not_in_buckets(json_object_get(exits, "accounts"));
	json_t *lacks = json_array();

	if (halts_unseen && !has_seen_halts(exits))
		json_array_append_new(
			lacks,
			json_string("a vCPU that halts does not leave the guest (performance "
				    "mode), so that idle time is in guest time"));
	if (lost)
		json_array_append_new(
			lacks, json_sprintf("distributions had no room for %llu times, which are "
					    "in no median or percentile",
					    (unsigned long long)lost));
	if (json_array_size(lacks))
		json_object_set(exits, "lacks", lacks);
	json_decref(lacks);
}
