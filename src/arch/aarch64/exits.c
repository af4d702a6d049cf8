/* What a vCPU's exit is, and what is done about it: one table of handlers by reason.
 * Capture runs on the vCPU thread, serving on the control thread. */
#include <stdio.h>

#include "arch/aarch64/machine.h"
#include "arch/exit_table.h"

void arch_exit_capture(const struct kvm_run *run, struct arch_exit *out)
{
	*out = (struct arch_exit){.reason = run->exit_reason, .wants_reply = true};
	exit_post_mmio_write(run, out);
}

/* A load or store at a device, which the processor did not take apart for KVM (KVM API, 7.19), and
 * no abort can be given for. */
static enum arch_verdict serve_nisv(const struct exit_context *c)
{
	snprintf(c->text, c->len,
		 "vCPU %u: an access at %#llx that KVM can't emulate, ESR_EL2 syndrome %#llx",
		 c->vcpu, (unsigned long long)c->run->arm_nisv.fault_ipa,
		 (unsigned long long)c->run->arm_nisv.esr_iss);
	return ARCH_DIED;
}

static enum arch_verdict serve_internal_error(const struct exit_context *c)
{
	snprintf(c->text, c->len, "vCPU %u: KVM internal error %u", c->vcpu,
		 c->run->internal.suberror);
	return ARCH_DIED;
}

static const exit_handler handlers[] = {
	[KVM_EXIT_MMIO] = exit_serve_mmio,
	[KVM_EXIT_INTR] = exit_serve_nothing,
	[KVM_EXIT_FAIL_ENTRY] = exit_serve_fail_entry,
	[KVM_EXIT_INTERNAL_ERROR] = serve_internal_error,
	[KVM_EXIT_SYSTEM_EVENT] = exit_serve_system_event,
	[KVM_EXIT_ARM_NISV] = serve_nisv,
};

/* Such an access (of two registers, or with a write-back) is none that a device takes: the guest
 * gets an external abort, as from hardware. */
static bool abort_access(struct arch_vm *vm, unsigned vcpu, const struct kvm_run *run)
{
	if (!vm->has_abort || cpu_abort(vm, vcpu) < 0)
		return false;
	vm->aborts++;
	log_guest(&vm->event_log,
		  "vCPU %u: an access at %#llx that no device takes: it gets an external abort",
		  vcpu, (unsigned long long)run->arm_nisv.fault_ipa);
	return true;
}

enum arch_verdict arch_exit_serve(struct arch_vm *vm, struct bus *bus, unsigned vcpu_index,
				  struct kvm_run *run, const struct arch_exit *exit, char *text,
				  size_t len)
{
	const struct exit_context c = {
		.bus = bus,
		.vcpu = vcpu_index,
		.run = run,
		.text = text,
		.len = len,
		.unknown_events = &vm->unknown_events,
		.event_log = &vm->event_log,
	};

	if (exit->reason == KVM_EXIT_ARM_NISV && abort_access(vm, vcpu_index, run))
		return ARCH_CONTINUE;
	return exit_serve(handlers, ARRAY_SIZE(handlers), &c, exit);
}
