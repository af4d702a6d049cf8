/* The accounts of all vCPUs, added up by what they left the guest for. Control thread; the vCPU
 * threads go on meanwhile. */
#include "vm/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/util.h"
#include "vm/host.h"
#include "vm/kvm_stats.h"
#include "vm/perf/evidence.h"

/* One key of one vCPU. */
struct entry {
	struct account_key key;
	const struct account *account;
	uint32_t index; /* in it */
};

/* Entries of one key, side by side. */
struct group {
	const struct entry *first;
	size_t n;
	uint64_t count;
};

/* What is added up for one row. */
struct row {
	uint64_t count, waited;
	struct histogram_total guest, hand_off, waiting, served;
};

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* ---- which rows ------------------------------------------------------------------------ */

static int by_key(const void *a, const void *b)
{
	const struct account_key *x = &((const struct entry *)a)->key;
	const struct account_key *y = &((const struct entry *)b)->key;

	if (x->reason != y->reason)
		return x->reason < y->reason ? -1 : 1;
	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return x->access < y->access ? -1 : x->access > y->access;
}

static int by_count(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	return x->count > y->count ? -1 : x->count < y->count;
}

/* Every key of every vCPU, in order; *ret_n is at most ACCOUNT_KEYS for each. */
static struct entry *entries(struct vcpu_pool *pool, size_t *ret_n)
{
	unsigned vcpus = vcpu_pool_count(pool);
	size_t n = 0, room = 0;
	struct entry *list;

	for (unsigned i = 0; i < vcpus; i++)
		room += atomic_load_explicit(&vcpu_pool_get(pool, i)->account->keys,
					     memory_order_relaxed);
	list = calloc(room + 1, sizeof(*list));
	if (!list)
		return NULL;
	for (unsigned i = 0; i < vcpus; i++) {
		const struct account *a = vcpu_pool_get(pool, i)->account;
		/* Acquire: pairs with the release of add_key in vcpu/account.c. */
		uint32_t keys = atomic_load_explicit(&a->keys, memory_order_acquire);

		/* Those that came since the count above are for the next reading. */
		for (uint32_t k = 0; k < keys && n < room; k++)
			list[n++] = (struct entry){a->exit[k].key, a, k};
	}
	qsort(list, n, sizeof(*list), by_key);
	*ret_n = n;
	return list;
}

static struct group *groups(const struct entry *list, size_t n, size_t *ret_n)
{
	struct group *group = calloc(n + 1, sizeof(*group));
	size_t count = 0;

	for (size_t i = 0; group && i < n; i++) {
		if (i == 0 || by_key(&list[i - 1], &list[i]) != 0)
			group[count++].first = &list[i];
		group[count - 1].n++;
		group[count - 1].count += get(&list[i].account->exit[list[i].index].count);
	}
	if (group)
		qsort(group, count, sizeof(*group), by_count);
	*ret_n = count;
	return group;
}

/* ---- one row --------------------------------------------------------------------------- */

static void add_up(struct row *row, const struct group *group)
{
	for (size_t i = 0; i < group->n; i++) {
		const struct account *a = group->first[i].account;
		const struct account_exit *e = &a->exit[group->first[i].index];
		const struct account_service *s = &a->service[group->first[i].index];

		row->count += get(&e->count);
		row->waited += get(&e->waited);
		histogram_read(&e->guest, a->exit_steps, &row->guest);
		histogram_read(&e->hand_off, a->exit_steps, &row->hand_off);
		histogram_read(&s->waiting, a->service_steps, &row->waiting);
		histogram_read(&s->served, a->service_steps, &row->served);
	}
}

static json_int_t ns_of(double ticks, double ns_per_tick)
{
	return (json_int_t)(ticks * ns_per_tick + 0.5);
}

static json_t *histogram_json(const struct histogram_total *t, double ns_per_tick)
{
	CLEANUP_FREE char *text = t->count ? histogram_text(t, ns_per_tick) : NULL;
	json_t *json = json_pack("{s:I}", "count", (json_int_t)t->count);
	const struct {
		const char *name;
		double ticks;
	} figures[] = {
		{"sum_ns", (double)t->sum},
		{"max_ns", (double)t->max},
		{"p50_ns", histogram_quantile(t, 0.5)},
		{"p90_ns", histogram_quantile(t, 0.9)},
		{"p99_ns", histogram_quantile(t, 0.99)},
		{"p999_ns", histogram_quantile(t, 0.999)},
	};

	for (size_t i = 0; t->count && i < ARRAY_SIZE(figures); i++)
		json_object_set_new(json, figures[i].name,
				    json_integer(ns_of(figures[i].ticks, ns_per_tick)));
	if (text)
		json_object_set_new(json, "buckets", json_string(text));
	if (t->lost)
		json_object_set_new(json, "not_in_buckets", json_integer((json_int_t)t->lost));
	return json;
}

static json_t *row_json(const struct account_key *key, const struct row *row, double ns_per_tick)
{
	static const char *const access[] = {
		[ACCOUNT_READ] = "read",
		[ACCOUNT_WRITE] = "write",
		[ACCOUNT_EVENT] = "event",
	};
	json_t *json = json_pack("{s:s}", "reason", host_exit_name(key->reason));
	char address[32];

	if (key->access != ACCOUNT_NO_ADDRESS) {
		snprintf(address, sizeof(address), "%#" PRIx64, key->addr);
		json_object_set_new(json, "access", json_string(access[key->access]));
		json_object_set_new(json, "address", json_string(address));
	}
	json_object_set_new(json, "count", json_integer((json_int_t)row->count));
	json_object_set_new(json, "time_ns",
			    json_integer(ns_of((double)row->hand_off.sum + (double)row->waited,
					       ns_per_tick)));
	json_object_set_new(json, "guest", histogram_json(&row->guest, ns_per_tick));
	json_object_set_new(json, "hand_off", histogram_json(&row->hand_off, ns_per_tick));
	json_object_set_new(json, "waiting", histogram_json(&row->waiting, ns_per_tick));
	json_object_set_new(json, "served", histogram_json(&row->served, ns_per_tick));
	return json;
}

static json_t *accounts_json(struct vcpu_pool *pool, double ns_per_tick)
{
	static const struct account_key rest = {.reason = ACCOUNT_ANY};
	size_t entry_count = 0, group_count = 0;
	CLEANUP_FREE struct entry *list = entries(pool, &entry_count);
	CLEANUP_FREE struct group *group = list ? groups(list, entry_count, &group_count) : NULL;
	CLEANUP_FREE struct row *row = malloc(sizeof(*row));
	json_t *json = json_array();

	for (size_t i = 0; group && row && i < group_count;) {
		const struct account_key *key = i < STATS_EXITS_MAX ? &group[i].first->key : &rest;

		memset(row, 0, sizeof(*row));
		do
			add_up(row, &group[i++]);
		while (key == &rest && i < group_count);
		json_array_append_new(json, row_json(key, row, ns_per_tick));
	}
	return json;
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
	json_object_set_new(exits, "accounts", accounts_json(pool, ns_per_tick));
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
static int read_vcpu(struct vcpu *vcpu, json_t **ret_stats)
{
	/* Relaxed: as its store. */
	int fd = atomic_load_explicit(&vcpu->stats_fd, memory_order_relaxed);

	return fd < 0 ? -ENODATA : kvm_stats_read(fd, ret_stats);
}

static int read_vm(int vm_fd, json_t **ret_stats)
{
	CLEANUP_FD int fd = ioctl(vm_fd, KVM_GET_STATS_FD);

	return fd < 0 ? -errno : kvm_stats_read(fd, ret_stats);
}

void stats_add_kvm(json_t *exits, int vm_fd, struct vcpu_pool *pool)
{
	json_t *rows = json_object_get(exits, "vcpus"), *all = json_object_get(exits, "time_ns");
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

		if (read_vcpu(vcpu_pool_get(pool, i), &stats) < 0)
			continue;
		add_numbers(sum, stats);
		stats_correct(json_object_get(row, "time_ns"), all, stats);
		json_object_set_new(row, "kvm", stats);
	}
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
