/* Operations on the file under a disk, whole: long ones go in steps, short transfers go on, what
 * direct I/O can't take from the guest's buffers goes through one of ours, what the file system
 * lacks is done another way. Control thread.
 *
 *   block_io_read … ── loop_readv ── done(res) ──┬─ all there ── op->done(op, 0)
 *                        ^                       ├─ short: the rest
 *                        └───────────────────────┴─ EAGAIN, no buffer, no room in the ring: waits
 */
#ifndef STASIS_DEVICES_BLOCK_IO_H
#define STASIS_DEVICES_BLOCK_IO_H

#include <sys/queue.h>
#include <sys/uio.h>

#include "devices/block_file.h"
#include "loop/loop.h"

/* Bounce buffers of one disk: this is all that a guest can make us hold. */
#define BLOCK_IO_BOUNCES      16
#define BLOCK_IO_BOUNCE_BYTES 262144u

enum block_io_kind {
	BLOCK_IO_READ,
	BLOCK_IO_WRITE,
	BLOCK_IO_FLUSH,
	BLOCK_IO_DISCARD,
	BLOCK_IO_ZERO,
};

/* How zeroes are made: blocks go where they may; else they stay, and hold zeros; else zeros are
 * written. */
enum block_io_zeroing { BLOCK_IO_PUNCH, BLOCK_IO_ZERO_RANGE, BLOCK_IO_ZERO_WRITE };

/* Embedded in what it works for, which lives until done(). Zeroed but for done before its first
 * use; done() may start the next on it. */
struct block_io_op {
	/* res: 0, all of it is done, or a negative errno: some of it may be. -ENODATA: the file
	 * ends before. */
	void (*done)(struct block_io_op *op, int res);
	/* The rest is block_io's. */
	struct loop_op op;
	struct block_io *io;
	enum block_io_kind kind;
	bool may_unmap; /* zeroes: the range may be left without blocks */
	bool bounced;	/* goes through a bounce buffer */
	enum block_io_zeroing zeroing;
	uint16_t tries; /* ended by EAGAIN */
	uint32_t step;	/* bytes asked of the kernel now */
	struct iovec *iov;
	unsigned segments;
	unsigned used;	       /* of those, asked of the kernel now */
	size_t cut;	       /* bytes that the last of them is shorter meanwhile */
	uint64_t offset, left; /* what is not done yet */
	uint8_t *bounce;       /* held while in use */
	TAILQ_ENTRY(block_io_op) link;
};

TAILQ_HEAD(block_io_list, block_io_op);

struct block_io {
	struct loop *loop;
	const struct block_file *file;
	int fd; /* the file's, or the loop's handle for it; once `opened` */
	bool opened;
	uint8_t *bounce[BLOCK_IO_BOUNCES]; /* idle ones */
	unsigned bounces_idle, bounces_made;
	/* Asked before each step but an operation's first: true ends the operation with -ECANCELED.
	 * NULL: never. */
	bool (*stopping)(struct block_io *io);
	struct block_io_list waiting;
	struct loop_timer retry;	    /* armed while somebody waits */
	bool no_zero_range, no_punch;	    /* the file system said so */
	unsigned active;		    /* operations between start and done() */
	uint64_t bounced, continued, waits; /* counters: operations; short ones; waits */
};

/* file outlives io. */
void block_io_init(struct block_io *io, struct loop *loop, const struct block_file *file);
/* Nothing is active. Accepts a zeroed one. */
void block_io_done(struct block_io *io);

/* All: done() runs once, and inside the call only where the host has no memory left or the loop is
 * being freed. Offsets and lengths are multiples of file->block_bytes and
 * lie within file->bytes; iov[0 .. n), n not 0, is used up while the operation goes on. */
void block_io_read(struct block_io *io, struct block_io_op *op, struct iovec *iov, unsigned n,
		   uint64_t offset);
void block_io_write(struct block_io *io, struct block_io_op *op, struct iovec *iov, unsigned n,
		    uint64_t offset);
/* Every write whose done() has run is on the disk when this is done. */
void block_io_flush(struct block_io *io, struct block_io_op *op);
/* A hint: where it can't be had, nothing happens, and that is no error. */
void block_io_discard(struct block_io *io, struct block_io_op *op, uint64_t offset, uint64_t len);
/* The range reads as zeros afterwards. */
void block_io_zero(struct block_io *io, struct block_io_op *op, uint64_t offset, uint64_t len,
		   bool may_unmap);
/* Whether that is known to write them. */
bool block_io_writes_zeros(const struct block_io *io, bool may_unmap);

#endif
