/* Gives KVM the routes that the user-space IOAPIC asks for. Control thread. */
#include "vm/irqchip.h"

#include "base/util.h"

/* Linux writes the halves of an entry microseconds apart. */
#define SETTLE_NS 5000000u

static struct kvm_route to_kvm(const struct ioapic_route *route)
{
	return (struct kvm_route){
		.gsi = route->pin,
		.addr_lo = route->address_lo,
		.addr_hi = route->address_hi,
		.data = route->data,
	};
}

static void settle_soon(void *ctx)
{
	struct irqchip *chip = ctx;

	/* Without memory for a timer, the low half that follows settles it. */
	if (loop_timer_set(chip->loop, &chip->settle, now_ns() + SETTLE_NS) < 0)
		return;
}

static int install(void *ctx, const struct ioapic_route *routes, unsigned count)
{
	struct irqchip *chip = ctx;
	struct kvm_route table[IOAPIC_PINS];
	uint32_t routed = 0, fresh;
	int r;

	for (unsigned i = 0; i < count; i++) {
		table[i] = to_kvm(&routes[i]);
		routed |= 1u << routes[i].pin;
	}
	r = kvm_set_msi_routes(chip->kvm, table, count);
	if (r < 0) {
		settle_soon(chip); /* the host may have memory again by then */
		return r;
	}
	fresh = routed & ~chip->routed;
	chip->routed = routed;
	if (fresh)
		chip->unmasked(chip, fresh);
	return 0;
}

static int send_once(void *ctx, const struct ioapic_route *route)
{
	struct irqchip *chip = ctx;
	struct kvm_route message = to_kvm(route);

	return kvm_signal_msi(chip->kvm, &message);
}

static void on_settle(struct loop_timer *t)
{
	ioapic_settle(&container_of(t, struct irqchip, settle)->ioapic);
}

void irqchip_init(struct irqchip *chip, struct kvm *kvm, struct loop *loop,
		  void (*unmasked)(struct irqchip *chip, uint32_t pins))
{
	static const struct ioapic_ops ops = {
		.install = install,
		.msi = send_once,
		.half_written = settle_soon,
	};

	*chip = (struct irqchip){
		.kvm = kvm,
		.loop = loop,
		.settle = {.fire = on_settle},
		.present = true,
		.unmasked = unmasked,
	};
	ioapic_init(&chip->ioapic, &ops, chip);
}

void irqchip_done(struct irqchip *chip)
{
	if (chip->present)
		loop_timer_clear(chip->loop, &chip->settle);
	chip->present = false;
}
