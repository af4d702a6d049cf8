/* virtio entropy device (virtio 1.2, 5.4): each buffer is filled by getrandom(2). Control thread.
 * A driver may ask for ever: what one turn of the loop gives is bounded. */
#include "devices/virtio_rng.h"

#include <errno.h>
#include <sys/random.h>

#include "base/util.h"

#define TURN_BYTES  65536
#define TURN_CHAINS 64
/* Until getrandom, which has said that the host has no entropy yet, is asked again. */
#define RETRY_NS 10000000u

struct virtio_rng {
	struct virtio_device dev;
	struct loop *loop;
	struct loop_timer again;
};

static struct virtio_rng *from_device(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_rng, dev);
}

static void again(struct virtio_rng *rng, uint64_t delay_ns)
{
	/* Without memory for a timer, the driver's next notification has to do. */
	if (loop_timer_set(rng->loop, &rng->again, now_ns() + delay_ns) < 0)
		log_warn("virtio-rng: no memory for a timer");
}

/* Fills at most room bytes of the chain; returns how many. */
static size_t fill(const struct virtq_chain *chain, size_t room)
{
	size_t done = 0;

	for (unsigned i = chain->out; i < chain->out + chain->in && done < room; i++) {
		size_t want = MIN(chain->iov[i].iov_len, room - done), got = 0;

		while (got < want) {
			ssize_t n = getrandom((uint8_t *)chain->iov[i].iov_base + got, want - got,
					      GRND_NONBLOCK);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return done + got;
			got += (size_t)n;
		}
		done += got;
	}
	return done;
}

static void serve(struct virtio_rng *rng)
{
	struct virtq *q = &rng->dev.queue[0];
	struct virtq_chain chain;
	size_t room = TURN_BYTES;

	for (unsigned n = 0; virtio_running(&rng->dev); n++) {
		if (n == TURN_CHAINS || !room) {
			again(rng, 0);
			break;
		}

		int rc = virtq_pop(q, &chain);
		if (!rc)
			break;
		if (rc > 0 && !chain.in_bytes) {
			virtq_unpop(q);
			rc = -ENOBUFS;
		}
		if (rc < 0) {
			virtio_fault(&rng->dev, "bad chain (%d)", rc);
			return;
		}

		/* 5.4.6.2: fewer bytes than the buffer holds are allowed, none are not. */
		size_t written = fill(&chain, room);
		if (!written) {
			virtq_unpop(q);
			again(rng, RETRY_NS);
			break;
		}
		virtq_push(q, chain.head, (uint32_t)written);
		room -= written;
	}
	virtio_signal(&rng->dev, q);
}

static void serve_again(struct loop_timer *t)
{
	serve(container_of(t, struct virtio_rng, again));
}

static void config_read(struct virtio_device *dev UNUSED, uint64_t offset UNUSED, void *data,
			unsigned len)
{
	memset(data, 0, len);
}

static void notify(struct virtio_device *dev, unsigned q UNUSED)
{
	serve(from_device(dev));
}

static void quiesce(struct virtio_device *dev)
{
	struct virtio_rng *rng = from_device(dev);

	loop_timer_clear(rng->loop, &rng->again);
	virtio_quiesced(dev);
}

static void reset(struct virtio_device *dev UNUSED)
{
	/* Nothing is kept between notifications. */
}

static const struct virtio_ops rng_ops = {
	.name = "virtio-rng",
	.device_id = 4,
	.queues = 1,
	.queue_size = 64,
	.config_read = config_read,
	.notify = notify,
	.quiesce = quiesce,
	.reset = reset,
};

int virtio_rng_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		   struct virtio_rng **ret_rng, struct error *err)
{
	struct virtio_rng *rng = calloc(1, sizeof(*rng));

	if (!rng)
		return error_set_shortage(err, -ENOMEM, "making a virtio entropy device");
	virtio_init(&rng->dev, &rng_ops, mem, irq_fd);
	rng->loop = loop;
	rng->again.fire = serve_again;
	*ret_rng = rng;
	return 0;
}

void virtio_rng_free(struct virtio_rng *rng)
{
	if (!rng)
		return;
	loop_timer_clear(rng->loop, &rng->again);
	free(rng);
}

struct virtio_device *virtio_rng_device(struct virtio_rng *rng)
{
	return &rng->dev;
}
