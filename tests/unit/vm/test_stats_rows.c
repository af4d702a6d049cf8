/* Rows of exits: added up over vCPUs, no more than there is room for, and none lost while a vCPU
 * finds new things to leave the guest for. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vm/stats_rows.h"

#define VCPUS 4

static struct account *accounts;
static const struct account *list[VCPUS];

static int begin(void **state)
{
	(void)state;
	ticks_init();
	accounts = account_new(VCPUS);
	for (unsigned i = 0; accounts && i < VCPUS; i++) {
		account_begin(account_of(accounts, i), true);
		list[i] = account_of(accounts, i);
	}
	return accounts ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	account_free(accounts, VCPUS);
	return 0;
}

static void leave(unsigned vcpu, const struct kvm_run *run)
{
	struct account *a = account_of(accounts, vcpu);

	account_exit(a, run);
	account_return(a, ticks_now(), 0, 0);
	account_put(a);
}

static void in(unsigned vcpu, uint16_t port)
{
	leave(vcpu, &(struct kvm_run){.exit_reason = KVM_EXIT_IO, .io = {.port = port}});
}

static json_t *rows(void)
{
	json_t *json = stats_rows(list, VCPUS, 1 / ticks_per_ns());

	assert_non_null(json);
	return json;
}

static const char *text(const json_t *row, const char *key)
{
	const char *value = json_string_value(json_object_get(row, key));

	return value ? value : "";
}

static json_int_t number(const json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

static json_t *find(const json_t *all, const char *reason, const char *address)
{
	for (size_t i = 0; i < json_array_size(all); i++) {
		json_t *row = json_array_get(all, i);

		if (!strcmp(text(row, "reason"), reason) && !strcmp(text(row, "address"), address))
			return row;
	}
	return NULL;
}

static void expect_own_names(const json_t *all)
{
	for (size_t i = 0; i < json_array_size(all); i++) {
		const json_t *row = json_array_get(all, i);

		assert_ptr_equal(find(all, text(row, "reason"), text(row, "address")), row);
	}
}

static json_int_t counts(const json_t *all)
{
	json_int_t sum = 0;

	for (size_t i = 0; i < json_array_size(all); i++)
		sum += number(json_array_get(all, i), "count");
	return sum;
}

static void vcpus_add_up(void **state)
{
	json_t *all, *row;

	(void)state;
	/* In another order on each, so that the same key has another number. */
	for (unsigned i = 0; i < 5; i++)
		in(0, 0x60);
	in(0, 0x61);
	for (unsigned i = 0; i < 3; i++)
		in(2, 0x61);
	for (unsigned i = 0; i < 2; i++)
		in(2, 0x60);
	leave(3, &(struct kvm_run){.exit_reason = KVM_EXIT_HLT});
	all = rows();
	assert_int_equal(json_array_size(all), 3);
	row = json_array_get(all, 0);
	assert_string_equal(text(row, "reason"), "io");
	assert_string_equal(text(row, "access"), "read");
	assert_string_equal(text(row, "address"), "0x60");
	assert_int_equal(number(row, "count"), 7);
	assert_int_equal(number(json_object_get(row, "guest"), "count"), 7);
	assert_int_equal(number(json_object_get(row, "hand_off"), "count"), 7);
	assert_int_equal(number(row, "time_ns"),
			 number(json_object_get(row, "hand_off"), "sum_ns"));
	assert_int_equal(number(find(all, "io", "0x61"), "count"), 4);
	row = json_array_get(all, 2);
	assert_string_equal(text(row, "reason"), "hlt");
	assert_null(json_object_get(row, "address"));
	json_decref(all);
}

static void nobody_has_left_the_guest(void **state)
{
	json_t *all = rows();

	(void)state;
	assert_int_equal(json_array_size(all), 0);
	json_decref(all);
}

/* More keys than rows, and on a vCPU more reasons than it has room for: one row has what is left.
 */
static void the_rest_is_one_row(void **state)
{
	json_int_t exits = 0;
	const json_t *last;
	json_t *all;

	(void)state;
	for (unsigned i = 0; i < VCPUS; i++)
		for (unsigned port = 0; port < 90; port++) {
			in(i, (uint16_t)(1000 * (i + 1) + port));
			exits++;
		}
	/* Often, so that its key is not among those with fewest exits. */
	for (unsigned n = 0; n < 3; n++)
		for (unsigned reason = 1000; reason < 1100; reason++, exits++)
			leave(1, &(struct kvm_run){.exit_reason = reason});
	all = rows();
	assert_int_equal(json_array_size(all), STATS_EXITS_MAX + 1);
	assert_int_equal(counts(all), exits);
	expect_own_names(all);
	last = json_array_get(all, STATS_EXITS_MAX);
	assert_string_equal(text(last, "reason"), "other");
	assert_null(json_object_get(last, "address"));
	assert_int_equal(number(last, "count"), exits - (json_int_t)STATS_EXITS_MAX);
	json_decref(all);
}

/* With rows to spare, too. */
static void reasons_without_a_name_are_the_rest(void **state)
{
	json_t *all;

	(void)state;
	for (unsigned reason = 1000; reason < 1003; reason++)
		leave(reason % VCPUS, &(struct kvm_run){.exit_reason = reason});
	in(0, 0x60);
	all = rows();
	assert_int_equal(json_array_size(all), 2);
	assert_int_equal(number(json_array_get(all, 0), "count"), 1);
	assert_string_equal(text(json_array_get(all, 1), "reason"), "other");
	assert_int_equal(number(json_array_get(all, 1), "count"), 3);
	json_decref(all);
}

static _Atomic bool over;

static void *find_ports(void *arg)
{
	(void)arg;
	for (unsigned port = 0; port < ACCOUNT_KEYS_ADDR; port++)
		in(0, (uint16_t)(100 + port));
	atomic_store(&over, true);
	return NULL;
}

/* The last vCPU's last key, while the first one's become more. */
static void no_key_is_lost_to_newer_ones(void **state)
{
	pthread_t thread;

	for (unsigned i = 0; i < 300; i++) {
		in(VCPUS - 1, 0x60);
		in(VCPUS - 1, 0x61);
		atomic_store(&over, false);
		assert_int_equal(pthread_create(&thread, NULL, find_ports, NULL), 0);
		while (!atomic_load(&over)) {
			json_t *all = rows();
			bool is_there = find(all, "io", "0x60") && find(all, "io", "0x61");

			json_decref(all);
			assert_true(is_there);
		}
		pthread_join(thread, NULL);
		end(state);
		assert_int_equal(begin(state), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vcpus_add_up, begin, end),
		cmocka_unit_test_setup_teardown(nobody_has_left_the_guest, begin, end),
		cmocka_unit_test_setup_teardown(the_rest_is_one_row, begin, end),
		cmocka_unit_test_setup_teardown(reasons_without_a_name_are_the_rest, begin, end),
		cmocka_unit_test_setup_teardown(no_key_is_lost_to_newer_ones, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
