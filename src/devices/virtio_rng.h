/* virtio entropy device (virtio 1.2, 5.4), fed by getrandom(2). Control thread. */
#ifndef STASIS_DEVICES_VIRTIO_RNG_H
#define STASIS_DEVICES_VIRTIO_RNG_H

#include "devices/virtio.h"
#include "loop/loop.h"

struct virtio_rng;

/* loop: a driver that asks for much gets it over several turns. */
int virtio_rng_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		   struct virtio_rng **ret_rng, struct error *err) MUST_CHECK;
void virtio_rng_free(struct virtio_rng *rng); /* quiesced first; accepts NULL */
struct virtio_device *virtio_rng_device(struct virtio_rng *rng);

#endif
