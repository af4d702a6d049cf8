/* The status machine, faults, interrupts and the one quiesce, with a device that does nothing but
 * count its calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vdriver.h"

#define F1 (1ull << VIRTIO_F_VERSION_1_BIT)
enum { ACK = 1, DRV = 2, OK = 4, FOK = 8, NEEDS = 64, FAILED = 128 };

static struct counter {
	struct virtio_device dev;
	unsigned activated, quiesced, reset, done;
	unsigned notified[3];
	bool slow; /* virtio_quiesced comes later */
	uint8_t status_in_reset;
} c;
static struct vdriver drv;

static void activate(struct virtio_device *dev)
{
	assert_true(virtio_running(dev));
	c.activated++;
}

static void notify(struct virtio_device *dev, unsigned q)
{
	assert_true(virtio_running(dev) && dev->queue[q].ready);
	c.notified[q]++;
}

static void quiesce(struct virtio_device *dev)
{
	c.quiesced++;
	if (!c.slow)
		virtio_quiesced(dev);
}

static void reset(struct virtio_device *dev)
{
	c.reset++;
	c.status_in_reset = dev->status;
}

static const struct virtio_ops ops = {
	.name = "counter",
	.device_id = 42,
	.features = 1u << 5 | 1ull << 40,
	.queues = 2,
	.queue_size = 16,
	.activate = activate,
	.notify = notify,
	.quiesce = quiesce,
	.reset = reset,
};

static void fresh(void)
{
	vdriver_done(&drv);
	vdriver_init(&drv);
	memset(&c, 0, sizeof(c));
	virtio_init(&c.dev, &ops, &drv.mem, -1);
}

static void up(void)
{
	fresh();
	assert_int_equal(vdriver_bring_up(&drv, &c.dev, VDRIVER_FEATURES), ACK | DRV | FOK | OK);
}

static void done(struct virtio_device *dev, void *arg)
{
	assert_ptr_equal(dev, &c.dev);
	assert_ptr_equal(arg, &drv);
	assert_false(dev->quiescing);
	c.done++;
}

static void after_init(void **state)
{
	(void)state;
	fresh();
	assert_int_equal(c.dev.status, 0);
	assert_int_equal(c.dev.queue_count, 2);
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		assert_int_equal(c.dev.queue[i].max_size, 16);
	assert_true(virtio_offered(&c.dev) ==
		    (1u << 5 | 1u << 28 | 1u << 29 | 1ull << 32 | 1ull << 40));
}

static void bring_up(void **state)
{
	(void)state;
	up();
	assert_int_equal(c.activated, 1);
	/* DRIVER_OK counts as a notification: one may have overtaken it. */
	assert_int_equal(c.notified[0], 1);
	assert_int_equal(c.notified[1], 1);
	assert_true(c.dev.queue[0].event_idx && c.dev.queue[0].indirect);
	assert_int_equal(c.dev.irq.raised, 0);
	virtio_notify(&c.dev, 1);
	assert_int_equal(c.notified[1], 2);
	/* DRIVER_OK again is nothing new. */
	virtio_set_status(&c.dev, ACK | DRV | FOK | OK, F1);
	assert_int_equal(c.activated, 1);
}

static void features_taken_or_refused(void **state)
{
	const struct {
		uint64_t wanted;
		bool taken;
	} cases[] = {
		{F1, true},
		{F1 | 1u << 5 | 1ull << 40, true},
		{F1 | 1u << 28, true},
		{F1 | 1u << 29, true},
		{0, false},
		{1u << 5, false},
		{F1 | 1u << 4, false},
		{F1 | 1ull << 34, false}, /* packed ring */
		{F1 | 1ull << 63, false},
		{UINT64_MAX, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fresh();
		virtio_set_status(&c.dev, ACK, cases[i].wanted);
		virtio_set_status(&c.dev, ACK | DRV, cases[i].wanted);
		virtio_set_status(&c.dev, ACK | DRV | FOK, cases[i].wanted);
		assert_int_equal(c.dev.status, ACK | DRV | (cases[i].taken ? FOK : 0));
		assert_true(c.dev.features == (cases[i].taken ? cases[i].wanted : 0));
		assert_int_equal(c.dev.queue[1].event_idx,
				 cases[i].taken && (cases[i].wanted >> 29 & 1));
		assert_int_equal(c.dev.queue[1].indirect,
				 cases[i].taken && (cases[i].wanted >> 28 & 1));
	}
	/* Refused once, asked again with less. */
	virtio_set_status(&c.dev, ACK | DRV | FOK, F1);
	assert_int_equal(c.dev.status, ACK | DRV | FOK);
	/* Taken: later wishes change nothing. */
	virtio_set_status(&c.dev, ACK | DRV | FOK, F1 | 1u << 5);
	assert_true(c.dev.features == F1);
}

static void driver_ok_needs_features_ok(void **state)
{
	(void)state;
	fresh();
	virtio_set_status(&c.dev, ACK | DRV | OK, F1);
	assert_int_equal(c.dev.status, ACK | DRV | NEEDS);
	assert_int_equal(c.activated, 0);
	assert_int_equal(c.dev.faults, 1);
	assert_int_equal(c.dev.irq.raised, 0); /* nobody listens before DRIVER_OK */
	/* All at once is good enough. */
	fresh();
	virtio_set_status(&c.dev, ACK | DRV | FOK | OK, F1);
	assert_int_equal(c.dev.status, ACK | DRV | FOK | OK);
	assert_int_equal(c.activated, 1);
	/* Refused features take DRIVER_OK with them. */
	fresh();
	virtio_set_status(&c.dev, ACK | DRV | FOK | OK, 0);
	assert_int_equal(c.dev.status, ACK | DRV | NEEDS);
	assert_int_equal(c.activated, 0);
}

static void every_status_byte(void **state)
{
	(void)state;
	for (unsigned v = 1; v < 256; v++) {
		fresh();
		virtio_set_status(&c.dev, (uint8_t)v, F1);
		/* A driver can't set NEEDS_RESET or what is reserved; only a fault does. */
		bool fault = (v & OK) && !(v & FOK);
		assert_int_equal(c.dev.status & NEEDS, fault ? NEEDS : 0);
		assert_int_equal(c.dev.status & 0x30, 0);
		assert_int_equal(c.dev.status & (ACK | DRV | FOK | FAILED),
				 v & (ACK | DRV | FOK | FAILED));
		assert_int_equal(c.activated, (v & OK) && (v & FOK) && !(v & FAILED));
		/* And can't clear one without a reset. */
		uint8_t before = c.dev.status;
		virtio_set_status(&c.dev, 0x30, F1);
		assert_int_equal(c.dev.status, before);
		virtio_set_status(&c.dev, 0, F1);
		assert_int_equal(c.dev.status, 0);
	}
}

static void nothing_is_served_unless_running(void **state)
{
	(void)state;
	fresh();
	vring_init(&drv.ring[0], &drv, &c.dev.queue[0], 16);
	virtio_set_ready(&c.dev, 0, true);
	virtio_notify(&c.dev, 0);
	virtio_set_status(&c.dev, ACK | DRV | FOK, F1);
	virtio_notify(&c.dev, 0);
	assert_int_equal(c.notified[0], 0);
	virtio_set_status(&c.dev, ACK | DRV | FOK | OK, F1);
	assert_int_equal(c.notified[0], 1);
	assert_int_equal(c.notified[1], 0); /* not ready */
	virtio_notify(&c.dev, 1);
	virtio_notify(&c.dev, 2);
	virtio_notify(&c.dev, VIRTIO_MAX_QUEUES);
	virtio_notify(&c.dev, UINT32_MAX);
	assert_int_equal(c.notified[1] + c.notified[2], 0);
	/* Made ready late: counts as a notification. */
	vring_init(&drv.ring[1], &drv, &c.dev.queue[1], 16);
	virtio_set_ready(&c.dev, 1, true);
	assert_int_equal(c.notified[1], 1);
	virtio_set_ready(&c.dev, 1, false);
	virtio_notify(&c.dev, 1);
	assert_int_equal(c.notified[1], 1);
	virtio_set_status(&c.dev, FAILED, F1);
	virtio_notify(&c.dev, 0);
	assert_int_equal(c.notified[0], 1);
}

static void a_fault_stops_the_device(void **state)
{
	(void)state;
	up();
	virtio_fault(&c.dev, "test %d", 1);
	assert_int_equal(c.dev.status, ACK | DRV | FOK | OK | NEEDS);
	assert_int_equal(c.dev.interrupt_status, VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(c.dev.irq.raised, 1);
	virtio_notify(&c.dev, 0);
	assert_int_equal(c.notified[0], 1);
	virtio_fault(&c.dev, "test %d", 2);
	assert_int_equal(c.dev.irq.raised, 1); /* told once */
	assert_int_equal(c.dev.faults, 2);
	/* A message longer than any line. */
	char text[4096];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	virtio_fault(&c.dev, "%s", text);

	virtio_set_status(&c.dev, 0, 0);
	assert_int_equal(c.dev.status, 0);
	assert_int_equal(c.dev.interrupt_status, 0);
	assert_int_equal(c.dev.faults, 3);
	assert_int_equal(vdriver_bring_up(&drv, &c.dev, VDRIVER_FEATURES), ACK | DRV | FOK | OK);
	assert_int_equal(c.activated, 2);
}

static void bad_rings_are_a_fault(void **state)
{
	(void)state;
	fresh();
	virtio_set_status(&c.dev, ACK | DRV | FOK, F1);
	vring_init(&drv.ring[0], &drv, &c.dev.queue[0], 16);
	c.dev.queue[0].size = 32; /* more than was offered */
	virtio_set_ready(&c.dev, 0, true);
	assert_false(c.dev.queue[0].ready);
	assert_int_equal(c.dev.status, ACK | DRV | FOK | NEEDS);
	/* DRIVER_OK does not revive it. */
	virtio_set_status(&c.dev, ACK | DRV | FOK | OK, F1);
	assert_int_equal(c.activated, 0);
	virtio_set_ready(&c.dev, 2, true); /* no such queue */
	virtio_set_ready(&c.dev, UINT32_MAX, true);
	assert_int_equal(c.dev.faults, 1);
}

static void reset_at_every_step(void **state)
{
	static const uint8_t steps[] = {0,
					ACK,
					ACK | DRV,
					ACK | DRV | FOK,
					ACK | DRV | FOK | OK,
					ACK | DRV | FOK | OK | FAILED};

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(steps); n++) {
		for (unsigned slow = 0; slow < 2; slow++) {
			fresh();
			for (size_t i = 1; i <= n; i++) {
				virtio_set_status(&c.dev, steps[i], F1);
				if (steps[i] == (ACK | DRV | FOK)) {
					vring_init(&drv.ring[0], &drv, &c.dev.queue[0], 16);
					virtio_set_ready(&c.dev, 0, true);
				}
			}
			c.slow = slow;
			virtio_set_status(&c.dev, 0, 0);
			if (slow) {
				/* Until it is quiet it shows what it was, serves nothing, and takes
				 * nothing. */
				assert_int_equal(c.dev.status, steps[n]);
				unsigned before = c.notified[0];
				virtio_notify(&c.dev, 0);
				virtio_set_status(&c.dev, ACK | DRV | FOK | OK, F1);
				virtio_set_status(&c.dev, 0, 0);
				virtio_set_ready(&c.dev, 1, true);
				assert_int_equal(c.notified[0], before);
				assert_int_equal(c.quiesced, 1);
				assert_int_equal(c.reset, 0);
				assert_false(virtio_running(&c.dev));
				virtio_quiesced(&c.dev);
			}
			assert_int_equal(c.reset, 1);
			assert_int_equal(c.status_in_reset, steps[n]);
			assert_int_equal(c.dev.status, 0);
			assert_true(c.dev.features == 0);
			for (unsigned i = 0; i < 2; i++) {
				assert_false(c.dev.queue[i].ready);
				assert_int_equal(c.dev.queue[i].size, 0);
				assert_int_equal(c.dev.queue[i].max_size, 16);
				assert_ptr_equal(c.dev.queue[i].mem, &drv.mem);
			}
			c.slow = false;
			assert_int_equal(vdriver_bring_up(&drv, &c.dev, VDRIVER_FEATURES),
					 ACK | DRV | FOK | OK);
		}
	}
}

static void quiesce_and_resume(void **state)
{
	(void)state;
	up();
	virtio_quiesce(&c.dev, done, &drv);
	assert_int_equal(c.done, 1);
	virtio_notify(&c.dev, 0);
	assert_int_equal(c.notified[0], 1);
	assert_int_equal(c.dev.status, ACK | DRV | FOK | OK); /* the driver sees nothing */
	assert_int_equal(c.reset, 1);			      /* bring-up's */
	virtio_resume(&c.dev);
	assert_int_equal(c.notified[0], 2);
	assert_int_equal(c.notified[1], 2);
}

static void a_resume_before_it_is_quiet(void **state)
{
	(void)state;
	up();
	c.slow = true;
	virtio_quiesce(&c.dev, done, &drv);
	virtio_resume(&c.dev);
	/* What is in flight stays the last of its kind. */
	virtio_notify(&c.dev, 0);
	assert_int_equal(c.notified[0], 1);
	virtio_quiesced(&c.dev);
	assert_int_equal(c.done, 0);
	assert_int_equal(c.notified[0], 2);
	assert_int_equal(c.notified[1], 2);

	/* And another freeze meanwhile. */
	virtio_quiesce(&c.dev, done, &drv);
	virtio_resume(&c.dev);
	virtio_quiesce(&c.dev, done, &drv);
	assert_int_equal(c.quiesced, 3); /* with bring-up's: one serves both */
	virtio_quiesced(&c.dev);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.notified[0], 2);
	virtio_resume(&c.dev);
	assert_int_equal(c.notified[0], 3);

	/* And a reset. */
	virtio_quiesce(&c.dev, done, &drv);
	virtio_set_status(&c.dev, 0, 0);
	virtio_resume(&c.dev);
	virtio_quiesced(&c.dev);
	assert_int_equal(c.dev.status, 0);
	c.slow = false;
	assert_int_equal(vdriver_bring_up(&drv, &c.dev, VDRIVER_FEATURES), ACK | DRV | FOK | OK);
	assert_int_equal(c.notified[0], 4);
}

static void reset_and_freeze_meet(void **state)
{
	(void)state;
	/* A reset while a freeze waits: one quiesce serves both. */
	up();
	c.slow = true;
	virtio_quiesce(&c.dev, done, &drv);
	virtio_set_status(&c.dev, 0, 0);
	assert_int_equal(c.quiesced, 2); /* the first was bring-up's reset */
	assert_int_equal(c.done, 0);
	virtio_quiesced(&c.dev);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.reset, 2);
	assert_int_equal(c.dev.status, 0);
	virtio_resume(&c.dev);

	/* The other way round. */
	up();
	c.slow = true;
	virtio_set_status(&c.dev, 0, 0);
	virtio_quiesce(&c.dev, done, &drv);
	assert_int_equal(c.quiesced, 2);
	virtio_quiesced(&c.dev);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.dev.status, 0);

	/* DRIVER_OK while it is stopped: active, and served from the resume on. */
	c.slow = false;
	c.activated = 0;
	memset(c.notified, 0, sizeof(c.notified));
	vring_init(&drv.ring[0], &drv, &c.dev.queue[0], 16);
	virtio_set_status(&c.dev, ACK | DRV | FOK, F1);
	virtio_set_ready(&c.dev, 0, true);
	virtio_set_status(&c.dev, ACK | DRV | FOK | OK, F1);
	assert_int_equal(c.activated, 0);
	assert_int_equal(c.notified[0], 0);
	virtio_resume(&c.dev);
	assert_int_equal(c.activated, 1);
	assert_int_equal(c.notified[0], 1);
}

static void interrupts(void **state)
{
	struct virtq_chain chain;

	(void)state;
	up();
	struct vring *r = &drv.ring[0];
	uint64_t buf = vdriver_alloc(&drv, 1, 1);

	virtio_signal(&c.dev, &c.dev.queue[0]);
	assert_int_equal(c.dev.irq.raised, 0); /* nothing was pushed */
	vring_add(r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
	assert_int_equal(virtq_pop(&c.dev.queue[0], &chain), 1);
	virtq_push(&c.dev.queue[0], chain.head, 1);
	virtio_signal(&c.dev, &c.dev.queue[0]);
	assert_int_equal(c.dev.irq.raised, 1);
	assert_int_equal(c.dev.interrupt_status, VIRTIO_INTERRUPT_USED);

	uint32_t generation = c.dev.config_generation;
	virtio_config_changed(&c.dev);
	assert_int_equal(c.dev.config_generation, generation + 1);
	assert_int_equal(c.dev.irq.raised, 2);
	assert_int_equal(virtio_interrupt_read(&c.dev), 3);
	virtio_interrupt_ack(&c.dev, VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(virtio_interrupt_read(&c.dev), VIRTIO_INTERRUPT_USED);
	virtio_interrupt_ack(&c.dev, UINT32_MAX);
	assert_int_equal(virtio_interrupt_read(&c.dev), 0);
}

/* Read, acknowledge (posted, so late), and between the two the device raises again: the bit must
 * be there when the new edge makes the driver read once more. */
static void a_late_acknowledgement_loses_nothing(void **state)
{
	(void)state;
	up();
	virtio_config_changed(&c.dev);
	assert_int_equal(virtio_interrupt_read(&c.dev), VIRTIO_INTERRUPT_CONFIG);
	virtio_config_changed(&c.dev);
	virtio_interrupt_ack(&c.dev, VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(c.dev.irq.raised, 2);
	assert_int_equal(virtio_interrupt_read(&c.dev), VIRTIO_INTERRUPT_CONFIG);
	virtio_interrupt_ack(&c.dev, VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(virtio_interrupt_read(&c.dev), 0);
}

static void config_change_before_driver_ok_is_silent(void **state)
{
	(void)state;
	fresh();
	virtio_config_changed(&c.dev);
	assert_int_equal(c.dev.config_generation, 1);
	assert_int_equal(c.dev.irq.raised, 0);
	assert_int_equal(c.dev.interrupt_status, 0);
}

/* A device that has only polls in flight: its next driver doesn't wait for them. */
static void a_reset_of_polls_is_seen_at_once(void **state)
{
	struct virtio_ops polls = ops;

	(void)state;
	polls.polls_only = true;
	up();
	c.dev.ops = &polls;
	c.slow = true;
	virtio_set_status(&c.dev, 0, 0);
	assert_int_equal(c.dev.status, 0);
	assert_false(c.dev.queue[0].ready);
	assert_int_equal(c.reset, 1); /* bring-up's */
	memset(c.notified, 0, sizeof(c.notified));
	assert_int_equal(vdriver_bring_up(&drv, &c.dev, VDRIVER_FEATURES), ACK | DRV | FOK | OK);
	/* Up, but served only once the polls of the last driver are over. */
	virtio_notify(&c.dev, 0);
	assert_int_equal(c.activated, 1);
	assert_int_equal(c.notified[0], 0);
	assert_int_equal(c.quiesced, 2); /* with bring-up's: one serves all resets */
	/* A freeze waits for them as well, and serves nobody. */
	virtio_quiesce(&c.dev, done, &drv);
	virtio_quiesced(&c.dev);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.reset, 2);
	assert_int_equal(c.activated, 1);
	virtio_resume(&c.dev);
	assert_int_equal(c.activated, 2);
	assert_int_equal(c.notified[0], 1);
	/* Without one. */
	virtio_set_status(&c.dev, 0, 0);
	assert_int_equal(vdriver_bring_up(&drv, &c.dev, VDRIVER_FEATURES), ACK | DRV | FOK | OK);
	virtio_quiesced(&c.dev);
	assert_int_equal(c.reset, 3);
	assert_int_equal(c.activated, 3);
	assert_int_equal(c.notified[0], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_init),
		cmocka_unit_test(bring_up),
		cmocka_unit_test(features_taken_or_refused),
		cmocka_unit_test(driver_ok_needs_features_ok),
		cmocka_unit_test(every_status_byte),
		cmocka_unit_test(nothing_is_served_unless_running),
		cmocka_unit_test(a_fault_stops_the_device),
		cmocka_unit_test(bad_rings_are_a_fault),
		cmocka_unit_test(reset_at_every_step),
		cmocka_unit_test(quiesce_and_resume),
		cmocka_unit_test(a_resume_before_it_is_quiet),
		cmocka_unit_test(reset_and_freeze_meet),
		cmocka_unit_test(a_reset_of_polls_is_seen_at_once),
		cmocka_unit_test(interrupts),
		cmocka_unit_test(a_late_acknowledgement_loses_nothing),
		cmocka_unit_test(config_change_before_driver_ok_is_silent),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	vdriver_done(&drv);
	return failed;
}
