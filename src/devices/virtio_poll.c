/* Looks at the rings of a device on each turn of the loop, from its first notification until the
 * loop is about to sleep; then notifications are on. Control thread. */
#include "devices/virtio_poll.h"

#include "base/util.h"

_Static_assert(VIRTIO_MAX_QUEUES <= 64, "each has a bit");

/* Takes the lowest of a set of queues that isn't empty. */
static unsigned take(uint64_t *queues)
{
	unsigned lowest = (unsigned)__builtin_ctzll(*queues);

	*queues &= *queues - 1;
	return lowest;
}

static bool poll_rings(struct loop_source *source)
{
	struct virtio_poll *p = container_of(source, struct virtio_poll, source);
	struct virtio_device *dev = p->dev;
	bool found = false;

	for (uint64_t left = p->queues; left && virtio_running(dev) && !p->held;) {
		unsigned i = take(&left);

		if (dev->queue[i].polled && virtq_has_more(&dev->queue[i])) {
			virtio_notify(dev, i);
			found = true;
		}
	}
	return found;
}

/* What it finds stays polled: the next turn serves it. A device that can't run serves nothing, and
 * one that is held will; neither may keep the loop awake. */
static bool arm_rings(struct loop_source *source)
{
	struct virtio_poll *p = container_of(source, struct virtio_poll, source);
	struct virtio_device *dev = p->dev;
	uint64_t left = p->queues;

	if (p->held)
		return false;
	p->queues = 0;
	while (left) {
		unsigned i = take(&left);

		if (dev->queue[i].polled && virtq_poll_end(&dev->queue[i]) && virtio_running(dev))
			virtio_poll_begin(p, i);
	}
	return p->queues;
}

/* The next notification begins it anew. */
static void disarm_rings(struct loop_source *source UNUSED)
{
}

void virtio_poll_init(struct virtio_poll *p, struct loop *loop, struct virtio_device *dev)
{
	*p = (struct virtio_poll){
		.source = {.poll = poll_rings, .arm = arm_rings, .disarm = disarm_rings},
		.loop = loop,
		.dev = dev,
	};
	loop_add_source(loop, &p->source);
}

void virtio_poll_done(struct virtio_poll *p)
{
	if (p->loop)
		loop_remove_source(p->loop, &p->source);
	p->loop = NULL;
}

void virtio_poll_stop(struct virtio_poll *p)
{
	while (p->queues) {
		struct virtq *q = &p->dev->queue[take(&p->queues)];

		if (q->polled)
			(void)virtq_poll_end(q);
	}
}
