/* What a vCPU's exit is, and what is done about it: one table of handlers by reason.
 * Capture runs on the vCPU thread, serving on the control thread. */
#include <stdio.h>
#include <string.h>

#include "arch/aarch64/machine.h"

struct exit_context {
	struct arch_vm *vm;
	struct bus *bus;
	unsigned vcpu;
	struct kvm_run *run;
	char *text;
	size_t len;
};

void arch_exit_capture(const struct kvm_run *run, struct arch_exit *out)
{
	*out = (struct arch_exit){.reason = run->exit_reason, .wants_reply = true};
	if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
	    run->mmio.len <= ARCH_EXIT_DATA) {
		out->wants_reply = false;
		out->space = BUS_MMIO;
		out->addr = run->mmio.phys_addr;
		out->len = (uint8_t)run->mmio.len;
		memcpy(out->data, run->mmio.data, run->mmio.len);
	}
}

static enum arch_verdict serve_mmio(const struct exit_context *c)
{
	struct kvm_run *run = c->run;
	unsigned len = MIN(run->mmio.len, (uint32_t)sizeof(run->mmio.data));

	if (run->mmio.is_write)
		bus_write(c->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, len);
	else
		bus_read(c->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, len);
	return ARCH_CONTINUE;
}

/* Asked for by PSCI (Arm DEN0022, 5.9 to 5.11): KVM passes it on. */
static enum arch_verdict serve_system_event(const struct exit_context *c)
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
		/* Not a shutdown: a new kind must not end machines. A suspend is none either: the
		 * call returns at once, as if the guest had been woken. */
		c->vm->unknown_events++;
		log_guest(&c->vm->event_log, "system event %u means nothing here",
			  c->run->system_event.type);
		return ARCH_CONTINUE;
	}
}

/* A load or store at a device, which the processor did not take apart for KVM (KVM API, 7.19). */
static enum arch_verdict serve_nisv(const struct exit_context *c)
{
	snprintf(c->text, c->len,
		 "vCPU %u: an access at %#llx that KVM can't emulate, ESR_EL2 syndrome %#llx",
		 c->vcpu, (unsigned long long)c->run->arm_nisv.fault_ipa,
		 (unsigned long long)c->run->arm_nisv.esr_iss);
	return ARCH_DIED;
}

static enum arch_verdict serve_fail_entry(const struct exit_context *c)
{
	snprintf(c->text, c->len, "vCPU %u: KVM could not enter the guest, hardware reason %#llx",
		 c->vcpu, (unsigned long long)c->run->fail_entry.hardware_entry_failure_reason);
	return ARCH_DIED;
}

static enum arch_verdict serve_internal_error(const struct exit_context *c)
{
	snprintf(c->text, c->len, "vCPU %u: KVM internal error %u", c->vcpu,
		 c->run->internal.suberror);
	return ARCH_DIED;
}

/* Only news. */
static enum arch_verdict serve_nothing(const struct exit_context *c UNUSED)
{
	return ARCH_CONTINUE;
}

static enum arch_verdict (*const handlers[])(const struct exit_context *c) = {
	[KVM_EXIT_MMIO] = serve_mmio,
	[KVM_EXIT_INTR] = serve_nothing,
	[KVM_EXIT_FAIL_ENTRY] = serve_fail_entry,
	[KVM_EXIT_INTERNAL_ERROR] = serve_internal_error,
	[KVM_EXIT_SYSTEM_EVENT] = serve_system_event,
	[KVM_EXIT_ARM_NISV] = serve_nisv,
};

enum arch_verdict arch_exit_serve(struct arch_vm *vm, struct bus *bus, unsigned vcpu_index,
				  struct kvm_run *run, const struct arch_exit *exit, char *text,
				  size_t len)
{
	struct exit_context c =
		{.vm = vm, .bus = bus, .vcpu = vcpu_index, .run = run, .text = text, .len = len};

	if (!exit->wants_reply) {
		bus_write(bus, exit->space, exit->addr, exit->data, exit->len);
		return ARCH_CONTINUE;
	}
	if (exit->reason < ARRAY_SIZE(handlers) && handlers[exit->reason])
		return handlers[exit->reason](&c);
	snprintf(text, len, "vCPU %u: KVM left the guest for reason %u, which has no handler here",
		 vcpu_index, exit->reason);
	return ARCH_DIED;
}
