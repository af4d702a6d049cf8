/* Accounts without KVM: times that add up, keys that a guest can't make too many of, histograms of
 * both sides, and a reader beside the writer. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vcpu/account.h"

#define MS 1000u /* for usleep */

static struct account *account;

static int begin(void **state)
{
	(void)state;
	ticks_init();
	account = account_new(1);
	return account ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	account_free(account, 1);
	return 0;
}

static struct kvm_run io(uint16_t port, bool out)
{
	return (struct kvm_run){
		.exit_reason = KVM_EXIT_IO,
		.io = {.port = port, .direction = out ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN},
	};
}

static struct histogram_total *read_exit(size_t field, unsigned key)
{
	static struct histogram_total total;

	memset(&total, 0, sizeof(total));
	histogram_read((void *)((char *)&account->exit[key] + field), account->exit_steps, &total);
	return &total;
}

static struct histogram_total *read_service(size_t field, unsigned key)
{
	static struct histogram_total total;

	memset(&total, 0, sizeof(total));
	histogram_read((void *)((char *)&account->service[key] + field), account->service_steps,
		       &total);
	return &total;
}

static void sums_to_wall(const struct account_times *t)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < ACCOUNT_PHASES; i++)
		sum += t->spent[i];
	if (sum != t->wall)
		fail_msg("%llu, wall %llu", (unsigned long long)sum, (unsigned long long)t->wall);
}

static void nothing_has_begun(void **state)
{
	struct account_times t;

	(void)state;
	account_times(account, &t);
	assert_true(t.wall == 0);
	sums_to_wall(&t);
}

static void a_wait_is_split_where_it_was_served(void **state)
{
	struct kvm_run run = io(0x60, false);
	struct account_times t;
	uint64_t posted, from, to;
	double per_ms;

	(void)state;
	account_begin(account, true);
	usleep(4 * MS);
	account_exit(account, &run);
	posted = ticks_now();
	account_waits(account, posted);
	usleep(8 * MS);
	from = ticks_now();
	usleep(16 * MS);
	to = ticks_now();
	account_served(account, account->key, posted, from, to);
	account_return(account, ticks_now(), from, to);
	account_put(account);
	per_ms = ticks_per_ns() * 1e6;
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true(t.spent[ACCOUNT_WAITING] == from - posted);
	assert_true(t.spent[ACCOUNT_SERVED] == to - from);
	assert_true((double)t.spent[ACCOUNT_GUEST] >= 4 * per_ms);
	assert_true((double)t.wall >= 28 * per_ms);
	assert_int_equal(account->keys, 1);
	assert_true(account->exit[0].key.addr == 0x60);
	assert_int_equal(account->exit[0].key.access, ACCOUNT_READ);
	assert_true(account->exit[0].count == 1);
	assert_true(account->exit[0].waited == to - posted);
	assert_true(read_exit(offsetof(struct account_exit, guest), 0)->count == 1);
	assert_true(read_exit(offsetof(struct account_exit, hand_off), 0)->count == 1);
	assert_true(read_service(offsetof(struct account_service, waiting), 0)->sum ==
		    from - posted);
	assert_true(read_service(offsetof(struct account_service, served), 0)->sum == to - from);
}

static void a_wait_that_was_let_go_is_all_waiting(void **state)
{
	struct kvm_run run = io(0x60, false);
	struct account_times t;
	uint64_t posted;

	(void)state;
	account_begin(account, true);
	account_exit(account, &run);
	posted = ticks_now();
	account_waits(account, posted);
	usleep(MS);
	/* What is left from the exit before. */
	account_return(account, ticks_now(), posted - 20, posted - 10);
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true(t.spent[ACCOUNT_SERVED] == 0);
	assert_true((double)t.spent[ACCOUNT_WAITING] >= 1e6 * ticks_per_ns());
}

static void a_post_takes_no_waiting(void **state)
{
	struct kvm_run run = io(0x3f8, true);
	struct account_times t;

	(void)state;
	account_begin(account, true);
	account_exit(account, &run);
	account_return(account, ticks_now(), 0, 0);
	account_put(account);
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true(t.spent[ACCOUNT_WAITING] == 0 && t.spent[ACCOUNT_SERVED] == 0);
	assert_true(read_exit(offsetof(struct account_exit, hand_off), 0)->sum ==
		    t.spent[ACCOUNT_HAND_OFF]);
}

static void a_vcpu_that_waits_to_be_started_is_idle(void **state)
{
	struct account_times t, later;

	(void)state;
	account_begin(account, false);
	usleep(2 * MS);
	account_interrupted(account, false);
	account_park(account);
	usleep(2 * MS);
	account_unpark(account);
	usleep(2 * MS);
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true(t.spent[ACCOUNT_GUEST] == 0);
	assert_true(t.spent[ACCOUNT_IDLE] > 0 && t.spent[ACCOUNT_PARKED] > 0);
	account_interrupted(account, true);
	usleep(2 * MS);
	account_interrupted(account, false);
	account_end(account);
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true((double)t.spent[ACCOUNT_GUEST] >= 2e6 * ticks_per_ns());
	/* It has ended: nothing grows. */
	usleep(MS);
	account_times(account, &later);
	assert_true(later.wall == t.wall);
	/* The kick of the running vCPU alone left the guest. */
	assert_int_equal(account->keys, 1);
	assert_int_equal(account->exit[0].key.reason, KVM_EXIT_INTR);
}

/* As on arm64, where nobody tells that it was started. */
static void a_vcpu_that_is_found_running_was_in_the_guest(void **state)
{
	struct account_times t;

	(void)state;
	account_begin(account, false);
	usleep(2 * MS);
	account_found_running(account);
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true((double)t.spent[ACCOUNT_GUEST] >= 2e6 * ticks_per_ns());
	account_interrupted(account, false);
	account_park(account);
	account_unpark(account);
	usleep(MS);
	account_end(account);
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true(t.spent[ACCOUNT_IDLE] == 0);
	assert_true((double)t.spent[ACCOUNT_GUEST] >= 3e6 * ticks_per_ns());
}

/* Which is no exit's time: neither in its phases nor in a row of it. */
static void a_sample_is_a_time_of_its_own(void **state)
{
	struct kvm_run run = io(0x3f8, true);
	struct account_times before, t;
	uint64_t exits;

	(void)state;
	account_begin(account, true);
	account_exit(account, &run);
	account_return(account, ticks_now(), 0, 0);
	account_interrupted(account, false);
	account_times(account, &before);
	account_aside(account);
	usleep(4 * MS);
	account_back(account);
	usleep(2 * MS);
	account_put(account);
	account_times(account, &t);
	sums_to_wall(&t);
	exits = t.spent[ACCOUNT_HAND_OFF] + t.spent[ACCOUNT_WAITING] + t.spent[ACCOUNT_SERVED];
	assert_true(exits == before.spent[ACCOUNT_HAND_OFF]);
	assert_true(read_exit(offsetof(struct account_exit, hand_off), 0)->sum == exits);
	assert_true((double)t.spent[ACCOUNT_SAMPLED] >= 4e6 * ticks_per_ns());
	assert_true((double)t.spent[ACCOUNT_GUEST] >= 2e6 * ticks_per_ns());
	/* Of one that nobody has started. */
	account_end(account);
	account_free(account, 1);
	account = account_new(1);
	assert_non_null(account);
	account_begin(account, false);
	account_interrupted(account, false);
	account_aside(account);
	usleep(MS);
	account_back(account);
	usleep(MS);
	account_times(account, &t);
	sums_to_wall(&t);
	assert_true((double)t.spent[ACCOUNT_SAMPLED] >= 1e6 * ticks_per_ns());
	assert_true((double)t.spent[ACCOUNT_IDLE] >= 1e6 * ticks_per_ns());
	assert_true(t.spent[ACCOUNT_GUEST] == 0 && t.spent[ACCOUNT_HAND_OFF] == 0);
}

static void one_exit(struct kvm_run run)
{
	account_exit(account, &run);
	account_return(account, ticks_now(), 0, 0);
}

static void keys_are_told_apart(void **state)
{
	struct kvm_run mmio = {.exit_reason = KVM_EXIT_MMIO,
			       .mmio = {.phys_addr = 0x60, .is_write = 1}};

	(void)state;
	account_begin(account, true);
	for (unsigned i = 0; i < 3; i++) {
		one_exit(io(0x60, false));
		one_exit(io(0x60, true));
		one_exit(io(0x61, true));
		one_exit(mmio);
		one_exit((struct kvm_run){.exit_reason = KVM_EXIT_HLT});
	}
	assert_int_equal(account->keys, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(account->exit[i].count == 3);
	assert_true(account->exit[3].key.addr == 0x60);
	assert_int_equal(account->exit[3].key.reason, KVM_EXIT_MMIO);
	assert_int_equal(account->exit[4].key.access, ACCOUNT_NO_ADDRESS);
}

/* A guest that goes through all ports, and a KVM that knows more reasons than there is room for. */
static void too_many_keys_share_the_last_ones(void **state)
{
	uint64_t count = 0, exits = 0, any = 0;

	(void)state;
	account_begin(account, true);
	for (unsigned port = 0; port < 65536; port += 3, exits++)
		one_exit(io((uint16_t)port, port % 2));
	assert_int_equal(account->keys, ACCOUNT_KEYS_ADDR + 1);
	assert_int_equal(account->exit[ACCOUNT_KEYS_ADDR].key.reason, KVM_EXIT_IO);
	assert_int_equal(account->exit[ACCOUNT_KEYS_ADDR].key.access, ACCOUNT_NO_ADDRESS);
	/* One that has its key keeps it. */
	one_exit(io(3, true));
	exits++;
	for (unsigned reason = 100; reason < 300; reason++, exits++)
		one_exit((struct kvm_run){.exit_reason = reason});
	assert_int_equal(account->keys, ACCOUNT_KEYS);
	for (unsigned i = 0; i < ACCOUNT_KEYS; i++) {
		count += account->exit[i].count;
		if (account->exit[i].key.reason == ACCOUNT_ANY)
			any = account->exit[i].count;
	}
	assert_true(count == exits);
	assert_true(any == 200 - (ACCOUNT_KEYS - ACCOUNT_KEYS_ADDR - 2));
	assert_true(account->exit[1].count == 2);
}

static _Atomic bool over;

static void *run_guest(void *arg)
{
	(void)arg;
	account_begin(account, true);
	while (!atomic_load(&over)) {
		struct kvm_run run = io(0x60, false);
		uint64_t posted;

		account_exit(account, &run);
		posted = ticks_now();
		account_waits(account, posted);
		account_return(account, ticks_now(), posted, posted + 1);
		account_park(account);
		account_unpark(account);
	}
	account_end(account);
	return NULL;
}

static void a_reader_never_sees_half_of_a_change(void **state)
{
	struct account_times t;
	pthread_t thread;
	uint64_t last = 0;

	(void)state;
	atomic_store(&over, false);
	assert_int_equal(pthread_create(&thread, NULL, run_guest, NULL), 0);
	for (unsigned i = 0; i < 20000; i++) {
		account_times(account, &t);
		sums_to_wall(&t);
		assert_true(t.wall >= last);
		last = t.wall;
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_has_begun, begin, end),
		cmocka_unit_test_setup_teardown(a_wait_is_split_where_it_was_served, begin, end),
		cmocka_unit_test_setup_teardown(a_wait_that_was_let_go_is_all_waiting, begin, end),
		cmocka_unit_test_setup_teardown(a_post_takes_no_waiting, begin, end),
		cmocka_unit_test_setup_teardown(a_vcpu_that_waits_to_be_started_is_idle, begin,
						end),
		cmocka_unit_test_setup_teardown(a_vcpu_that_is_found_running_was_in_the_guest,
						begin, end),
		cmocka_unit_test_setup_teardown(a_sample_is_a_time_of_its_own, begin, end),
		cmocka_unit_test_setup_teardown(keys_are_told_apart, begin, end),
		cmocka_unit_test_setup_teardown(too_many_keys_share_the_last_ones, begin, end),
		cmocka_unit_test_setup_teardown(a_reader_never_sees_half_of_a_change, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
