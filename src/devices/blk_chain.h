/* What a virtio-blk driver and the device read of each other: configuration space, ranges, and a
 * request's chain taken apart. Pure; control thread.
 *
 *   chain    | type 4 | reserved 4 | sector 8 | data out … || data in … | status 1 |
 *              header: device-readable, 16 bytes              the last writable byte
 */
#ifndef STASIS_DEVICES_BLK_CHAIN_H
#define STASIS_DEVICES_BLK_CHAIN_H

#include "devices/virtq.h"

#define BLK_HEADER_BYTES  16
#define BLK_RANGE_F_UNMAP 1u

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* virtio 1.2, 5.2.6: struct virtio_blk_discard_write_zeroes. */
struct blk_range {
	uint64_t sector;
	uint32_t sectors, flags;
};

/* Virtio 1.2, 5.2.4. */
struct blk_config {
	uint64_t capacity; /* sectors */
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size; /* both in blocks of blk_size */
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_config) == 64 && offsetof(struct blk_config, num_queues) == 34 &&
		       offsetof(struct blk_config, write_zeroes_may_unmap) == 56,
	       "laid out as the specification has it");

/* A chain taken apart. */
struct blk_chain {
	struct blk_header header;
	struct iovec *out, *in; /* the data, without header and status; the chain's own */
	unsigned outs, ins;
	uint64_t out_bytes, in_bytes;
	uint8_t *status;
};

/* chain->iov is cut up in place. -EINVAL where there is no whole header, or no room for the
 * status: nobody could be told of it. */
int blk_chain_parse(struct virtq_chain *chain, struct blk_chain *ret_chain) MUST_CHECK;

#endif
