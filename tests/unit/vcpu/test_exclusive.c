/* Exclusive stores that are done for the guest: the second time, against the note of the first, and
 * only if nobody stored meanwhile. Counting by many threads loses nothing. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vcpu/exclusive.h"

#define GVA UINT64_C(0xffff800080001008)
#define PC  UINT64_C(0xffff800080020000)

static struct vcpu_stores stores[ARCH_WATCHES];
#define SLOT 1u /* the word's */
#define MINE (1u << SLOT)
static _Alignas(16) uint64_t words[2];
#define word words[0]

static struct arch_store store(uint64_t value)
{
	return (struct arch_store){.pc = PC,
				   .context = 1,
				   .exclusive = true,
				   .bytes = 8,
				   .gva = GVA,
				   .value = value};
}

static bool try(struct vcpu_pair *pair, const struct arch_store *s)
{
	if (!vcpu_exclusive(stores, MINE, pair, s, (uint8_t *)&word))
		return false;
	vcpu_stores_end(stores, MINE);
	return true;
}

static int clear(void **state UNUSED)
{
	memset(stores, 0, sizeof(stores));
	words[1] = 0;
	word = 5;
	return 0;
}

static void the_second_try_stores(void **state UNUSED)
{
	struct vcpu_pair pair = {0};
	const struct arch_store s = store(6);

	assert_false(try(&pair, &s));
	assert_int_equal(word, 5);
	assert_true(try(&pair, &s));
	assert_int_equal(word, 6);
	assert_int_equal(stores[SLOT].done, 1);
	/* The next one begins anew. */
	assert_false(try(&pair, &s));
	assert_int_equal(stores[SLOT].under_way, 0);
}

static void another_instruction_thread_or_word_begins_anew(void **state UNUSED)
{
	struct arch_store s[] = {store(6), store(6), store(6)};

	s[0].pc += 4;
	s[1].context++;
	s[2].gva += 8;
	for (unsigned i = 0; i < ARRAY_SIZE(s); i++) {
		const struct arch_store first = store(6);
		struct vcpu_pair pair = {0};

		assert_false(try(&pair, &first));
		assert_false(try(&pair, &s[i]));
		assert_int_equal(word, 5);
		assert_true(try(&pair, &s[i]));
		word = 5;
	}
}

static void a_store_in_between_makes_it_fail(void **state UNUSED)
{
	const struct arch_store s = store(6);
	struct vcpu_pair pair = {0};

	assert_false(try(&pair, &s));
	vcpu_stores_begin(stores, MINE); /* under way */
	assert_false(try(&pair, &s));
	vcpu_stores_end(stores, MINE); /* of the same value */
	assert_false(try(&pair, &s));
	word = 7; /* a device's, that nobody counted */
	assert_false(try(&pair, &s));
	assert_int_equal(word, 7);
	assert_int_equal(stores[SLOT].under_way, 0);
	assert_true(try(&pair, &s));
}

/* Else steady stores to one word would starve the pairs of another. */
static void a_store_to_another_word_does_not(void **state UNUSED)
{
	const struct arch_store s = store(6);
	struct vcpu_pair pair = {0};

	assert_false(try(&pair, &s));
	vcpu_stores_begin(stores, ~MINE & 15);
	vcpu_stores_end(stores, ~MINE & 15);
	vcpu_stores_begin(stores, ~MINE & 15); /* under way */
	assert_true(try(&pair, &s));
	assert_int_equal(word, 6);
	assert_int_equal(stores[SLOT].done, 1);
	assert_int_equal(stores[0].done, 1);
	assert_int_equal(stores[0].under_way, 1);
}

/* Of two watches, a store to either counts; and it is a store to both. */
static void a_store_may_be_to_several_words(void **state UNUSED)
{
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		const struct arch_store s = store(6);
		struct vcpu_pair pair = {0};
		uint32_t slots = 1u << 0 | 1u << 2;
		bool is_ours = slots & 1u << n;

		clear(NULL);
		assert_false(vcpu_exclusive(stores, slots, &pair, &s, (uint8_t *)&word));
		vcpu_stores_begin(stores, 1u << n);
		vcpu_stores_end(stores, 1u << n);
		assert_int_equal(vcpu_exclusive(stores, slots, &pair, &s, (uint8_t *)&word),
				 !is_ours);
		if (is_ours)
			assert_true(vcpu_exclusive(stores, slots, &pair, &s, (uint8_t *)&word));
		assert_int_equal(stores[0].under_way, 1);
		assert_int_equal(stores[2].under_way, 1);
		vcpu_stores_end(stores, slots);
		assert_int_equal(stores[2].done, n == 2 ? 2 : 1);
		/* Other watches now: what was stored to them since is not known. */
		assert_false(vcpu_exclusive(stores, slots, &pair, &s, (uint8_t *)&word));
		assert_false(vcpu_exclusive(stores, 1u << 0, &pair, &s, (uint8_t *)&word));
		for (unsigned i = 0; i < ARCH_WATCHES; i++)
			assert_int_equal(stores[i].under_way, 0);
	}
}

static void words_of_every_size(void **state UNUSED)
{
	for (unsigned bytes = 1; bytes <= 8; bytes *= 2) {
		struct arch_store s = store(0x1122334455667788);
		uint64_t want = UINT64_MAX;
		struct vcpu_pair pair = {0};

		s.bytes = bytes;
		word = UINT64_MAX;
		memcpy(&want, &s.value, bytes);
		assert_false(try(&pair, &s));
		assert_true(try(&pair, &s));
		assert_int_equal(word, want);
	}
}

static void words_of_two_registers(void **state UNUSED)
{
	struct arch_store s = store(6);
	struct vcpu_pair pair = {0};

	s.bytes = 16;
	s.value |= (unsigned __int128)8 << 64;
	words[1] = 7;
	assert_false(try(&pair, &s));
	words[1]++; /* a device's */
	assert_false(try(&pair, &s));
	assert_int_equal(word, 5);
	words[1] = 9;
	assert_false(try(&pair, &s));
	assert_true(try(&pair, &s));
	assert_int_equal(word, 6);
	assert_int_equal(words[1], 8);
}

/* ---- many ------------------------------------------------------------------------------- */

#define THREADS 4
#define ROUNDS	20000

/* A vCPU that switches between two threads of its guest at any point. */
static void *count_up(void *arg)
{
	uint64_t loaded[2] = {0}, left[2] = {ROUNDS, ROUNDS};
	unsigned seed = (unsigned)(uintptr_t)arg;
	bool has_loaded[2] = {false, false};
	struct vcpu_pair pair = {0};

	while (left[0] || left[1]) {
		unsigned me = (unsigned)rand_r(&seed) % 4 == 0 ? 1 : 0;
		struct arch_store s;

		if (!left[me])
			me = !me;
		if (!has_loaded[me]) {
			loaded[me] = __atomic_load_n(&word, __ATOMIC_SEQ_CST);
			has_loaded[me] = true;
			if ((unsigned)rand_r(&seed) % 16 == 0)
				continue; /* perhaps the other goes on */
		}
		s = store(loaded[me] + 1);
		s.context = me;
		has_loaded[me] = false;
		left[me] -= try(&pair, &s);
	}
	return NULL;
}

/* One of them stores in the common way. */
static void *count_plainly(void *arg UNUSED)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		vcpu_stores_begin(stores, MINE);
		__atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
		vcpu_stores_end(stores, MINE);
	}
	return NULL;
}

static void nothing_is_lost(void **state UNUSED)
{
	pthread_t thread[THREADS + 1];

	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, count_up, (void *)(i + 1)), 0);
	assert_int_equal(pthread_create(&thread[THREADS], NULL, count_plainly, NULL), 0);
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(word, 5 + THREADS * 2 * ROUNDS + ROUNDS);
	assert_int_equal(stores[SLOT].done, THREADS * 2 * ROUNDS + ROUNDS);
	assert_int_equal(stores[SLOT].under_way, 0);
}

#define TEST(f) cmocka_unit_test_setup(f, clear)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_second_try_stores),
		TEST(another_instruction_thread_or_word_begins_anew),
		TEST(a_store_in_between_makes_it_fail),
		TEST(a_store_to_another_word_does_not),
		TEST(a_store_may_be_to_several_words),
		TEST(words_of_every_size),
		TEST(words_of_two_registers),
		TEST(nothing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
