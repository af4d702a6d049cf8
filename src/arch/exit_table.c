/* What becomes of an exit on any architecture. Posting runs on the vCPU thread, serving on the
 * control thread. */
#include "arch/exit_table.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"

void exit_post_mmio_write(const struct kvm_run *run, struct arch_exit *out)
{
	if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write ||
	    run->mmio.len > ARCH_EXIT_DATA)
		return;
	out->wants_reply = false;
	out->space = BUS_MMIO;
	out->addr = run->mmio.phys_addr;
	out->len = (uint8_t)run->mmio.len;
	memcpy(out->data, run->mmio.data, run->mmio.len);
}

enum arch_verdict exit_serve(const exit_handler *handlers, size_t count,
			     const struct exit_context *c, const struct arch_exit *exit)
{
	if (!exit->wants_reply) {
		bus_write(c->bus, exit->space, exit->addr, exit->data, exit->len);
		return ARCH_CONTINUE;
	}
	if (exit->reason < count && handlers[exit->reason])
		return handlers[exit->reason](c);
	snprintf(c->text, c->len,
		 "vCPU %u: KVM left the guest for reason %u, which has no handler here", c->vcpu,
		 exit->reason);
	return ARCH_DIED;
}

enum arch_verdict exit_serve_mmio(const struct exit_context *c)
{
	struct kvm_run *run = c->run;
	unsigned len = MIN(run->mmio.len, (uint32_t)sizeof(run->mmio.data));

	if (run->mmio.is_write)
		bus_write(c->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, len);
	else
		bus_read(c->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, len);
	return ARCH_CONTINUE;
}

/* On arm64, what PSCI asked KVM for (Arm DEN0022, 5.9 to 5.11). */
enum arch_verdict exit_serve_system_event(const struct exit_context *c)
{
	switch (c->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		snprintf(c->text, c->len, "the guest powered off");
		return ARCH_SHUTDOWN;
	case KVM_SYSTEM_EVENT_RESET:
		snprintf(c->text, c->len, "the guest reset itself");
		return ARCH_RESET;
	case KVM_SYSTEM_EVENT_CRASH:
		snprintf(c->text, c->len, "the guest said that it crashed");
		return ARCH_CRASHED;
	default:
		/* Not a shutdown: a new kind must not end machines. A suspend doesn't come: KVM
		 * offers it where KVM_CAP_ARM_SYSTEM_SUSPEND was enabled, which nobody does. */
		++*c->unknown_events;
		log_guest(c->event_log, "system event %u means nothing here",
			  c->run->system_event.type);
		return ARCH_CONTINUE;
	}
}

enum arch_verdict exit_serve_fail_entry(const struct exit_context *c)
{
	snprintf(c->text, c->len, "vCPU %u: KVM could not enter the guest, hardware reason %#llx",
		 c->vcpu, (unsigned long long)c->run->fail_entry.hardware_entry_failure_reason);
	return ARCH_DIED;
}

/* The in-kernel interrupt controller handles it, or it is only news. */
enum arch_verdict exit_serve_nothing(const struct exit_context *c UNUSED)
{
	return ARCH_CONTINUE;
}
