/* The devices' part of a snapshot: one list, for both ways. Control thread. */
#include "vm/board_state.h"

#include <stdio.h>

#include "base/util.h"

enum { DEVICE_VERSION = 1 };

/* Where devices' state goes, or comes from. */
struct transfer {
	struct snapshot_writer *to;  /* NULL: restoring */
	struct snapshot_state *from; /* NULL: saving */
	int r;
	struct error *err;
};

static void restore(struct transfer *t, const char *name,
		    void (*state)(void *dev, struct state_io *io), void *dev)
{
	struct state_io io;

	if (t->r == 0)
		t->r = snapshot_take(t->from, name, DEVICE_VERSION, &io, t->err);
	if (t->r < 0)
		return;
	state(dev, &io);
	t->r = state_result(&io, t->err);
}

/* The n-th device of a kind. */
static void move(struct transfer *t, const char *kind, unsigned n,
		 void (*state)(void *dev, struct state_io *io), void *dev)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	struct state_io io;

	snprintf(name, sizeof(name), "device.%s%u", kind, n);
	if (t->from) {
		restore(t, name, state, dev);
		return;
	}
	state_save(&io);
	state(dev, &io);
	snapshot_add(t->to, name, DEVICE_VERSION, &io);
}

static void uart(void *dev, struct state_io *io)
{
	serial_state(dev, io);
}

static void legacy(void *dev, struct state_io *io)
{
	legacy_state(dev, io);
}

static void ioapic(void *dev, struct state_io *io)
{
	ioapic_state(dev, io);
}

static void vmgenid(void *dev, struct state_io *io)
{
	vmgenid_state(dev, io);
}

static void virtio(void *dev, struct state_io *io)
{
	virtio_mmio_state(dev, io);
}

static bool has(const struct board *b, enum arch_device kind)
{
	for (size_t i = 0; i < b->slot_count; i++)
		if (b->slot[i].kind == kind)
			return true;
	return false;
}

static void move_all(struct board *b, struct transfer *t)
{
	for (unsigned i = 0; i < BOARD_UARTS; i++)
		if (b->uart_irq_fd[i] >= 0)
			move(t, "serial", i, uart, &b->uart[i]);
	if (b->irqchip.present)
		move(t, "ioapic", 0, ioapic, &b->irqchip.ioapic);
	if (has(b, ARCH_I8042))
		move(t, "i8042", 0, legacy, &b->i8042);
	if (has(b, ARCH_POWER))
		move(t, "power", 0, legacy, &b->power);
	if (has(b, ARCH_PVPANIC))
		move(t, "pvpanic", 0, legacy, &b->pvpanic);
	/* A guest that was saved before there was one knows of none. */
	if (b->vmgenid_irq_fd >= 0 && (t->to || snapshot_has(t->from, "device.vmgenid0")))
		move(t, "vmgenid", 0, vmgenid, &b->vmgenid);
	for (unsigned i = 0; i < b->virtio_count; i++)
		move(t, "virtio", i, virtio, &b->virtio[i].mmio);
}

void board_state_save(struct board *b, struct snapshot_writer *w)
{
	struct transfer t = {.to = w};

	/* What the guest has half written is not kept. */
	if (b->irqchip.present)
		ioapic_settle(&b->irqchip.ioapic);
	move_all(b, &t);
}

int board_state_restore(struct board *b, struct snapshot_state *state, struct error *err)
{
	struct transfer t = {.from = state, .err = err};

	move_all(b, &t);
	return t.r;
}

/* Where the controller is KVM's, nobody says when the guest lets the interrupt through: it is
 * looked at after 1 ms and then after twice as long each time. A guest that has not done so after a
 * minute has no driver for it. */
#define RETRY_NS     1000000u
#define RETRY_MAX_NS 60000000000u

static uint32_t vmgenid_gsi(const struct board *b)
{
	for (size_t i = 0; i < b->slot_count; i++)
		if (b->slot[i].kind == ARCH_VMGENID)
			return b->slot[i].gsi;
	return UINT32_MAX;
}

static void tell_generation(struct board *b)
{
	if (!b->vmgenid.changed || b->vmgenid_retry_ns > RETRY_MAX_NS)
		return;
	/* Without memory for the timer it is now or never. */
	if (!arch_edge_is_lost(b->kvm, vmgenid_gsi(b)) ||
	    loop_timer_set(b->loop, &b->vmgenid_retry, now_ns() + b->vmgenid_retry_ns) < 0)
		vmgenid_resume(&b->vmgenid);
	b->vmgenid_retry_ns *= 2;
}

static void on_retry(struct loop_timer *t)
{
	tell_generation(container_of(t, struct board, vmgenid_retry));
}

void board_state_settle(struct board *b)
{
	/* Routes raise what waits for them: board.c, on_unmasked. */
	if (b->irqchip.present) {
		ioapic_settle(&b->irqchip.ioapic);
		return;
	}
	b->vmgenid_retry.fire = on_retry;
	b->vmgenid_retry_ns = RETRY_NS;
	tell_generation(b);
}

void board_state_resume(struct board *b)
{
	board_release(b);
	for (unsigned i = 0; i < BOARD_UARTS; i++)
		if (b->uart_irq_fd[i] >= 0)
			serial_resume(&b->uart[i]);
}
