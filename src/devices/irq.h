/* An interrupt line of a device: an eventfd that the composer bound to a GSI by KVM_IRQFD.
 * Edge: each raise is one edge. Control thread. */
#ifndef STASIS_DEVICES_IRQ_H
#define STASIS_DEVICES_IRQ_H

#include <stdint.h>
#include <unistd.h>

struct irq_line {
	int fd; /* borrowed; -1: no line (unit tests), raises are only counted */
	uint64_t raised;
};

static inline void irq_raise(struct irq_line *line)
{
	static const uint64_t one = 1;

	line->raised++;
	/* EAGAIN (the counter is full) means that an edge is pending anyway. */
	if (line->fd >= 0 && write(line->fd, &one, sizeof(one)) < 0)
		return;
}

#endif
