/* Fuzzes virtio-blk from the guest's side: descriptors, rings, whole requests, freezes and resets
 * in any order, on a small image with a short file beneath at times. The input is a list of
 * commands, see step(). What must hold: nothing but the guest is hurt, every byte of the host's
 * file outside the disk stays, and the device always comes to rest. */
#include <sys/mman.h>
#include <unistd.h>

#include "devices/virtio_blk.h"
#include "fuzz.h"
#include "vdriver.h"

#define QUEUES	   2
#define DISK_BYTES KIB(64)
#define MAX_STEPS  300
#define MAX_BOOTS  6
/* Where the driver's chains point: all over the low region, and past its end. */
#define ADDRESS_SPAN (VDRIVER_LOW_SIZE + KIB(64))
#define FEATURES                                                                                   \
	(VDRIVER_FEATURES | 1u << VIRTIO_BLK_F_FLUSH | 1u << VIRTIO_BLK_F_DISCARD |                \
	 1u << VIRTIO_BLK_F_WRITE_ZEROES | 1u << VIRTIO_BLK_F_MQ)

struct fuzz {
	struct loop *loop;
	struct vdriver drv;
	struct virtio_blk *blk;
	struct virtio_device *dev;
	int image;
	unsigned boots;
};

static void quiet(struct virtio_device *dev, void *arg)
{
	(void)dev;
	*(bool *)arg = true;
}

static void freeze(struct fuzz *f)
{
	bool done = false;

	virtio_quiesce(f->dev, quiet, &done);
	for (unsigned i = 0; i < 5000 && !done; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(done);
}

static void boot(struct fuzz *f, uint64_t features)
{
	if (f->boots == MAX_BOOTS)
		return;
	f->boots++;
	virtio_set_status(f->dev, 0, 0);
	for (unsigned i = 0; i < 5000 && f->dev->status; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(!f->dev->status);
	vdriver_bring_up(&f->drv, f->dev, features & virtio_offered(f->dev));
}

/* One descriptor of ring q, anything in it. */
static void describe(struct fuzz *f, struct fuzz_input *in, unsigned q)
{
	struct vring *r = &f->drv.ring[q];
	unsigned i = fuzz_u8(in) % r->size;

	r->desc[i] = (struct vdesc){
		.addr = fuzz_take(in, 3) % ADDRESS_SPAN,
		.len = fuzz_u16(in),
		.flags = (uint16_t)(fuzz_u8(in) & 7),
		.next = fuzz_u8(in),
	};
}

/* A whole request, with a type and place of the input's. Its three descriptors may be in use. */
static void request(struct fuzz *f, struct fuzz_input *in, unsigned q, bool indirect)
{
	struct vring *r = &f->drv.ring[q];
	unsigned head = fuzz_u8(in) % (r->size - 3);
	uint64_t gpa = KIB(1) + head * 64ull;
	uint32_t type = fuzz_u8(in) % 16;
	uint64_t sector = fuzz_u8(in);
	struct vdesc chain[3] = {
		{gpa, 16, VDESC_NEXT, (uint16_t)(head + 1)},
		{MIB(1) + fuzz_u16(in), fuzz_u16(in) & 0x7fff, VDESC_NEXT, (uint16_t)(head + 2)},
		{gpa + 16, 1, VDESC_WRITE, 0},
	};

	if (type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID)
		chain[1].flags |= VDESC_WRITE;
	if (sector & 1)
		chain[1].len &= ~511u;
	memcpy(vdriver_ptr(&f->drv, gpa, 4), &type, 4);
	memcpy(vdriver_ptr(&f->drv, gpa + 8, 8), &sector, 8);
	if (indirect) {
		for (unsigned i = 0; i < 2; i++)
			chain[i].next = (uint16_t)(i + 1);
		memcpy(vdriver_ptr(&f->drv, KIB(32) + head * 48ull, 48), chain, 48);
		r->desc[head] = (struct vdesc){KIB(32) + head * 48ull, 48, VDESC_INDIRECT, 0};
	} else {
		memcpy(&r->desc[head], chain, sizeof(chain));
	}
	vring_offer(r, (uint16_t)head);
	virtio_notify(f->dev, q);
}

static void step(struct fuzz *f, struct fuzz_input *in)
{
	uint8_t op = fuzz_u8(in), config[16];
	unsigned q = (op >> 4) % QUEUES;
	struct vring *r = &f->drv.ring[q];

	switch (op & 15) {
	case 0:
	case 1:
		describe(f, in, q);
		break;
	case 2:
		vring_offer(r, fuzz_u8(in));
		virtio_notify(f->dev, q);
		break;
	case 3:
	case 4:
	case 5:
		request(f, in, q, op & 64);
		break;
	case 6:
		virtio_notify(f->dev, q);
		break;
	case 7:
	case 8:
		loop_turn(f->loop, 0);
		break;
	case 9:
		boot(f, op & 16 ? FEATURES : op & 32 ? 0 : VDRIVER_FEATURES);
		break;
	case 10:
		freeze(f);
		virtio_resume(f->dev);
		break;
	case 11:
		*r->avail_idx = fuzz_u16(in);
		break;
	case 12:
		*(uint8_t *)vdriver_ptr(&f->drv, fuzz_take(in, 3) % VDRIVER_LOW_SIZE, 1) =
			fuzz_u8(in);
		break;
	case 13:
		virtio_set_ready(f->dev, q, fuzz_u8(in) & 1);
		break;
	case 14:
		f->dev->ops->config_read(f->dev, fuzz_u8(in), config, 8);
		break;
	default:
		/* Somebody on the host cuts the file short, or makes it whole. */
		FUZZ_CHECK(ftruncate(f->image, op & 16 ? DISK_BYTES : DISK_BYTES / 3) == 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop;
	static int image = -1;
	static char path[64];
	struct fuzz_input in = {data, size};
	struct fuzz f = {0};
	struct error err = {0};
	struct virtio_blk_config config = {.id = "fuzz", .queues = QUEUES};

	if (!loop) {
		log_set_level(LOG_ERROR);
		image = memfd_create("fuzz-disk", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", image);
		FUZZ_CHECK(image >= 0 && loop_new(&loop, NULL) == 0);
	}
	f.loop = loop;
	f.image = image;
	FUZZ_CHECK(ftruncate(image, 0) == 0 && ftruncate(image, DISK_BYTES) == 0);
	if (size && data[0] & 128)
		config.iops = 100000;
	config.file = (struct block_spec){.path = path, .read_only = size && data[0] == 127};
	vdriver_init(&f.drv);
	/* Requests lie below the rings. */
	f.drv.next_gpa = KIB(64);
	if (virtio_blk_new(loop, &f.drv.mem, -1, &config, &f.blk, &err) < 0)
		fprintf(stderr, "%s\n", err.what);
	FUZZ_CHECK(f.blk);
	f.dev = virtio_blk_device(f.blk);
	boot(&f, FEATURES);

	for (unsigned n = 0; in.left && n < MAX_STEPS; n++)
		step(&f, &in);

	freeze(&f);
	virtio_blk_free(f.blk);
	/* The disk ends where it ends. */
	FUZZ_CHECK(lseek(image, 0, SEEK_END) <= (off_t)DISK_BYTES);
	vdriver_done(&f.drv);
	return 0;
}
