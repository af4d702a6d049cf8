/* See disk_guest.h. */
#include "disk_guest.h"

#include "base/util.h"

#define PENDING 0xee /* no status is this */

void disk_guest_init(struct disk_guest *g, const struct virtio_blk_config *config)
{
	struct virtio_blk_config c = *config;
	struct error err = {0};

	memset(g, 0, sizeof(*g));
	disk_image_make(&g->image, DISK_BYTES);
	vdriver_init(&g->drv);
	c.file.path = g->image.path;
	c.queues = c.queues ?: 1;
	c.id = c.id ?: "test";
	DISK_IMAGE_CHECK(loop_new(&g->loop, NULL) == 0);
	if (virtio_blk_new(g->loop, &g->drv.mem, -1, &c, &g->blk, &err) < 0) {
		fprintf(stderr, "%s\n", err.what);
		return;
	}
	g->dev = virtio_blk_device(g->blk);
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

void disk_guest_done(struct disk_guest *g)
{
	bool done = !g->blk;

	if (g->blk)
		virtio_quiesce(g->dev, quiet, &done);
	for (unsigned i = 0; i < 5000 && !done; i++)
		loop_turn(g->loop, 1000000);
	virtio_blk_free(g->blk);
	loop_free(g->loop);
	vdriver_done(&g->drv);
	disk_image_done(&g->image);
}

void disk_guest_boot(struct disk_guest *g, uint64_t features)
{
	virtio_set_status(g->dev, 0, 0);
	for (unsigned i = 0; i < 5000 && g->dev->status; i++)
		loop_turn(g->loop, 1000000);
	DISK_IMAGE_CHECK(!g->dev->status);
	/* The rings of before are done with. */
	g->drv.next_gpa = KIB(4);
	DISK_IMAGE_CHECK(vdriver_bring_up(&g->drv, g->dev, features) & VIRTIO_STATUS_DRIVER_OK);
}

void disk_guest_settle(struct disk_guest *g, unsigned limit_ms)
{
	uint64_t end_ns = now_ns() + limit_ms * 1000000ull;

	while (now_ns() < end_ns && loop_turn(g->loop, 20000000) > 0)
		;
}

struct disk_request disk_guest_add(struct disk_guest *g, unsigned q, uint32_t type, uint64_t sector,
				   unsigned n, const struct vseg *data)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {type, 0, sector};
	uint8_t pending = PENDING;
	struct vseg segs[VIRTQ_MAX_SIZE];
	struct disk_request req = {
		.header_gpa = vdriver_bytes(&g->drv, &header, sizeof(header)),
		.status_gpa = vdriver_bytes(&g->drv, &pending, 1),
	};

	DISK_IMAGE_CHECK(n + 2 <= VIRTQ_MAX_SIZE);
	segs[0] = (struct vseg){req.header_gpa, sizeof(header), VSEG_OUT};
	for (unsigned i = 0; i < n; i++)
		segs[i + 1] = data[i];
	segs[n + 1] = (struct vseg){req.status_gpa, 1, VSEG_IN};
	if (g->drv.ring[q].q->indirect)
		req.head = vring_add_indirect(&g->drv.ring[q], n + 2, segs);
	else
		req.head = vring_add(&g->drv.ring[q], n + 2, segs);
	return req;
}

uint8_t disk_guest_status(struct disk_guest *g, const struct disk_request *req)
{
	return *(uint8_t *)vdriver_ptr(&g->drv, req->status_gpa, 1);
}

uint8_t disk_guest_wait(struct disk_guest *g, unsigned q, const struct disk_request *req)
{
	virtio_notify(g->dev, q);
	for (unsigned i = 0; i < 5000 && disk_guest_status(g, req) == PENDING; i++)
		loop_turn(g->loop, 1000000);
	return disk_guest_status(g, req);
}

uint8_t disk_guest_do(struct disk_guest *g, uint32_t type, uint64_t sector, unsigned n,
		      const struct vseg *data, uint32_t *ret_written)
{
	struct disk_request req = disk_guest_add(g, 0, type, sector, n, data);
	uint8_t status = disk_guest_wait(g, 0, &req);
	uint32_t head, written = UINT32_MAX;

	/* The status is there before the used entry is seen. */
	for (unsigned i = 0; i < 100 && !vring_used(&g->drv.ring[0], &head, &written); i++)
		loop_turn(g->loop, 1000000);
	if (ret_written)
		*ret_written = written;
	return written == UINT32_MAX || head != req.head ? PENDING : status;
}
