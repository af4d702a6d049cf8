/* The user-space IOAPIC bound to KVM's split irqchip: routes, messages, and the timer that settles
 * what a guest left half-written. Control thread. */
#ifndef STASIS_VM_IRQCHIP_H
#define STASIS_VM_IRQCHIP_H

#include "arch/kvm.h"
#include "devices/ioapic.h"
#include "loop/loop.h"

struct irqchip {
	struct ioapic ioapic;
	struct kvm *kvm;
	struct loop *loop;
	struct loop_timer settle;
	uint32_t routed;   /* bit n: pin n has a route in KVM */
	uint64_t retry_ns; /* until the next try; 0: the last table was taken */
	bool present;	   /* false: all interrupt controllers are KVM's */
	/* Pins got a route that they did not have: edges before it are lost, so whatever device of
	 * theirs still has something to say raises its line again. */
	void (*unmasked)(struct irqchip *chip, uint32_t pins);
};

void irqchip_init(struct irqchip *chip, struct kvm *kvm, struct loop *loop,
		  void (*unmasked)(struct irqchip *chip, uint32_t pins));
void irqchip_done(struct irqchip *chip); /* accepts a zeroed one */

#endif
