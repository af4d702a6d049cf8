/* The devices of one machine: made, put on the bus, wired to KVM, quiesced, freed. One row in
 * board.c's list for each kind. Control thread. */
#ifndef STASIS_VM_BOARD_H
#define STASIS_VM_BOARD_H

#include "arch/arch.h"
#include "devices/bus.h"
#include "devices/legacy.h"
#include "devices/serial.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_console.h"
#include "devices/virtio_mmio.h"
#include "devices/virtio_net.h"
#include "devices/virtio_rng.h"
#include "devices/virtio_vsock.h"
#include "devices/vmgenid.h"
#include "vm/disk.h"
#include "vm/irqchip.h"
#include "vm/net.h"

#define BOARD_UARTS	 2
#define BOARD_MAX_SLOTS	 32
#define BOARD_MAX_VIRTIO 16

struct board_virtio {
	struct virtio_device *dev; /* borrowed */
	struct virtio_mmio mmio;
	int irq_fd;
	bool bound; /* mmio stands */
};

struct board {
	struct loop *loop;
	const struct topology *topology; /* borrowed */
	struct bus bus;
	struct irqchip irqchip;
	struct serial uart[BOARD_UARTS];
	int uart_irq_fd[BOARD_UARTS];
	struct legacy i8042, power, pvpanic;
	struct vmgenid vmgenid;
	int vmgenid_irq_fd; /* -1: this machine has none */
	struct loop_timer vmgenid_retry;
	uint64_t vmgenid_retry_ns; /* until the next one */
	const struct kvm *kvm;	   /* borrowed */
	struct virtio_console *console;
	struct virtio_rng *rng;
	struct virtio_vsock *vsock;
	struct virtio_blk *disk[VM_MAX_DISKS];
	struct virtio_net *net[VM_MAX_NETS];
	struct vm_net_host net_host[VM_MAX_NETS];
	struct board_virtio *virtio; /* BOARD_MAX_VIRTIO of them, owned */
	unsigned virtio_count;
	struct arch_slot slot[BOARD_MAX_SLOTS]; /* for the firmware tables */
	size_t slot_count;
	unsigned quiescing;	 /* devices that have not answered yet */
	void (*held)(void *arg); /* board_hold waits for them */
	void *held_arg;
};

struct board_config {
	const struct topology *topology;   /* outlives the board */
	struct virtio_console_port *ports; /* outlive the board */
	unsigned port_count;
	const struct vm_disk *disks; /* outlive board_init */
	size_t disk_count;
	unsigned disk_queues; /* of each; 1 to VIRTIO_BLK_MAX_QUEUES */
	struct virtio_vsock_config vsock;
	const struct vm_net *nets;
	size_t net_count;
	unsigned net_pairs; /* of each, at most */
	const struct legacy_ops *legacy_ops;
	void (*uart_output)(struct serial *uart, const uint8_t *data, size_t len);
	void *arg; /* of the legacy devices and UARTs */
};

/* After kvm_create_vm and arch_vm_new. On failure board_done still takes it. board is zeroed. */
int board_init(struct board *board, struct loop *loop, struct kvm *kvm, struct guest_memory *mem,
	       const struct board_config *config, struct error *err) MUST_CHECK;
/* Binds the devices' interrupts to KVM's controller, which on aarch64 stands only once the vCPUs do
 * (arch_vm_vcpus_created). Before any vCPU runs. */
int board_wire(struct board *board, struct kvm *kvm, struct error *err) MUST_CHECK;
/* Keeps every virtio device off guest memory: held(arg) runs once, at once or later, when nothing
 * is in flight. Notifications from here on are served after board_release, which may come before
 * held(arg), and then instead of it. */
void board_hold(struct board *board, void (*held)(void *arg), void *arg);
void board_release(struct board *board);
/* The machine ends: what devices have in flight need not be finished, only over. */
void board_give_up(struct board *board);
/* Takes every device off guest memory, held or not, turning the loop for at most limit_ns.
 * False: one of them still has operations in flight, and the memory must stay. */
bool board_quiesce(struct board *board, uint64_t limit_ns);
/* Quiesced, and no vCPU runs. Accepts a zeroed or half-built one. */
void board_done(struct board *board);

#endif
