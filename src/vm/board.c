/* Puts the devices of a machine together. Control thread. */
#include "vm/board.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/util.h"

/* Takes the architecture's slot for a device and notes it for the firmware tables. */
static int take_slot(struct board *b, enum arch_device kind, unsigned index,
		     struct arch_slot *ret_slot, struct error *err)
{
	int r = arch_slot(b->topology, kind, index, ret_slot);

	if (r < 0 || b->slot_count == BOARD_MAX_SLOTS)
		return error_contention(err, "no place for device %u of its kind on this machine",
					index);
	if (ret_slot->present)
		b->slot[b->slot_count++] = *ret_slot;
	return 0;
}

static int attach(struct board *b, const struct arch_slot *slot, struct bus_device *dev,
		  struct error *err)
{
	int r = slot->present ? bus_attach(&b->bus, slot->space, slot->base, slot->size, dev) : 0;

	return r < 0 ? error_set(err, r, "putting %s on the bus", dev->name) : 0;
}

/* What raises a device's interrupt, once board_wire has bound it. */
static int make_irq(int *ret_fd, struct error *err)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return error_set_shortage(err, -errno, "making an interrupt's event descriptor");
	*ret_fd = fd;
	return 0;
}

/* Slot of the n-th device of a kind; it was taken before. */
static const struct arch_slot *slot_of(const struct board *b, enum arch_device kind, unsigned n)
{
	for (size_t i = 0; i < b->slot_count; i++)
		if (b->slot[i].kind == kind && n-- == 0)
			return &b->slot[i];
	return NULL;
}

static void on_unmasked(struct irqchip *chip, uint32_t pins)
{
	struct board *b = container_of(chip, struct board, irqchip);

	for (unsigned i = 0; i < b->virtio_count; i++) {
		const struct arch_slot *slot = slot_of(b, ARCH_VIRTIO_MMIO, i);

		if (b->virtio[i].bound && pins >> slot->gsi & 1 &&
		    b->virtio[i].dev->interrupt_status)
			irq_raise(&b->virtio[i].dev->irq);
	}
	for (unsigned i = 0; i < BOARD_UARTS; i++)
		if (pins >> slot_of(b, ARCH_UART, i)->gsi & 1 && serial_irq_pending(&b->uart[i]))
			irq_raise(&b->uart[i].irq);
	if (b->vmgenid_irq_fd >= 0 && pins >> slot_of(b, ARCH_VMGENID, 0)->gsi & 1)
		vmgenid_resume(&b->vmgenid);
}

/* Where the shape needs one in user space. */
static int add_ioapic(struct board *b, struct kvm *kvm, struct error *err)
{
	struct arch_slot slot;
	int r = take_slot(b, ARCH_IOAPIC, 0, &slot, err);

	if (r < 0 || !slot.present)
		return r;
	irqchip_init(&b->irqchip, kvm, b->loop, on_unmasked);
	return attach(b, &slot, &b->irqchip.ioapic.bus, err);
}

static int add_uart(struct board *b, unsigned index, const struct board_config *config,
		    struct error *err)
{
	struct serial *uart = &b->uart[index];
	struct arch_slot slot;
	int r = take_slot(b, ARCH_UART, index, &slot, err);

	if (r == 0 && slot.present)
		r = make_irq(&b->uart_irq_fd[index], err);
	if (r < 0)
		return r;
	serial_init(uart, b->uart_irq_fd[index]);
	uart->output = config->uart_output;
	uart->arg = config->arg;
	return attach(b, &slot, &uart->bus, err);
}

static int add_legacy(struct board *b, enum arch_device kind, struct legacy *dev, struct error *err)
{
	struct arch_slot slot;
	int r = take_slot(b, kind, 0, &slot, err);

	return r < 0 ? r : attach(b, &slot, &dev->bus, err);
}

/* Not on the bus: it has memory and an interrupt. */
static int add_vmgenid(struct board *b, const struct guest_memory *mem, struct error *err)
{
	struct arch_slot slot;
	int r = take_slot(b, ARCH_VMGENID, 0, &slot, err);

	if (r < 0 || !slot.present)
		return r;
	r = make_irq(&b->vmgenid_irq_fd, err);
	return r < 0 ? r : vmgenid_init(&b->vmgenid, mem, slot.base, b->vmgenid_irq_fd, err);
}

/* Gives a virtio device its window, its interrupt and its doorbells. The interrupt comes first,
 * because the device is made with it. */
static int add_virtio(struct board *b, struct kvm *kvm, unsigned index, struct error *err)
{
	struct board_virtio *v = &b->virtio[index];
	const struct arch_slot *slot = slot_of(b, ARCH_VIRTIO_MMIO, index);
	int r = virtio_mmio_init(&v->mmio, v->dev, b->loop, err);

	if (r < 0)
		return r;
	v->bound = true;
	r = attach(b, slot, &v->mmio.bus, err);
	for (unsigned q = 0; r == 0 && q < v->dev->queue_count; q++)
		r = kvm_ioeventfd_mmio(kvm, v->mmio.queue[q].notify.fd,
				       slot->base + VIRTIO_MMIO_NOTIFY, q, err);
	return r;
}

/* Reserves the next window and makes its interrupt. */
static int next_virtio(struct board *b, struct board_virtio **ret_virtio, struct error *err)
{
	struct board_virtio *v = &b->virtio[b->virtio_count];
	struct arch_slot slot;
	int r;

	if (b->virtio_count == BOARD_MAX_VIRTIO)
		return error_contention(err, "more than %u virtio devices", BOARD_MAX_VIRTIO);
	r = take_slot(b, ARCH_VIRTIO_MMIO, b->virtio_count, &slot, err);
	if (r == 0)
		r = make_irq(&v->irq_fd, err);
	if (r == 0)
		*ret_virtio = v;
	return r;
}

static int add_console(struct board *b, struct kvm *kvm, struct guest_memory *mem,
		       const struct board_config *config, struct error *err)
{
	struct board_virtio *v = NULL;
	int r = next_virtio(b, &v, err);

	if (r == 0)
		r = virtio_console_new(b->loop, mem, v->irq_fd, config->ports, config->port_count,
				       &b->console, err);
	if (r < 0)
		return r;
	v->dev = virtio_console_device(b->console);
	return add_virtio(b, kvm, b->virtio_count++, err);
}

static int add_rng(struct board *b, struct kvm *kvm, struct guest_memory *mem,
		   const struct board_config *config UNUSED, struct error *err)
{
	struct board_virtio *v = NULL;
	int r = next_virtio(b, &v, err);

	if (r == 0)
		r = virtio_rng_new(b->loop, mem, v->irq_fd, &b->rng, err);
	if (r < 0)
		return r;
	v->dev = virtio_rng_device(b->rng);
	return add_virtio(b, kvm, b->virtio_count++, err);
}

static int add_vsock(struct board *b, struct kvm *kvm, struct guest_memory *mem,
		     const struct board_config *config, struct error *err)
{
	struct board_virtio *v = NULL;
	int r = next_virtio(b, &v, err);

	if (r == 0)
		r = virtio_vsock_new(b->loop, mem, v->irq_fd, &config->vsock, &b->vsock, err);
	if (r < 0)
		return r;
	v->dev = virtio_vsock_device(b->vsock);
	return add_virtio(b, kvm, b->virtio_count++, err);
}

static int add_disk(struct board *b, struct kvm *kvm, struct guest_memory *mem,
		    const struct vm_disk *disk, const struct board_config *config,
		    struct virtio_blk **ret_blk, struct error *err)
{
	const struct virtio_blk_config blk = {
		.file = {disk->copy ?: disk->path, disk->read_only, disk->direct},
		.id = disk->id,
		.iops = disk->iops,
		.bps = disk->bps,
		.queues = config->disk_queues,
	};
	struct board_virtio *v = NULL;
	int r = next_virtio(b, &v, err);

	if (r == 0)
		r = virtio_blk_new(b->loop, mem, v->irq_fd, &blk, ret_blk, err);
	if (r < 0)
		return r;
	v->dev = virtio_blk_device(*ret_blk);
	return add_virtio(b, kvm, b->virtio_count++, err);
}

static int add_disks(struct board *b, struct kvm *kvm, struct guest_memory *mem,
		     const struct board_config *config, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->disk_count; i++)
		r = add_disk(b, kvm, mem, &config->disks[i], config, &b->disk[i], err);
	return r;
}

static const char *const net_names[VM_MAX_NETS] = {"net0", "net1", "net2", "net3"};

static int add_net(struct board *b, struct kvm *kvm, struct guest_memory *mem, size_t i,
		   const struct board_config *config, struct error *err)
{
	struct virtio_net_config net = {0};
	struct board_virtio *v = NULL;
	int r = next_virtio(b, &v, err);

	if (r == 0)
		r = vm_net_open(&config->nets[i], net_names[i], config->net_pairs, b->loop,
				&b->net_host[i], &net, err);
	if (r < 0)
		return r;
	r = virtio_net_new(b->loop, mem, v->irq_fd, &net, &b->net[i], err);
	if (r < 0) {
		for (unsigned pair = 0; pair < net.pairs; pair++)
			net.port[pair]->ops->free(net.port[pair]);
		return r;
	}
	v->dev = virtio_net_device(b->net[i]);
	return add_virtio(b, kvm, b->virtio_count++, err);
}

static int add_nets(struct board *b, struct kvm *kvm, struct guest_memory *mem,
		    const struct board_config *config, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->net_count; i++)
		r = add_net(b, kvm, mem, i, config, err);
	return r;
}

/* The virtio devices, in the order of their windows. A new device is a row here. */
static int (*const virtio_devices[])(struct board *b, struct kvm *kvm, struct guest_memory *mem,
				     const struct board_config *config, struct error *err) = {
	add_console, add_rng, add_disks, add_nets, add_vsock,
};

int board_init(struct board *b, struct loop *loop, struct kvm *kvm, struct guest_memory *mem,
	       const struct board_config *config, struct error *err)
{
	int r = 0;

	b->loop = loop;
	b->topology = config->topology;
	b->kvm = kvm;
	bus_init(&b->bus);
	for (unsigned i = 0; i < BOARD_UARTS; i++)
		b->uart_irq_fd[i] = -1;
	b->vmgenid_irq_fd = -1;
	b->virtio = calloc(BOARD_MAX_VIRTIO, sizeof(*b->virtio));
	if (!b->virtio)
		return error_set(err, -ENOMEM, "making the devices");
	for (unsigned i = 0; i < BOARD_MAX_VIRTIO; i++)
		b->virtio[i].irq_fd = -1;

	i8042_init(&b->i8042, config->legacy_ops, config->arg);
	power_init(&b->power, config->legacy_ops, config->arg);
	pvpanic_init(&b->pvpanic, config->legacy_ops, config->arg);
	r = add_ioapic(b, kvm, err);
	for (unsigned i = 0; r == 0 && i < BOARD_UARTS; i++)
		r = add_uart(b, i, config, err);
	if (r == 0)
		r = add_legacy(b, ARCH_I8042, &b->i8042, err);
	if (r == 0)
		r = add_legacy(b, ARCH_POWER, &b->power, err);
	if (r == 0)
		r = add_legacy(b, ARCH_PVPANIC, &b->pvpanic, err);
	if (r == 0)
		r = add_vmgenid(b, mem, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(virtio_devices); i++)
		r = virtio_devices[i](b, kvm, mem, config, err);
	return r;
}

int board_wire(struct board *b, struct kvm *kvm, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < BOARD_UARTS; i++)
		if (b->uart_irq_fd[i] >= 0)
			r = kvm_irqfd(kvm, b->uart_irq_fd[i], slot_of(b, ARCH_UART, i)->gsi, err);
	if (r == 0 && b->vmgenid_irq_fd >= 0)
		r = kvm_irqfd(kvm, b->vmgenid_irq_fd, slot_of(b, ARCH_VMGENID, 0)->gsi, err);
	for (unsigned i = 0; r == 0 && i < b->virtio_count; i++)
		r = kvm_irqfd(kvm, b->virtio[i].irq_fd, slot_of(b, ARCH_VIRTIO_MMIO, i)->gsi, err);
	return r;
}

static void on_quiesced(struct virtio_device *dev UNUSED, void *arg)
{
	struct board *b = arg;
	void (*held)(void *) = b->held;

	if (--b->quiescing > 0 || !held)
		return;
	b->held = NULL;
	held(b->held_arg);
}

/* Those that are not stopped already. The board counts as one more device until all have been
 * asked, so that the last answer can't come before. */
static void quiesce_all(struct board *b)
{
	b->quiescing++;
	for (unsigned i = 0; i < b->virtio_count; i++) {
		const struct virtio_device *dev = b->virtio[i].dev;

		if (!b->virtio[i].bound || (dev->stopped && !dev->resuming))
			continue;
		b->quiescing++;
		virtio_quiesce(b->virtio[i].dev, on_quiesced, b);
	}
	on_quiesced(NULL, b);
}

void board_hold(struct board *b, void (*held)(void *arg), void *arg)
{
	assert(!b->held && b->quiescing == 0);
	b->held = held;
	b->held_arg = arg;
	quiesce_all(b);
}

void board_release(struct board *b)
{
	b->held = NULL;
	/* Who has not answered yet won't. */
	b->quiescing = 0;
	for (unsigned i = 0; i < b->virtio_count; i++)
		if (b->virtio[i].bound && b->virtio[i].dev->stopped)
			virtio_resume(b->virtio[i].dev);
}

void board_give_up(struct board *b)
{
	for (unsigned i = 0; i < b->virtio_count; i++)
		if (b->virtio[i].bound)
			virtio_give_up(b->virtio[i].dev);
}

bool board_quiesce(struct board *b, uint64_t limit_ns)
{
	uint64_t end_ns = now_ns() + limit_ns;

	b->held = NULL;
	quiesce_all(b);
	while (b->quiescing > 0 && now_ns() < end_ns)
		if (loop_turn(b->loop, end_ns - now_ns()) < 0)
			break;
	return b->quiescing == 0;
}

void board_done(struct board *b)
{
	for (unsigned i = 0; b->virtio && i < BOARD_MAX_VIRTIO; i++) {
		if (b->virtio[i].bound)
			virtio_mmio_done(&b->virtio[i].mmio);
		fd_close(&b->virtio[i].irq_fd);
	}
	virtio_console_free(b->console);
	virtio_rng_free(b->rng);
	virtio_vsock_free(b->vsock);
	for (size_t i = 0; i < VM_MAX_DISKS; i++)
		virtio_blk_free(b->disk[i]);
	for (size_t i = 0; i < VM_MAX_NETS; i++) {
		virtio_net_free(b->net[i]);
		vm_net_close(&b->net_host[i]);
	}
	free(b->virtio);
	for (unsigned i = 0; b->loop && i < BOARD_UARTS; i++)
		fd_close(&b->uart_irq_fd[i]);
	if (b->loop) {
		loop_timer_clear(b->loop, &b->vmgenid_retry);
		fd_close(&b->vmgenid_irq_fd);
	}
	irqchip_done(&b->irqchip);
	bus_done(&b->bus);
	*b = (struct board){0};
}
