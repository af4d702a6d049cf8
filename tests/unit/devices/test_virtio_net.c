/* virtio-net as a driver sees it: frames both ways, over several buffers, commands, waiting, a lost
 * peer, freezes and resets; and in bad hands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "net_guest.h"

#define FRAME 60

static int set_up(void **state)
{
	struct net_guest *g = calloc(1, sizeof(*g));

	log_set_level(LOG_ERROR);
	net_guest_init(g);
	net_guest_boot(g, NET_FEATURES);
	*state = g;
	return 0;
}

static int tear_down(void **state)
{
	net_guest_done(*state);
	free(*state);
	return 0;
}

static void sends_frames_whole_and_in_order(void **state)
{
	struct net_guest *g = *state;
	uint8_t frame[2000];

	for (uint8_t i = 0; i < 100; i++)
		net_guest_send(g, 0, FRAME + i, i);
	for (uint8_t i = 0; i < 100; i++) {
		assert_int_equal(net_peer_receive(g, 0, frame, sizeof(frame)), FRAME + i);
		assert_int_equal(frame[0], i);
		assert_int_equal(frame[FRAME + i - 1], i);
		assert_true(vring_used(&g->drv.ring[1], NULL, NULL));
	}
	assert_int_equal(virtio_net_stats(g->net).tx_frames, 100);
}

static void receives_into_one_buffer(void **state)
{
	struct net_guest *g = *state;
	uint64_t gpa = net_guest_room(g, 0, 4, 2048);
	uint8_t frame[FRAME];
	uint32_t written;
	uint16_t buffers;

	memset(frame, 0x5a, sizeof(frame));
	net_peer_send(g, 0, frame, sizeof(frame));
	net_guest_settle(g);
	assert_true(vring_used(&g->drv.ring[0], NULL, &written));
	assert_int_equal(written, NET_HEADER_BYTES + FRAME);
	assert_memory_equal(vdriver_ptr(&g->drv, gpa + NET_HEADER_BYTES, FRAME), frame, FRAME);
	memcpy(&buffers, vdriver_ptr(&g->drv, gpa + NET_BUFFERS_AT, 2), 2);
	assert_int_equal(buffers, 1);
	assert_false(vring_used(&g->drv.ring[0], NULL, NULL));
}

/* count buffers of `room` bytes, one frame of len. */
static void spread(struct net_guest *g, unsigned count, uint32_t room, uint32_t len)
{
	uint64_t gpa = net_guest_room(g, 0, count, room);
	uint8_t *frame = malloc(len);
	uint64_t total = 0, want = NET_HEADER_BYTES + len;
	uint16_t buffers;
	uint32_t written;
	unsigned n = 0;

	for (uint32_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(i * 7);
	net_peer_send(g, 0, frame, len);
	net_guest_settle(g);
	while (vring_used(&g->drv.ring[0], NULL, &written)) {
		total += written;
		n++;
	}
	assert_int_equal(total, want);
	assert_int_equal(n, (want + room - 1) / room);
	memcpy(&buffers, vdriver_ptr(&g->drv, gpa + NET_BUFFERS_AT, 2), 2);
	assert_int_equal(buffers, n);
	/* The buffers lie one behind the other. */
	assert_memory_equal(vdriver_ptr(&g->drv, gpa + NET_HEADER_BYTES, len), frame, len);
	free(frame);
}

static void spreads_a_frame_over_buffers(void **state)
{
	/* Straight into them, and by way of our own buffer where they might not do. */
	spread(*state, 64, 1536, 9000);
	net_guest_boot(*state, NET_FEATURES);
	spread(*state, 8, 1536, 9000);
}

static void keeps_a_frame_until_there_is_room(void **state)
{
	struct net_guest *g = *state;
	uint8_t frame[3000] = {1};
	uint32_t written, total = 0;

	net_guest_room(g, 0, 1, 1000);
	net_peer_send(g, 0, frame, sizeof(frame));
	net_guest_settle(g);
	assert_false(vring_used(&g->drv.ring[0], NULL, NULL));
	net_guest_room(g, 0, 3, 1000);
	while (vring_used(&g->drv.ring[0], NULL, &written))
		total += written;
	assert_int_equal(total, NET_HEADER_BYTES + sizeof(frame));
	assert_int_equal(virtio_net_stats(g->net).rx_dropped, 0);
}

static void drops_what_one_buffer_does_not_hold(void **state)
{
	struct net_guest *g = *state;
	uint8_t frame[3000] = {1};
	uint32_t written;

	net_guest_boot(g, NET_FEATURES & ~(1ull << VIRTIO_NET_F_MRG_RXBUF));
	net_guest_room(g, 0, 2, 1600);
	net_peer_send(g, 0, frame, sizeof(frame));
	net_peer_send(g, 0, frame, FRAME);
	net_guest_settle(g);
	assert_true(vring_used(&g->drv.ring[0], NULL, &written));
	assert_int_equal(written, NET_HEADER_BYTES + FRAME);
	assert_int_equal(virtio_net_stats(g->net).rx_dropped, 1);
}

/* Chains of so many segments that few of them can be held at a time, and those are short. */
static void goes_on_where_no_more_chains_can_be_held(void **state)
{
	struct net_guest *g = *state;
	uint64_t gpa = vdriver_alloc(&g->drv, 2000, 16);
	struct vseg segs[100];
	uint8_t frame[9000] = {1};
	uint32_t written;

	for (unsigned i = 0; i < ARRAY_SIZE(segs); i++)
		segs[i] = (struct vseg){gpa + i * 20, 20, VSEG_IN};
	for (unsigned i = 0; i < 4; i++)
		vring_add_indirect(&g->drv.ring[0], ARRAY_SIZE(segs), segs);
	virtio_notify(g->dev, 0);
	/* More than two of them hold. */
	net_peer_send(g, 0, frame, sizeof(frame));
	net_peer_send(g, 0, frame, FRAME);
	net_guest_settle(g);
	assert_true(vring_used(&g->drv.ring[0], NULL, &written));
	assert_int_equal(written, NET_HEADER_BYTES + FRAME);
	assert_int_equal(virtio_net_stats(g->net).rx_dropped, 1);
	assert_int_equal(g->dev->faults, 0);
}

static void waits_for_a_slow_peer_and_loses_nothing(void **state)
{
	struct net_guest *g = *state;
	static uint8_t frame[65536];
	unsigned sent = 0, got = 0, used = 0;

	/* Far more than the socket holds. */
	for (; sent < 100; sent++) {
		if (g->drv.next_gpa > MIB(3))
			g->drv.next_gpa = MIB(2);
		if (sent >= 60 + used)
			break;
		net_guest_send(g, 0, 30000, (uint8_t)sent);
		while (vring_used(&g->drv.ring[1], NULL, NULL))
			used++;
	}
	assert_true(used < sent);
	for (unsigned i = 0; i < 1000 && got < sent; i++) {
		while (net_peer_receive(g, 0, frame, sizeof(frame)) == 30000) {
			got++;
			loop_turn(g->loop, 0);
		}
		loop_turn(g->loop, 1000000);
		while (vring_used(&g->drv.ring[1], NULL, NULL))
			used++;
	}
	assert_int_equal(got, sent);
	assert_int_equal(used, sent);
}

static void refuses_what_is_no_frame(void **state)
{
	struct net_guest *g = *state;
	uint8_t frame[100];

	net_guest_send(g, 0, 13, 1);
	net_guest_send(g, 0, 65553, 1);
	net_guest_send(g, 0, 70000, 1);
	assert_int_equal(net_peer_receive(g, 0, frame, sizeof(frame)), -1);
	assert_int_equal(virtio_net_stats(g->net).tx_refused, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_true(vring_used(&g->drv.ring[1], NULL, NULL));
	assert_int_equal(g->dev->faults, 0);
}

static void obeys_commands(void **state)
{
	struct net_guest *g = *state;
	const uint8_t mac[6] = {2, 9, 9, 9, 9, 9}, on = 1;
	const uint8_t tables[] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0};
	uint8_t seen[12];
	uint16_t pairs = 2;

	assert_int_equal(net_guest_command(g, 0, 0, &on, 1), VIRTIO_NET_OK);
	assert_int_equal(net_guest_command(g, 0, 1, &on, 1), VIRTIO_NET_OK);
	assert_int_equal(net_guest_command(g, 0, 0, mac, 2), VIRTIO_NET_ERR);
	assert_int_equal(net_guest_command(g, 1, 0, tables, sizeof(tables)), VIRTIO_NET_OK);
	assert_int_equal(net_guest_command(g, 1, 0, tables, 9), VIRTIO_NET_ERR);
	assert_int_equal(net_guest_command(g, 1, 0, "\xff\xff\xff\xff", 4), VIRTIO_NET_ERR);
	assert_int_equal(net_guest_command(g, 1, 1, mac, sizeof(mac)), VIRTIO_NET_OK);
	g->dev->ops->config_read(g->dev, 0, seen, sizeof(seen));
	assert_memory_equal(seen, mac, sizeof(mac));
	assert_int_equal(seen[8], NET_PAIRS);
	assert_int_equal(seen[10] | seen[11] << 8, 9000);
	assert_int_equal(net_guest_command(g, 1, 1, mac, 5), VIRTIO_NET_ERR);
	assert_int_equal(net_guest_command(g, 4, 0, &pairs, 2), VIRTIO_NET_OK);
	pairs = 3;
	assert_int_equal(net_guest_command(g, 4, 0, &pairs, 2), VIRTIO_NET_ERR);
	pairs = 0;
	assert_int_equal(net_guest_command(g, 4, 0, &pairs, 2), VIRTIO_NET_ERR);
	assert_int_equal(net_guest_command(g, 5, 0, tables, 8), VIRTIO_NET_ERR);
	assert_int_equal(net_guest_command(g, 77, 0, NULL, 0), VIRTIO_NET_ERR);
	assert_int_equal(virtio_net_stats(g->net).commands, 13);
}

static void uses_a_second_pair_when_told_to(void **state)
{
	struct net_guest *g = *state;
	uint8_t frame[100];
	uint16_t pairs = 2;

	net_guest_send(g, 1, FRAME, 7);
	assert_int_equal(net_peer_receive(g, 1, frame, sizeof(frame)), -1);
	assert_int_equal(net_guest_command(g, 4, 0, &pairs, 2), VIRTIO_NET_OK);
	assert_int_equal(net_peer_receive(g, 1, frame, sizeof(frame)), FRAME);
}

static void without_mq_the_third_queue_commands(void **state)
{
	struct net_guest *g = *state;
	const uint8_t on = 1;

	net_guest_boot(g, NET_FEATURES & ~(1ull << VIRTIO_NET_F_MQ));
	assert_int_equal(net_guest_command(g, 0, 0, &on, 1), VIRTIO_NET_OK);
}

static void announces(void **state)
{
	struct net_guest *g = *state;
	uint8_t seen[8];

	virtio_net_announce(g->net);
	g->dev->ops->config_read(g->dev, 0, seen, sizeof(seen));
	assert_int_equal(seen[6], VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_true(g->dev->interrupt_status & VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(net_guest_command(g, 3, 0, NULL, 0), VIRTIO_NET_OK);
	g->dev->ops->config_read(g->dev, 0, seen, sizeof(seen));
	assert_int_equal(seen[6], VIRTIO_NET_S_LINK_UP);
}

static void a_lost_peer_is_a_link_down(void **state)
{
	struct net_guest *g = *state;

	net_guest_room(g, 0, 4, 2048);
	assert_true(virtio_net_link_up(g->net));
	fd_close(&g->peer[0]);
	net_guest_settle(g);
	assert_false(virtio_net_link_up(g->net));
	assert_true(g->dev->interrupt_status & VIRTIO_INTERRUPT_CONFIG);
	/* What is sent goes nowhere, and comes back. */
	net_guest_send(g, 0, FRAME, 1);
	assert_true(vring_used(&g->drv.ring[1], NULL, NULL));
}

static void nonsense_from_the_peer_is_a_link_down(void **state)
{
	struct net_guest *g = *state;
	const uint8_t nonsense[] = {0xff, 0xff, 0xff, 0xff, 1, 2, 3};

	net_guest_room(g, 0, 4, 2048);
	assert_int_equal(write(g->peer[0], nonsense, sizeof(nonsense)), sizeof(nonsense));
	net_guest_settle(g);
	assert_false(virtio_net_link_up(g->net));
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void a_freeze_holds_nothing_and_loses_nothing(void **state)
{
	struct net_guest *g = *state;
	uint8_t frame[FRAME] = {3};
	bool done = false;

	net_guest_room(g, 0, 80, 1536);
	net_guest_settle(g);
	virtio_quiesce(g->dev, quiet, &done);
	for (unsigned i = 0; i < 1000 && !done; i++)
		loop_turn(g->loop, 1000000);
	assert_true(done);
	for (unsigned q = 0; q < g->dev->queue_count; q++)
		assert_int_equal(g->dev->queue[q].in_flight, 0);
	net_peer_send(g, 0, frame, sizeof(frame));
	net_guest_send(g, 0, FRAME, 9);
	net_guest_settle(g);
	assert_false(vring_used(&g->drv.ring[0], NULL, NULL));
	assert_false(vring_used(&g->drv.ring[1], NULL, NULL));
	virtio_resume(g->dev);
	net_guest_settle(g);
	assert_true(vring_used(&g->drv.ring[0], NULL, NULL));
	assert_true(vring_used(&g->drv.ring[1], NULL, NULL));
	assert_int_equal(net_peer_receive(g, 0, frame, sizeof(frame)), FRAME);
}

static void survives_bad_chains(void **state)
{
	struct net_guest *g = *state;
	const struct vdesc bad[] = {
		{KIB(8), 64, VDESC_NEXT | VDESC_WRITE, 0},    /* a loop */
		{VDRIVER_LOW_SIZE - 8, 64, VDESC_WRITE, 0},   /* past the end of memory */
		{UINT64_MAX - 4, 64, VDESC_WRITE, 0},	      /* around its end */
		{KIB(8), 64, VDESC_NEXT | VDESC_WRITE, 9999}, /* out of the table */
		{KIB(8), 33, VDESC_INDIRECT, 0},	      /* an odd table */
	};
	const uint8_t on = 1;

	for (unsigned q = 0; q < g->dev->queue_count; q++)
		for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
			net_guest_boot(g, NET_FEATURES);
			g->drv.ring[q].desc[0] = bad[i];
			vring_offer(&g->drv.ring[q], 0);
			if (q == 2 || q == 3) /* the second pair sleeps */
				(void)net_guest_command(g, 4, 0, "\2", 2);
			virtio_notify(g->dev, q);
			assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
		}
	/* A receive buffer too short for a header, one that can't be written, and none at all. */
	net_guest_boot(g, NET_FEATURES);
	net_guest_room(g, 0, 1, NET_HEADER_BYTES - 1);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	net_guest_boot(g, NET_FEATURES);
	vring_add(&g->drv.ring[0], 1, &(struct vseg){KIB(8), 64, VSEG_OUT});
	virtio_notify(g->dev, 0);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	net_guest_boot(g, NET_FEATURES);
	*g->drv.ring[0].avail_idx = 5000;
	virtio_notify(g->dev, 0);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	/* And is as good as new. */
	net_guest_boot(g, NET_FEATURES);
	assert_int_equal(net_guest_command(g, 0, 0, &on, 1), VIRTIO_NET_OK);
}

static void a_reset_at_every_step(void **state)
{
	struct net_guest *g = *state;
	static uint8_t frame[9000];

	for (unsigned step = 0; step < 6; step++) {
		net_guest_boot(g, NET_FEATURES);
		if (step > 0)
			net_guest_room(g, 0, 3, 1000);
		if (step > 1)
			net_peer_send(g, 0, frame, sizeof(frame));
		if (step > 2)
			loop_turn(g->loop, 1000000);
		if (step > 3)
			net_guest_send(g, 0, 20000, 1);
		if (step > 4)
			virtio_set_ready(g->dev, 0, false);
	}
	net_guest_boot(g, NET_FEATURES);
	assert_int_equal(g->dev->faults, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sends_frames_whole_and_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(receives_into_one_buffer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(spreads_a_frame_over_buffers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(keeps_a_frame_until_there_is_room, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(drops_what_one_buffer_does_not_hold, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(goes_on_where_no_more_chains_can_be_held, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(waits_for_a_slow_peer_and_loses_nothing, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(refuses_what_is_no_frame, set_up, tear_down),
		cmocka_unit_test_setup_teardown(obeys_commands, set_up, tear_down),
		cmocka_unit_test_setup_teardown(uses_a_second_pair_when_told_to, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_mq_the_third_queue_commands, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(announces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_lost_peer_is_a_link_down, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nonsense_from_the_peer_is_a_link_down, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_freeze_holds_nothing_and_loses_nothing, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(survives_bad_chains, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_reset_at_every_step, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
