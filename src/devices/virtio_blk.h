/* virtio block device (virtio 1.2, 5.2) on a raw file or block device. Control thread. */
#ifndef STASIS_DEVICES_VIRTIO_BLK_H
#define STASIS_DEVICES_VIRTIO_BLK_H

#include "devices/block_file.h"
#include "devices/virtio.h"
#include "loop/loop.h"

#define VIRTIO_BLK_ID_BYTES   20 /* what GET_ID gives, without a NUL if it is full */
#define VIRTIO_BLK_MAX_QUEUES 4

/* Feature bits (virtio 1.2, 5.2.3). */
enum {
	VIRTIO_BLK_F_SEG_MAX = 2,
	VIRTIO_BLK_F_RO = 5,
	VIRTIO_BLK_F_BLK_SIZE = 6,
	VIRTIO_BLK_F_FLUSH = 9,
	VIRTIO_BLK_F_TOPOLOGY = 10,
	VIRTIO_BLK_F_MQ = 12,
	VIRTIO_BLK_F_DISCARD = 13,
	VIRTIO_BLK_F_WRITE_ZEROES = 14,
};

/* Request types and their status (virtio 1.2, 5.2.6). */
enum {
	VIRTIO_BLK_T_IN = 0,
	VIRTIO_BLK_T_OUT = 1,
	VIRTIO_BLK_T_FLUSH = 4,
	VIRTIO_BLK_T_GET_ID = 8,
	VIRTIO_BLK_T_DISCARD = 11,
	VIRTIO_BLK_T_WRITE_ZEROES = 13,
};
enum { VIRTIO_BLK_S_OK = 0, VIRTIO_BLK_S_IOERR = 1, VIRTIO_BLK_S_UNSUPP = 2 };

struct virtio_blk;

struct virtio_blk_config {
	struct block_spec file;
	const char *id;	   /* up to VIRTIO_BLK_ID_BYTES; copied */
	uint64_t iops;	   /* operations a second; 0: no limit */
	uint64_t bps;	   /* bytes read and written a second, also of zeros that have
			    * to be written; 0: no limit */
	uint64_t burst_ns; /* the burst is what the rate gives in this time; 0: 100 ms */
	unsigned queues;   /* 1 to VIRTIO_BLK_MAX_QUEUES */
};

/* Since the device was made; resets don't clear them. */
struct virtio_blk_stats {
	uint64_t reads, writes, flushes, discards, zeroes; /* that succeeded */
	uint64_t bytes_read, bytes_written;
	uint64_t errors;      /* the host failed: the guest got IOERR */
	uint64_t refused;     /* the guest asked for what can't be: IOERR or UNSUPP */
	uint64_t faults;      /* the guest broke the rules: NEEDS_RESET */
	uint64_t throttled;   /* times that a limit made a queue wait */
	uint64_t bounced;     /* transfers through a bounce buffer */
	uint64_t continued;   /* short transfers that were gone on with */
	uint64_t interrupts;  /* raised for batches of completions */
	uint64_t completions; /* requests given back */
};

int virtio_blk_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		   const struct virtio_blk_config *config, struct virtio_blk **ret_blk,
		   struct error *err) MUST_CHECK;
/* Quiesced first. One that still has operations in flight is given up: it stays, with its file
 * open, and so must guest memory; the log says so. Accepts NULL. */
void virtio_blk_free(struct virtio_blk *blk);
struct virtio_device *virtio_blk_device(struct virtio_blk *blk);
int virtio_blk_fd(const struct virtio_blk *blk); /* of the file under it; borrowed */
struct virtio_blk_stats virtio_blk_stats(const struct virtio_blk *blk);

#endif
