/* The single-producer single-consumer ring: full, empty, wrap-around, and two threads at work. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/spsc.h"

#define CAPACITY 8
#define ITEMS	 1000000u

struct item {
	uint64_t n;
	uint64_t check; /* plain memory: a race on it is a fault of the ring */
};

static void one_thread(void **state)
{
	struct item slots[CAPACITY];
	struct spsc ring;
	struct item *s;

	(void)state;
	spsc_init(&ring, slots, CAPACITY, sizeof(slots[0]));
	assert_null(spsc_peek(&ring));
	/* Reserved is not published. */
	s = spsc_reserve(&ring);
	assert_non_null(s);
	assert_null(spsc_peek(&ring));
	assert_ptr_equal(spsc_reserve(&ring), s);

	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < CAPACITY; i++) {
			s = spsc_reserve(&ring);
			assert_non_null(s);
			s->n = round * 100 + i;
			spsc_publish(&ring);
		}
		assert_null(spsc_reserve(&ring));
		for (unsigned i = 0; i < CAPACITY; i++) {
			s = spsc_peek(&ring);
			assert_non_null(s);
			assert_ptr_equal(spsc_peek(&ring), s);
			assert_int_equal(s->n, round * 100 + i);
			spsc_release(&ring);
		}
		assert_null(spsc_peek(&ring));
	}
}

static void indices_wrap(void **state)
{
	uint32_t slots[4];
	struct spsc ring;

	(void)state;
	spsc_init(&ring, slots, 4, sizeof(slots[0]));
	atomic_store(&ring.producer.tail, UINT32_MAX - 2);
	atomic_store(&ring.consumer.head, UINT32_MAX - 2);
	ring.producer.head_seen = ring.consumer.tail_seen = UINT32_MAX - 2;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 4; i++) {
			uint32_t *s = spsc_reserve(&ring);

			assert_non_null(s);
			*s = i;
			spsc_publish(&ring);
		}
		assert_null(spsc_reserve(&ring));
		for (uint32_t i = 0; i < 4; i++) {
			uint32_t *s = spsc_peek(&ring);

			assert_non_null(s);
			assert_int_equal(*s, i);
			spsc_release(&ring);
		}
		assert_null(spsc_peek(&ring));
	}
}

static void *produce(void *arg)
{
	struct spsc *ring = arg;

	for (uint64_t n = 0; n < ITEMS; n++) {
		struct item *s;

		while (!(s = spsc_reserve(ring)))
			sched_yield();
		s->n = n;
		s->check = ~n;
		spsc_publish(ring);
	}
	return NULL;
}

static void two_threads(void **state)
{
	static struct item slots[CAPACITY];
	static struct spsc ring;
	pthread_t producer;
	uint64_t wrong = 0;

	(void)state;
	spsc_init(&ring, slots, CAPACITY, sizeof(slots[0]));
	assert_int_equal(pthread_create(&producer, NULL, produce, &ring), 0);
	for (uint64_t n = 0; n < ITEMS; n++) {
		struct item *s;

		while (!(s = spsc_peek(&ring)))
			sched_yield();
		wrong += s->n != n || s->check != ~n;
		spsc_release(&ring);
	}
	assert_int_equal(pthread_join(producer, NULL), 0);
	assert_int_equal(wrong, 0);
	assert_null(spsc_peek(&ring));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_thread),
		cmocka_unit_test(indices_wrap),
		cmocka_unit_test(two_threads),
	};

	return cmocka_run_group_tests_name("spsc", tests, NULL, NULL);
}
