/* Accounts added up by what vCPUs left the guest for. See stats_rows.h. */
#include "vm/stats_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "vm/host.h"

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

static bool is_rest(const struct group *group)
{
	return group->first->key.reason == ACCOUNT_ANY;
}

/* The rest is last, whatever its count: it is one with the groups that find no row. */
static int by_count(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	if (is_rest(x) != is_rest(y))
		return is_rest(x) ? 1 : -1;
	return x->count > y->count ? -1 : x->count < y->count;
}

/* Rows are told apart by name: reasons that have none are one, which is the rest. */
static struct account_key named(struct account_key key)
{
	static const struct account_key any = {.reason = ACCOUNT_ANY};

	return strcmp(host_exit_name(key.reason), host_exit_name(any.reason)) == 0 ? any : key;
}

/* Every key of every vCPU, in order. */
static struct entry *entries(const struct account *const *accounts, unsigned count, size_t *ret_n)
{
	CLEANUP_FREE uint32_t *keys = calloc(count + 1, sizeof(*keys));
	struct entry *list;
	size_t n = 0;

	if (!keys)
		return NULL;
	/* Once of each vCPU: those that come from now on are for the next reading.
	 * Acquire: pairs with the release of add_key in vcpu/account.c. */
	for (unsigned i = 0; i < count; i++) {
		keys[i] = atomic_load_explicit(&accounts[i]->keys, memory_order_acquire);
		n += keys[i];
	}
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return NULL;
	n = 0;
	for (unsigned i = 0; i < count; i++)
		for (uint32_t k = 0; k < keys[i]; k++)
			list[n++] = (struct entry){named(accounts[i]->exit[k].key), accounts[i], k};
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

json_t *stats_rows(const struct account *const *accounts, unsigned count, double ns_per_tick)
{
	static const struct account_key rest = {.reason = ACCOUNT_ANY};
	size_t entry_count = 0, group_count = 0;
	CLEANUP_FREE struct entry *list = entries(accounts, count, &entry_count);
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
