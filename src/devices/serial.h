/* A 16550A UART (National Semiconductor PC16550D data sheet): eight registers, 16-byte FIFOs.
 * Control thread. */
#ifndef STASIS_DEVICES_SERIAL_H
#define STASIS_DEVICES_SERIAL_H

#include "base/state_io.h"
#include "devices/bus.h"
#include "devices/irq.h"

#define SERIAL_FIFO 16

struct serial {
	struct bus_device bus; /* 8 bytes of address space; more is ignored above offset 7 */
	struct irq_line irq;
	/* What the guest sends, as it sends it; never more than len bytes at once. */
	void (*output)(struct serial *s, const uint8_t *data, size_t len);
	/* The receive FIFO is empty again, or input counts again after a loopback; may be NULL. It
	 * may call serial_input. */
	void (*drained)(struct serial *s);
	void *arg;

	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	uint8_t lsr_errors; /* latched until LSR is read */
	bool thr_pending;   /* THR-empty interrupt is pending */
	uint8_t raised;	    /* interrupt sources (bits of IER) that had their edge */
	uint8_t rx[SERIAL_FIFO];
	unsigned rx_head, rx_count;
};

void serial_init(struct serial *s, int irq_fd);
/* Whether a source that the guest has enabled waits to be served. */
bool serial_irq_pending(const struct serial *s);
/* Bytes for the guest; returns how many fitted (none in loopback). The rest: after drained(). */
size_t serial_input(struct serial *s, const uint8_t *data, size_t len);
/* Saves or restores; a restore that is refused changes nothing. Afterwards, when interrupts can be
 * taken, serial_resume raises what is pending: an edge that is lost would be the last one. */
void serial_state(struct serial *s, struct state_io *io);
void serial_resume(struct serial *s);

#endif
