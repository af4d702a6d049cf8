/* While it is on, reads through the loop end well at once, with nothing read: what is left is what
 * virtio-blk costs by itself. Control thread. */
#ifndef STASIS_BENCH_NULL_DISK_H
#define STASIS_BENCH_NULL_DISK_H

#include "loop/loop.h"

#define NULL_DISK_DEPTH 128 /* at least BLK_DEPTH_MAX */

/* Nothing is under way. */
void null_disk_set(bool on);

#endif
