/* The devices' part of a snapshot. i8042, power and pvpanic have no state. Control thread. */
#include "vm/board_state.h"

#include <stdio.h>
#include <string.h>

enum { SERIAL_VERSION = 1 };

/* A UART, as it is in the file. */
struct saved_serial {
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm, lsr_errors, thr_pending, raised;
	uint8_t rx_head, rx_count;
	uint8_t rx[SERIAL_FIFO];
};

static void serial_name(unsigned i, char name[SNAPSHOT_NAME_MAX + 1])
{
	snprintf(name, SNAPSHOT_NAME_MAX + 1, "device.serial%u", i);
}

static void save_serial(const struct serial *s, struct items_out *out)
{
	struct saved_serial saved = {
		.ier = s->ier,
		.lcr = s->lcr,
		.mcr = s->mcr,
		.scr = s->scr,
		.fcr = s->fcr,
		.dll = s->dll,
		.dlm = s->dlm,
		.lsr_errors = s->lsr_errors,
		.thr_pending = s->thr_pending,
		.raised = s->raised,
		.rx_head = (uint8_t)s->rx_head,
		.rx_count = (uint8_t)s->rx_count,
	};

	memcpy(saved.rx, s->rx, sizeof(saved.rx));
	items_put(out, "registers", SERIAL_VERSION, &saved, sizeof(saved));
}

/* What registers can't hold is refused: the device believes its own. */
static int restore_serial(struct serial *s, struct items_in *in, struct error *err)
{
	struct saved_serial saved;
	int r = items_get(in, "registers", SERIAL_VERSION, &saved, sizeof(saved), err);

	if (r == 0)
		r = items_end(in, err);
	if (r < 0)
		return r;
	if (saved.ier & ~0x0f || saved.mcr & ~0x1f || saved.fcr & ~0xc9 || saved.thr_pending > 1 ||
	    saved.lsr_errors & ~0x1e || saved.raised & ~0x0f || saved.rx_head >= SERIAL_FIFO ||
	    saved.rx_count > (saved.fcr & 1 ? SERIAL_FIFO : 1))
		return error_usage(err, "%s: registers: no UART has such", in->where);
	s->ier = saved.ier;
	s->lcr = saved.lcr;
	s->mcr = saved.mcr;
	s->scr = saved.scr;
	s->fcr = saved.fcr;
	s->dll = saved.dll;
	s->dlm = saved.dlm;
	s->lsr_errors = saved.lsr_errors;
	s->thr_pending = saved.thr_pending;
	s->raised = saved.raised;
	s->rx_head = saved.rx_head;
	s->rx_count = saved.rx_count;
	memcpy(s->rx, saved.rx, sizeof(s->rx));
	return 0;
}

/* ---- all of them ----------------------------------------------------------------------------- */

int board_state_check(const struct board *b, struct error *err)
{
	if (b->irqchip.present)
		return error_usage(err, "a machine with an IOAPIC in user space can't be "
					"snapshotted yet");
	for (unsigned i = 0; i < b->virtio_count; i++) {
		const struct virtio_device *dev = b->virtio[i].dev;

		if (dev->status || dev->features || dev->interrupt_status || dev->resetting)
			return error_usage(err,
					   "a machine whose guest uses its %s can't be "
					   "snapshotted yet: that device's state isn't saved",
					   dev->ops->name);
	}
	return 0;
}

void board_state_save(const struct board *b, struct snapshot_writer *w)
{
	char name[SNAPSHOT_NAME_MAX + 1];

	for (unsigned i = 0; i < BOARD_UARTS; i++) {
		struct items_out out = {0};

		if (b->uart_irq_fd[i] < 0)
			continue;
		save_serial(&b->uart[i], &out);
		serial_name(i, name);
		snapshot_add(w, name, SERIAL_VERSION, &out);
	}
}

int board_state_restore(struct board *b, struct snapshot_state *state, struct error *err)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < BOARD_UARTS; i++) {
		struct items_in in;

		if (b->uart_irq_fd[i] < 0)
			continue;
		serial_name(i, name);
		r = snapshot_take(state, name, SERIAL_VERSION, &in, err);
		if (r == 0)
			r = restore_serial(&b->uart[i], &in, err);
	}
	return r;
}
