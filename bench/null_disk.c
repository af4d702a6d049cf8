/* A disk that takes no time. Linked with --wrap=loop_read. Control thread. */
#include "null_disk.h"

#include <assert.h>

#include "base/util.h"
#include "blk_driver.h"

int __real_loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len,
		     uint64_t off);
int __wrap_loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len,
		     uint64_t off);

/* Reads under way: all end at the end of the loop's turn, as done() never runs inside the call. */
static struct null_disk {
	bool on;
	struct loop_timer timer;
	unsigned count;
	struct {
		struct loop_op *op;
		int res;
	} read[NULL_DISK_DEPTH];
} disk;

static void on_turn(struct loop_timer *t UNUSED)
{
	struct null_disk now = disk;

	disk.count = 0;
	for (unsigned i = 0; i < now.count; i++) {
		now.read[i].op->active = false;
		now.read[i].op->done(now.read[i].op, now.read[i].res);
	}
}

/* The loop's own reads, of events, are shorter. */
int __wrap_loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len,
		     uint64_t off)
{
	int r = 0;

	if (!disk.on || len != BLK_BLOCK)
		return __real_loop_read(loop, op, fd, buf, len, off);
	assert(disk.count < NULL_DISK_DEPTH);
	if (disk.count == 0)
		r = loop_timer_set(loop, &disk.timer, 0);
	if (r < 0)
		return r;
	op->active = true;
	disk.read[disk.count].op = op;
	disk.read[disk.count++].res = (int)len;
	return 0;
}

void null_disk_set(bool on)
{
	assert(disk.count == 0);
	disk.on = on;
	disk.timer.fire = on_turn;
}
