/* The driver's side of virtio-vsock (virtio 1.2, 2.7 and 5.10). Control thread. */
#include "vsock_driver.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"
#include "floor_stream.h"

/* Guest memory:
 *   0x1000 receive queue: descriptors, available and used ring, a page each
 *   0x4000 transmit queue, likewise
 *   0x10000 for each slot a header of 64 bytes: 64 to receive, 64 to transmit
 *   0x100000 what the stream says   0x200000 for each slot room for a chunk
 * Slot n has descriptors 2n, a header, and 2n + 1, its bytes. */
enum {
	RX,
	TX,
	RAM_BYTES = 0x800000,
	QUEUE_GPA = 0x1000,
	QUEUE_BYTES = 0x3000,
	QUEUE = 2 * VSOCK_DRIVER_SLOTS,
	HEADER_GPA = 0x10000,
	HEADER_BYTES = 64,
	TEXT_GPA = 0x100000,
	ROOM_GPA = 0x200000,
	CONTROL = VSOCK_DRIVER_SLOTS - 1, /* the transmit slot of packets without bytes */
	GUEST_PORT = 1024,
	HOST_PORT = 5000,
	ALLOC = 0x40000, /* Linux' default */
	QUIET_MS = 5000,
};
#define STALL_NS 60000000000u /* for a round */
static_assert(TEXT_GPA + sizeof(stream_text) <= ROOM_GPA, "one after the other");

static void *at(const struct vsock_driver *d, uint64_t gpa)
{
	return d->low + gpa;
}

static uint64_t header_gpa(unsigned queue, unsigned slot)
{
	return HEADER_GPA + (queue * VSOCK_DRIVER_SLOTS + slot) * HEADER_BYTES;
}

/* As much room as may come, twice. */
static unsigned rx_slots(const struct vsock_driver *d)
{
	return MIN(2 * ALLOC / d->chunk, (unsigned)VSOCK_DRIVER_SLOTS);
}

/* ---- packets --------------------------------------------------------------------------- */

/* len bytes of the stream, or none; the slot is idle. */
static void offer(struct vsock_driver *d, unsigned slot, uint16_t op, uint32_t len)
{
	struct vring_desc *desc = d->ring[TX].desc + 2u * slot;
	struct virtio_vsock_header *h = at(d, header_gpa(TX, slot));

	*h = (struct virtio_vsock_header){.src_cid = VIRTIO_VSOCK_GUEST_CID,
					  .dst_cid = VIRTIO_VSOCK_HOST_CID,
					  .src_port = GUEST_PORT,
					  .dst_port = HOST_PORT,
					  .len = len,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = op,
					  .buf_alloc = ALLOC,
					  .fwd_cnt = (uint32_t)d->received};
	d->told = d->received;
	desc[0] = (struct vring_desc){header_gpa(TX, slot), sizeof(*h), len ? VRING_NEXT : 0,
				      (uint16_t)(2 * slot + 1)};
	desc[1] = (struct vring_desc){TEXT_GPA + d->sent % STREAM_PERIOD, len, 0, 0};
	d->sent += len;
	vring_offer(&d->ring[TX], (uint16_t)(2 * slot));
}

static void offer_control(struct vsock_driver *d, uint16_t op)
{
	if (d->control_idle)
		offer(d, CONTROL, op, 0);
	d->control_idle = false;
}

static void take_packet(struct vsock_driver *d, unsigned slot)
{
	const struct virtio_vsock_header *h = at(d, header_gpa(RX, slot));

	d->alloc = h->buf_alloc;
	d->forwarded = h->fwd_cnt;
	if (h->op == VIRTIO_VSOCK_OP_RESPONSE) {
		d->up = true;
	} else if (h->op == VIRTIO_VSOCK_OP_RW) {
		d->wrong = d->wrong || h->len > d->chunk ||
			   memcmp(at(d, ROOM_GPA + slot * STREAM_CHUNK_MAX), stream_at(d->received),
				  h->len) != 0;
		d->received += h->len;
	} else if (h->op != VIRTIO_VSOCK_OP_CREDIT_UPDATE) {
		d->reset = true;
	}
	vring_offer(&d->ring[RX], (uint16_t)(2 * slot));
}

/* Bytes that the device has room for. */
static uint32_t credit(const struct vsock_driver *d)
{
	return d->alloc - ((uint32_t)d->sent - d->forwarded);
}

/* ---- one turn -------------------------------------------------------------------------- */

static void kick(struct vsock_driver *d, unsigned queue)
{
	struct vring *r = &d->ring[queue];

	if (r->kicked_idx != r->avail_idx && vring_publish(r))
		loop_event_signal(&d->kick[queue]);
}

/* Tells the device what is offered, lets it work, and takes what came back. */
static int turn(struct vsock_driver *d, uint64_t limit_ns, struct error *err)
{
	int head, r;

	kick(d, RX);
	kick(d, TX);
	r = loop_turn(d->loop, STALL_NS);
	if (r == 0 && now_ns() > limit_ns)
		r = -ETIMEDOUT;
	if (r < 0)
		return error_set(err, r, "waiting for the socket device");
	while ((head = vring_take(&d->ring[TX])) >= 0) {
		if (head / 2 == CONTROL)
			d->control_idle = true;
		else
			d->idle[d->idle_count++] = (uint16_t)(head / 2);
	}
	while ((head = vring_take(&d->ring[RX])) >= 0)
		take_packet(d, (unsigned)head / 2);
	if (d->received - d->told >= ALLOC / 4)
		offer_control(d, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	if (d->reset || d->wrong)
		return error_set(err, d->reset ? -ECONNRESET : -EBADMSG, "the guest's connection");
	return 0;
}

int vsock_driver_send(struct vsock_driver *d, uint64_t bytes, struct error *err)
{
	uint64_t end = d->sent + bytes;
	uint64_t there = virtio_vsock_stats(d->vsock).to_host + bytes;
	uint64_t limit_ns = now_ns() + STALL_NS;
	int r = 0;

	while (r == 0 && virtio_vsock_stats(d->vsock).to_host < there) {
		while (d->sent < end && d->idle_count > 0) {
			uint32_t len = (uint32_t)MIN(end - d->sent, d->chunk);

			if (credit(d) < len)
				break;
			offer(d, d->idle[--d->idle_count], VIRTIO_VSOCK_OP_RW, len);
		}
		r = turn(d, limit_ns, err);
	}
	return r;
}

int vsock_driver_receive(struct vsock_driver *d, uint64_t bytes, struct error *err)
{
	uint64_t end = d->received + bytes, limit_ns = now_ns() + STALL_NS;
	int r = 0;

	while (r == 0 && d->received < end)
		r = turn(d, limit_ns, err);
	return r;
}

/* ---- coming up, and ending ------------------------------------------------------------- */

static void on_kick_rx(struct loop_event *e, uint64_t count UNUSED)
{
	virtio_notify(container_of(e, struct vsock_driver, kick[RX])->dev, RX);
}

static void on_kick_tx(struct loop_event *e, uint64_t count UNUSED)
{
	virtio_notify(container_of(e, struct vsock_driver, kick[TX])->dev, TX);
}

static int on_connect(void *arg, uint32_t port UNUSED)
{
	struct vsock_driver *d = arg;
	int fd = d->host_fd;

	d->host_fd = -1;
	return fd >= 0 ? fd : -ECONNREFUSED;
}

static void fill(struct vsock_driver *d)
{
	for (unsigned q = RX; q <= TX; q++) {
		uint64_t gpa = QUEUE_GPA + q * QUEUE_BYTES;

		d->ring[q] = (struct vring){.size = QUEUE,
					    .desc = at(d, gpa),
					    .avail = at(d, gpa + 0x1000),
					    .used = at(d, gpa + 0x2000)};
	}
	memcpy(at(d, TEXT_GPA), stream_text, sizeof(stream_text));
	for (unsigned i = 0; i < rx_slots(d); i++) {
		struct vring_desc *desc = d->ring[RX].desc + 2 * i;

		desc[0] = (struct vring_desc){header_gpa(RX, i), sizeof(struct virtio_vsock_header),
					      VRING_WRITE | VRING_NEXT, (uint16_t)(2 * i + 1)};
		desc[1] = (struct vring_desc){ROOM_GPA + i * STREAM_CHUNK_MAX, d->chunk,
					      VRING_WRITE, 0};
		vring_offer(&d->ring[RX], (uint16_t)(2 * i));
	}
	for (uint16_t i = 0; i < CONTROL; i++)
		d->idle[d->idle_count++] = i;
	d->control_idle = true;
}

static void bring_up(struct vsock_driver *d)
{
	uint64_t features = 1ull << VIRTIO_F_VERSION_1_BIT | 1ull << VIRTIO_F_EVENT_IDX_BIT;

	virtio_set_status(d->dev, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER, features);
	virtio_set_status(d->dev, d->dev->status | VIRTIO_STATUS_FEATURES_OK, features);
	for (unsigned i = RX; i <= TX; i++) {
		struct virtq *q = &d->dev->queue[i];
		uint64_t gpa = QUEUE_GPA + i * QUEUE_BYTES;

		q->size = QUEUE;
		q->desc_gpa = gpa;
		q->avail_gpa = gpa + 0x1000;
		q->used_gpa = gpa + 0x2000;
		virtio_set_ready(d->dev, i, true);
	}
	virtio_set_status(d->dev, d->dev->status | VIRTIO_STATUS_DRIVER_OK, features);
}

static int connect_up(struct vsock_driver *d, struct error *err)
{
	uint64_t limit_ns = now_ns() + STALL_NS;
	int r = virtio_running(d->dev) ? 0
				       : error_failed(err, "the socket device refused its driver");

	offer_control(d, VIRTIO_VSOCK_OP_REQUEST);
	while (r == 0 && !d->up)
		r = turn(d, limit_ns, err);
	return r;
}

int vsock_driver_init(struct vsock_driver *d, int host_fd, uint32_t chunk, struct error *err)
{
	const struct virtio_vsock_config config = {.listen_fd = -1,
						   .connect = on_connect,
						   .arg = d};
	const struct guest_layout layout = {.range = {{.size = RAM_BYTES}}, .count = 1};
	int r;

	*d = (struct vsock_driver){.kick = {{.fire = on_kick_rx, .fd = -1},
					    {.fire = on_kick_tx, .fd = -1}},
				   .irq_fd = -1,
				   .host_fd = host_fd,
				   .chunk = chunk};
	/* The device's, so it doesn't block; the flag is this end's alone. */
	if (fcntl(host_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "setting a socket up");
	d->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->irq_fd < 0)
		return error_set_shortage(err, -errno, "making an event descriptor");
	r = loop_new(&d->loop, err);
	if (r == 0)
		r = guest_memory_init(&d->mem, &layout, err);
	for (unsigned i = RX; r == 0 && i <= TX; i++)
		r = loop_event_init(d->loop, &d->kick[i], err);
	if (r == 0)
		r = virtio_vsock_new(d->loop, &d->mem, d->irq_fd, &config, &d->vsock, err);
	if (r < 0)
		return r;
	d->dev = virtio_vsock_device(d->vsock);
	d->low = d->mem.region[0].host;
	fill(d);
	bring_up(d);
	return connect_up(d, err);
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

void vsock_driver_done(struct vsock_driver *d)
{
	bool done = !d->vsock;

	if (!d->chunk)
		return;
	if (d->vsock)
		virtio_quiesce(d->dev, quiet, &done);
	for (unsigned i = 0; i < QUIET_MS && !done; i++)
		if (loop_turn(d->loop, 1000000) < 0)
			break;
	virtio_vsock_free(d->vsock);
	loop_event_done(&d->kick[RX]);
	loop_event_done(&d->kick[TX]);
	loop_free(d->loop);
	guest_memory_done(&d->mem);
	fd_close(&d->irq_fd);
	fd_close(&d->host_fd);
	*d = (struct vsock_driver){0};
}
