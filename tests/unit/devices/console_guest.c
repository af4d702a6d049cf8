/* See console_guest.h. */
#include "console_guest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

#define REQUIRE(cond)                                                                              \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "console_guest: %s:%d: %s\n", __FILE__, __LINE__, #cond);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

unsigned guest_rx_queue(unsigned port)
{
	return port ? 2 * port + 2 : 0;
}

void guest_init(struct console_guest *g, struct virtio_console_port *ports, unsigned count)
{
	struct error err = {0};

	memset(g, 0, sizeof(*g));
	vdriver_init(&g->drv);
	if (loop_new(&g->loop, &err) < 0) {
		fprintf(stderr, "skipped: %s\n", err.what);
		exit(77);
	}
	REQUIRE(virtio_console_new(g->loop, &g->drv.mem, -1, ports, count, &g->console, NULL) == 0);
	g->dev = virtio_console_device(g->console);
	g->count = count;
	for (unsigned b = 0; b < GUEST_RX_BUFFERS; b++)
		g->control_gpa[b] = vdriver_alloc(&g->drv, GUEST_PAGE, 16);
	g->message_gpa = vdriver_alloc(&g->drv, 64, 16);
	for (unsigned i = 0; i < count; i++) {
		for (unsigned b = 0; b < GUEST_RX_BUFFERS; b++)
			g->port[i].rx_gpa[b] = vdriver_alloc(&g->drv, GUEST_PAGE, 16);
		for (unsigned b = 0; b < GUEST_TX_SLOTS; b++)
			g->port[i].tx_gpa[b] = vdriver_alloc(&g->drv, GUEST_TX_BYTES, 16);
	}
}

static void note_quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

void guest_done(struct console_guest *g)
{
	bool quiet = false;

	virtio_quiesce(g->dev, note_quiet, &quiet);
	while (!quiet)
		loop_turn(g->loop, 1000000);
	virtio_console_free(g->console);
	loop_free(g->loop);
	for (unsigned i = 0; i < g->count; i++)
		free(g->port[i].data);
	vdriver_done(&g->drv);
}

void guest_fill_control(struct console_guest *g, unsigned n)
{
	for (unsigned b = 0; b < n; b++) {
		struct vseg seg = {g->control_gpa[b], GUEST_PAGE, VSEG_IN};

		g->control_by_head[vring_add(&g->drv.ring[2], 1, &seg)] = seg.gpa;
	}
	virtio_notify(g->dev, 2);
}

static void give_rx(struct console_guest *g, unsigned port, uint64_t gpa)
{
	struct vseg seg = {gpa, GUEST_PAGE, VSEG_IN};
	uint16_t head = vring_add(&g->drv.ring[guest_rx_queue(port)], 1, &seg);

	g->port[port].rx_by_head[head] = gpa;
}

void guest_fill_rx(struct console_guest *g, unsigned port)
{
	for (unsigned b = 0; b < GUEST_RX_BUFFERS; b++)
		give_rx(g, port, g->port[port].rx_gpa[b]);
	virtio_notify(g->dev, guest_rx_queue(port));
}

void guest_control(struct console_guest *g, uint32_t id, uint16_t event, uint16_t value,
		   unsigned len)
{
	uint8_t *p = vdriver_ptr(&g->drv, g->message_gpa, 64);
	struct vseg seg = {g->message_gpa, len, VSEG_OUT};
	uint32_t head;

	memcpy(p, &id, 4);
	memcpy(p + 4, &event, 2);
	memcpy(p + 6, &value, 2);
	vring_add(&g->drv.ring[3], 1, &seg);
	virtio_notify(g->dev, 3);
	/* Linux spins here until the device has taken it, so it must be at once. */
	REQUIRE(!virtio_running(g->dev) || vring_used(&g->drv.ring[3], &head, NULL));
}

void guest_open(struct console_guest *g, unsigned port, bool open)
{
	guest_control(g, port, PORT_OPEN, open, 8);
}

static void take_message(struct console_guest *g, const struct guest_message *m)
{
	struct guest_port *p = &g->port[m->id];

	REQUIRE(m->id < g->count);
	REQUIRE(g->traced < GUEST_TRACE);
	g->trace[g->traced++] = *m;
	if (m->event == PORT_ADD) {
		if (!p->added)
			guest_fill_rx(g, m->id);
		p->added = true;
		guest_control(g, m->id, PORT_READY, 1, 8);
		return;
	}
	REQUIRE(p->added);
	switch (m->event) {
	case CONSOLE_PORT:
		p->console = true;
		guest_open(g, m->id, true);
		break;
	case RESIZE:
		REQUIRE(m->len == 4);
		memcpy(&p->cols, m->rest, 2);
		memcpy(&p->rows, m->rest + 2, 2);
		break;
	case PORT_OPEN:
		p->host_open = m->value;
		if (!m->value)
			p->len_at_close = p->len;
		break;
	case PORT_NAME:
		memcpy(p->name, m->rest, m->len);
		p->name[m->len] = 0;
		break;
	default:
		REQUIRE(m->event == PORT_NAME);
	}
}

static void look_control(struct console_guest *g)
{
	uint32_t head, written;

	while (vring_used(&g->drv.ring[2], &head, &written)) {
		struct guest_message m = {0};
		struct vseg seg = {g->control_by_head[head], GUEST_PAGE, VSEG_IN};
		const uint8_t *p = vdriver_ptr(&g->drv, seg.gpa, GUEST_PAGE);

		REQUIRE(written >= 8 && written < 128);
		memcpy(&m.id, p, 4);
		memcpy(&m.event, p + 4, 2);
		memcpy(&m.value, p + 6, 2);
		m.len = written - 8;
		memcpy(m.rest, p + 8, m.len);
		take_message(g, &m);
		g->control_by_head[vring_add(&g->drv.ring[2], 1, &seg)] = seg.gpa;
		virtio_notify(g->dev, 2);
	}
}

static void look_rx(struct console_guest *g, unsigned port)
{
	struct guest_port *p = &g->port[port];
	uint32_t head, written;
	bool any = false;

	while (vring_used(&g->drv.ring[guest_rx_queue(port)], &head, &written)) {
		REQUIRE(written && written <= GUEST_PAGE);
		if (p->len + written > p->cap) {
			p->cap = 2 * (p->len + written);
			p->data = realloc(p->data, p->cap);
			REQUIRE(p->data);
		}
		memcpy(p->data + p->len, vdriver_ptr(&g->drv, p->rx_by_head[head], written),
		       written);
		p->len += written;
		if (!p->rx_keep)
			give_rx(g, port, p->rx_by_head[head]);
		any = true;
	}
	if (any)
		virtio_notify(g->dev, guest_rx_queue(port));
}

static void look_tx(struct console_guest *g, unsigned port)
{
	struct guest_port *p = &g->port[port];
	uint32_t head;

	while (vring_used(&g->drv.ring[guest_rx_queue(port) + 1], &head, NULL))
		p->tx_taken[p->tx_by_head[head]] = false;
}

void guest_look(struct console_guest *g)
{
	/* The interrupt handlers of the data queues run before the control message's work. */
	for (unsigned i = 0; i < g->count; i++) {
		look_rx(g, i);
		look_tx(g, i);
	}
	look_control(g);
}

void guest_turn(struct console_guest *g)
{
	loop_turn(g->loop, 0);
	if (g->dev->status & VIRTIO_STATUS_DRIVER_OK)
		guest_look(g);
}

bool guest_until(struct console_guest *g, bool (*cond)(void *arg), void *arg)
{
	uint64_t end_ns = now_ns() + 2000000000u;

	while (!cond(arg)) {
		if (now_ns() > end_ns)
			return false;
		loop_turn(g->loop, 1000000);
		if (g->dev->status & VIRTIO_STATUS_DRIVER_OK)
			guest_look(g);
	}
	return true;
}

size_t guest_send(struct console_guest *g, unsigned port, const void *data, size_t len,
		  unsigned segs)
{
	struct guest_port *p = &g->port[port];
	struct vring *ring = &g->drv.ring[guest_rx_queue(port) + 1];
	struct vseg seg[8];
	unsigned slot = 0, n = 0;
	size_t done = 0;

	while (slot < GUEST_TX_SLOTS && p->tx_taken[slot])
		slot++;
	if (slot == GUEST_TX_SLOTS)
		return 0;
	REQUIRE(segs >= 1 && segs <= 4);
	len = MIN(len, GUEST_TX_BYTES);
	memcpy(vdriver_ptr(&g->drv, p->tx_gpa[slot], GUEST_TX_BYTES), data, len);
	for (; n < segs && done < len; n++) {
		size_t step = n + 1 < segs ? len / segs : len - done;

		if (!step)
			step = len - done;
		seg[n] = (struct vseg){p->tx_gpa[slot] + done, (uint32_t)step, VSEG_OUT};
		done += step;
	}
	p->tx_taken[slot] = true;
	p->tx_by_head[vring_add(ring, n, seg)] = slot;
	virtio_notify(g->dev, guest_rx_queue(port) + 1);
	return len;
}

unsigned guest_unsent(const struct console_guest *g, unsigned port)
{
	unsigned n = 0;

	for (unsigned slot = 0; slot < GUEST_TX_SLOTS; slot++)
		n += g->port[port].tx_taken[slot];
	return n;
}

static bool is_reset(void *arg)
{
	const struct console_guest *g = arg;

	return g->dev->status == 0;
}

void guest_boot(struct console_guest *g, uint64_t features)
{
	/* The reset may have to wait for operations; nothing is looked at meanwhile. Fresh rings
	 * each time: vdriver's memory is enough for a hundred boots. */
	virtio_set_status(g->dev, 0, 0);
	for (uint64_t end_ns = now_ns() + 2000000000u; !is_reset(g);) {
		REQUIRE(now_ns() < end_ns);
		loop_turn(g->loop, 1000000);
	}
	for (unsigned i = 0; i < g->count; i++) {
		struct guest_port *p = &g->port[i];

		p->added = p->console = p->host_open = false;
		p->name[0] = 0;
		memset(p->tx_taken, 0, sizeof(p->tx_taken));
	}
	g->traced = 0;
	REQUIRE(vdriver_bring_up(&g->drv, g->dev, features) & VIRTIO_STATUS_DRIVER_OK);
	if (!(features & 2))
		return;
	guest_fill_control(g, GUEST_RX_BUFFERS);
	guest_control(g, UINT32_MAX, DEVICE_READY, 1, 8);
}

void guest_boot_linux(struct console_guest *g)
{
	guest_boot(g, VDRIVER_FEATURES | 3);
	/* Nothing here needs the loop: all is answered within the notifications. */
	guest_look(g);
	guest_look(g);
}
