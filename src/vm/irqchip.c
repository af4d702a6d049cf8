/* Gives KVM the routes that the user-space IOAPIC asks for. Control thread. */
#include "vm/irqchip.h"

#include <string.h>

#include "base/log.h"
#include "base/util.h"

/* Linux writes the halves of an entry microseconds apart. */
#define SETTLE_NS 5000000u
/* A table that KVM refused is tried again after that, and then after twice as long each time. */
#define RETRY_MAX_NS 1000000000u

static struct kvm_route to_kvm(const struct ioapic_route *route)
{
	return (struct kvm_route){
		.gsi = route->pin,
		.addr_lo = route->address_lo,
		.addr_hi = route->address_hi,
		.data = route->data,
	};
}

static void settle_in(struct irqchip *chip, uint64_t ns)
{
	/* Without memory for a timer, the low half that follows settles it. */
	if (loop_timer_set(chip->loop, &chip->settle, now_ns() + ns) < 0)
		return;
}

static void settle_soon(void *ctx)
{
	settle_in(ctx, SETTLE_NS);
}

/* Told once for each time that it begins. The host may have what it lacks by the next try. */
static void refused(struct irqchip *chip, int error)
{
	if (!chip->retry_ns)
		log_warn("KVM refuses the guest's interrupt routes (%s): its devices go unheard "
			 "until it takes them",
			 strerror(-error));
	chip->retry_ns = MIN(MAX(2 * chip->retry_ns, (uint64_t)SETTLE_NS), (uint64_t)RETRY_MAX_NS);
	settle_in(chip, chip->retry_ns);
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
		refused(chip, r);
		return r;
	}
	if (chip->retry_ns)
		log_warn("KVM takes the guest's interrupt routes again");
	chip->retry_ns = 0;
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
