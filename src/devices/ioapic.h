/* The IOAPIC in user space, for KVM's split irqchip: 24 redirection entries that become MSI
 * routes. Knows no KVM: the composer gives struct ioapic_ops. Control thread.
 *
 * Window of 4 KiB, 32-bit accesses alone (82093AA, 3.1); the rest reads as zeros, is dropped and
 * counted:  0x00 IOREGSEL (bits 7:0)   0x10 IOWIN   0x40 EOI (write-only, vector in 7:0)
 * Behind IOREGSEL: 0x00 id (27:24), 0x01 version (0x00170020: 24 pins, version 0x20, which is why
 * Linux uses the EOI register), 0x02 arbitration (the id), 0x10 + 2n and 0x11 + 2n the low and
 * high half of entry n. Others are zero.
 *
 * Redirection entry (82093AA, 3.2.4; bits 55:49 as Linux' struct IO_APIC_route_entry has them):
 *    63   56 55    49 48  17   16    15   14   13   12   11  10   8 7    0
 *   | id 7:0|id 14:8|  0   |mask |level|rirr|low |stat|log.| mode |vector|
 *   rirr (remote IRR) and stat (1: a level waits to be accepted) are read-only. low: stored, no
 *   more; a line is asserted or not. level counts in modes 000 (fixed) and 001 (lowest priority);
 *   NMI and INIT are edges whatever it says, SMI and ExtINT have to be.
 *
 * MSI route (ICH10 data sheet, 5.9.4; SDM 3, 11.11; KVM api.rst, KVM_CAP_X2APIC_API):
 *   address_lo   0xFEE << 20 | id 7:0 << 12 | (mode is lowest priority) << 3 | log. << 2
 *   address_hi   id 14:8 << 8
 *   data         level << 15 | assert (always) << 14 | mode << 8 | vector
 * In a guest's own MSI address (KVM cpuid.rst, KVM_FEATURE_MSI_EXT_DEST_ID) bits 11:5 hold id
 * 14:8, just as RTE bits 63:48 map to address bits 19:4. KVM reads no id there, only in
 * address_hi bits 31:8, and that only with KVM_X2APIC_API_USE_32BIT_IDS.
 *
 * What KVM needs to send KVM_EXIT_IOAPIC_EOI: KVM_CAP_SPLIT_IRQCHIP with args[0] = 24, and for a
 * level pin a route of type MSI whose GSI is the pin and whose data has bit 15. It looks for such
 * routes in the table (kvm_scan_ioapic_routes), not at what was sent: so a level message is sent
 * only while its route is installed, and the route of a level in service stays though the guest
 * masks it (Linux masks, then EOIs), at least until the EOI. It is left out at the first install
 * afterwards. Nothing but ioapic_set_line sets remote IRR, so a pin with an irqfd never keeps a
 * masked route. Older kernels exit for edges' EOIs as well: those find no remote IRR.
 *
 * When a guest's write takes effect. A write of a low half has been installed when the bus's
 * write returns. A *posted* exit is enough, though the vCPU runs on before that: an edge that the
 * guest can know to follow its write comes from the control thread, which serves the write first
 * (vcpu/exits.h, "Order"), and a read of IOWIN waits for its reply, behind the write. That holds
 * as long as only the control thread signals irqfds: with a source in the kernel (vhost) writes to
 * IOWIN must wait for their reply. KVM_EXIT_IOAPIC_EOI may be posted for the same reason.
 * A high half written to an *unmasked* entry is half a message: it reads back at once, and takes
 * effect with the low half, or before any other register is selected or one is read, or by
 * ioapic_settle.
 *
 * Edges on a masked pin are lost, "not delivered or held pending" (82093AA, 3.2.4, bit 16); by
 * irqfd as well, since the route is gone. Levels are not: the line still stands at the unmask.
 *
 * A guest that EOIs a level without quieting the device takes it again at once. No brake here
 * (QEMU and KVM have one for Windows, which resumes like that): each round costs the guest an exit
 * of its own, Linux disables the line after 100,000 ("nobody cared"), and reinjected counts. */
#ifndef STASIS_DEVICES_IOAPIC_H
#define STASIS_DEVICES_IOAPIC_H

#include "base/log.h"
#include "base/state_io.h"
#include "devices/bus.h"

#define IOAPIC_PINS   24
#define IOAPIC_WINDOW 0x1000 /* bytes of address space */

struct ioapic_route {
	uint32_t pin; /* the GSI */
	uint32_t address_lo, address_hi, data;
};

/* None calls back into the IOAPIC. */
struct ioapic_ops {
	/* Replaces all routes of pins by these, in order of pin; none at all is valid. 0: they are
	 * in force. Negative errno: the former ones still are; it is counted, and tried again at
	 * the next write of a low half, at a level that needs it, or by ioapic_settle. */
	int (*install)(void *ctx, const struct ioapic_route *routes, unsigned count);
	/* Sends one message: positive when a local APIC took it, 0 when none did, else a negative
	 * errno (counted). An edge that was not taken is lost, a level stays pending. */
	int (*msi)(void *ctx, const struct ioapic_route *route);
	/* A high half waits for its low half: the composer calls ioapic_settle some milliseconds
	 * from now, for guests that write no more than that. NULL: high halves never wait. */
	void (*half_written)(void *ctx);
};

/* All that the guest can see or depend on. Settled (ioapic_settle), it is the whole of a snapshot:
 * what is installed belongs to the VM. */
struct ioapic_state {
	uint64_t entry[IOAPIC_PINS]; /* reserved bits and stat are 0 */
	uint32_t lines;		     /* bit n: pin n is asserted */
	uint8_t select, id;
};

struct ioapic {
	struct bus_device bus;
	const struct ioapic_ops *ops;
	void *ctx;
	struct ioapic_state state;
	unsigned half_pin;  /* its high half waits; IOAPIC_PINS: none does */
	uint32_t half_used; /* … and this one counts meanwhile */
	struct ioapic_route installed[IOAPIC_PINS]; /* by the last success; in order of pin */
	unsigned installed_count;
	bool restored; /* what is installed is not the VM's: the next commit installs */
	uint64_t installs, install_failures, msi_failures, reinjected, bad_accesses;
	struct log_limit fault_log;
};

/* Everything masked. The VM's table is taken to have no route of a pin, as KVM creates it. */
void ioapic_init(struct ioapic *io, const struct ioapic_ops *ops, void *ctx);
/* Back to all masked; installs that. Lines stay: they are their devices'. */
void ioapic_reset(struct ioapic *io);
/* A device's line; pin is below IOAPIC_PINS. Asserting again is no new edge, but tries again to
 * deliver a level. */
void ioapic_set_line(struct ioapic *io, unsigned pin, bool asserted);
/* A local APIC's EOI (KVM_EXIT_IOAPIC_EOI): the guest is done with all levels of this vector; what
 * is still asserted goes out again. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);
/* Lets a half-written entry take effect, and retries what failed. Before state is saved, after it
 * was restored into a VM, and from the timers that ops ask for. */
void ioapic_settle(struct ioapic *io);
/* Saves (settled) or restores; a restore that is refused changes nothing. Routes and messages go
 * out by the ioapic_settle that comes once the VM and its local APICs are restored. */
void ioapic_state(struct ioapic *io, struct state_io *state);

#endif
