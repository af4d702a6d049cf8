/* A driver and a device on threads of their own, each asleep unless the other's notification or
 * interrupt says otherwise. A suppressed one that was needed leaves both asleep, which is a
 * failure after a deadline; an entry seen too early shows a wrong length. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "vdriver.h"

#define SIZE	   4
#define CHAINS	   60000u
#define DEADLINE_S 20

static struct vdriver drv;
static struct virtq q;
static struct vring r;
static uint64_t buf;
static sem_t kick, irq;
static unsigned kicks, irqs;
static const char *device_failed;

static bool sleep_on(sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DEADLINE_S;
	while (sem_timedwait(sem, &until) < 0)
		if (errno != EINTR)
			return false;
	return true;
}

static void *device(void *arg)
{
	uint32_t served = 0;

	(void)arg;
	while (served < CHAINS) {
		struct virtq_chain c;
		int rc;

		while ((rc = virtq_pop(&q, &c)) > 0) {
			/* The driver wrote the chain's number as its length, less one. */
			if (c.in_bytes != 1 + served % 1000) {
				device_failed = "a descriptor older than its index";
				return NULL;
			}
			virtq_push(&q, c.head, served++);
			if (virtq_wants_signal(&q)) {
				irqs++;
				sem_post(&irq);
			}
		}
		if (rc < 0) {
			device_failed = "a chain that breaks the rules";
			return NULL;
		}
		if (served < CHAINS && !sleep_on(&kick)) {
			device_failed = "no notification came";
			return NULL;
		}
	}
	return NULL;
}

static bool device_wants_kick(uint16_t old, uint16_t now)
{
	if (q.event_idx)
		return (uint16_t)(now - __atomic_load_n(r.avail_event, __ATOMIC_SEQ_CST) - 1) <
		       (uint16_t)(now - old);
	return !(__atomic_load_n(r.used_flags, __ATOMIC_SEQ_CST) & 1);
}

/* Takes all that is used; true if there was any. */
static bool collect(uint32_t *done)
{
	bool any = false;

	while (r.last_used != __atomic_load_n(r.used_idx, __ATOMIC_SEQ_CST)) {
		assert_int_equal(r.used_ring[r.last_used % SIZE].len, *done);
		r.last_used++;
		++*done;
		any = true;
	}
	return any;
}

static void set_callbacks(bool on)
{
	if (q.event_idx) {
		if (on)
			__atomic_store_n(r.used_event, r.last_used, __ATOMIC_SEQ_CST);
	} else {
		__atomic_store_n(r.avail_flags, !on, __ATOMIC_SEQ_CST);
	}
}

/* Varies where in the device's steps the driver's fall. */
static void dawdle(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	for (uint32_t n = *seed % 128; n; n--)
		cpu_relax();
}

static void drive(bool event_idx)
{
	uint32_t added = 0, done = 0, seed = 1;
	pthread_t thread;

	vdriver_init(&drv);
	q = (struct virtq){.mem = &drv.mem, .max_size = SIZE, .event_idx = event_idx};
	vring_init(&r, &drv, &q, SIZE);
	buf = vdriver_alloc(&drv, 1000, 1);
	assert_int_equal(virtq_start(&q), 0);
	sem_init(&kick, 0, 0);
	sem_init(&irq, 0, 0);
	kicks = irqs = 0;
	device_failed = NULL;
	assert_int_equal(pthread_create(&thread, NULL, device, NULL), 0);

	while (done < CHAINS) {
		uint16_t old = (uint16_t)added;

		dawdle(&seed);
		/* From one to all that fit, so that full and empty rings both come up. */
		for (unsigned n = 1 + added % SIZE; n && added < CHAINS && added - done < SIZE;
		     n--) {
			uint16_t at = (uint16_t)(added % SIZE);

			r.desc[at] = (struct vdesc){buf, 1 + added % 1000, VDESC_WRITE, 0};
			__atomic_store_n(&r.avail_ring[at], at, __ATOMIC_RELAXED);
			added++;
		}
		__atomic_store_n(r.avail_idx, (uint16_t)added, __ATOMIC_SEQ_CST);
		if ((uint16_t)added != old && device_wants_kick(old, (uint16_t)added)) {
			kicks++;
			sem_post(&kick);
		}
		set_callbacks(false);
		dawdle(&seed);
		if (collect(&done))
			continue;
		set_callbacks(true);
		if (collect(&done))
			continue;
		if (!sleep_on(&irq))
			break;
	}
	pthread_join(thread, NULL);
	if (device_failed)
		fail_msg("device: %s", device_failed);
	assert_int_equal(done, CHAINS);
	/* The point of it all: fewer than one of each a chain is usual, more is impossible. */
	assert_in_range(kicks, 1, CHAINS);
	assert_in_range(irqs, 1, CHAINS);
	sem_destroy(&kick);
	sem_destroy(&irq);
	vdriver_done(&drv);
}

static void with_event_index(void **state)
{
	(void)state;
	drive(true);
}

static void with_flags(void **state)
{
	(void)state;
	drive(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_event_index),
		cmocka_unit_test(with_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
