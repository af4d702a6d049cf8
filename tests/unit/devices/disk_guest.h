/* A driver of virtio-blk for tests: one disk on a temporary image, requests and their answers.
 * Failures to set up end the test program. */
#ifndef STASIS_TESTS_DISK_GUEST_H
#define STASIS_TESTS_DISK_GUEST_H

#include "devices/virtio_blk.h"
#include "disk_image.h"
#include "vdriver.h"

#define DISK_BYTES MIB(4)
#define DISK_FEATURES                                                                              \
	(VDRIVER_FEATURES | 1u << VIRTIO_BLK_F_FLUSH | 1u << VIRTIO_BLK_F_MQ |                     \
	 1u << VIRTIO_BLK_F_DISCARD | 1u << VIRTIO_BLK_F_WRITE_ZEROES)

struct disk_guest {
	struct loop *loop;
	struct vdriver drv;
	struct disk_image image;
	struct virtio_blk *blk;
	struct virtio_device *dev;
};

struct disk_range {
	uint64_t sector;
	uint32_t sectors, flags;
};

/* One request: a header, n parts of data, a status, all in guest memory. */
struct disk_request {
	uint64_t header_gpa, status_gpa;
	uint16_t head;
};

/* config->file.path is set to the image's; queues and id have defaults. */
void disk_guest_init(struct disk_guest *g, const struct virtio_blk_config *config);
void disk_guest_done(struct disk_guest *g);
/* Reset and up again, all queues ready. */
void disk_guest_boot(struct disk_guest *g, uint64_t features);
/* Turns the loop until nothing comes back for a while, at most limit_ms. */
void disk_guest_settle(struct disk_guest *g, unsigned limit_ms);
/* Puts a request into ring q, without a notification. */
struct disk_request disk_guest_add(struct disk_guest *g, unsigned q, uint32_t type, uint64_t sector,
				   unsigned n, const struct vseg *data);
/* Notifies, and turns until it is answered; returns the status. */
uint8_t disk_guest_wait(struct disk_guest *g, unsigned q, const struct disk_request *req);
/* add and wait. *ret_written is the used length; may be NULL. */
uint8_t disk_guest_do(struct disk_guest *g, uint32_t type, uint64_t sector, unsigned n,
		      const struct vseg *data, uint32_t *ret_written);
uint8_t disk_guest_status(struct disk_guest *g, const struct disk_request *req);

#endif
