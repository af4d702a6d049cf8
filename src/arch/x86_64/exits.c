/* What a vCPU's exit is, and what is done about it: one table of handlers by reason.
 * Capture runs on the vCPU thread, serving on the control thread. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arch/exit_table.h"
#include "arch/x86_64/machine.h"

#define INSN_MAX 15 /* SDM 2, 2.3.11: the longest instruction */
/* KVM_RUN's mapping has the data of port I/O in its second page (KVM_PIO_PAGE_OFFSET). */
#define IO_DATA_END 0x2000u

/* Bytes of port I/O data in the run page; 0 where they would lie outside it. */
static uint32_t io_len(const struct kvm_run *run)
{
	uint64_t len = (uint64_t)run->io.size * run->io.count;

	return run->io.data_offset >= sizeof(*run) && run->io.data_offset <= IO_DATA_END &&
			       len <= IO_DATA_END - run->io.data_offset
		       ? (uint32_t)len
		       : 0;
}

/* Nothing can overtake a posted write (vcpu/exits.h), but a new route takes KVM milliseconds: who
 * moves an interrupt goes on when it has moved, as on hardware. */
static bool is_ioapic(uint64_t gpa)
{
	return gpa - IOAPIC_GPA < IOAPIC_SIZE;
}

void arch_exit_capture(const struct kvm_run *run, struct arch_exit *out)
{
	*out = (struct arch_exit){.reason = run->exit_reason, .wants_reply = true};
	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT &&
	    run->io.count == 1 && run->io.size <= ARCH_EXIT_DATA && io_len(run) > 0) {
		out->wants_reply = false;
		out->space = BUS_PIO;
		out->addr = run->io.port;
		out->len = run->io.size;
		memcpy(out->data, (const uint8_t *)run + run->io.data_offset, run->io.size);
	} else if (run->exit_reason == KVM_EXIT_MMIO && !is_ioapic(run->mmio.phys_addr)) {
		exit_post_mmio_write(run, out);
	}
}

/* A read, or a string of accesses: element by element, in order. */
static enum arch_verdict serve_io(const struct exit_context *c)
{
	const struct kvm_run *run = c->run;
	bool inside = io_len(run) > 0;
	uint8_t *data = (uint8_t *)c->run + (inside ? run->io.data_offset : 0);
	uint32_t count = inside ? run->io.count : 0;

	for (uint32_t i = 0; i < count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			bus_read(c->bus, BUS_PIO, run->io.port, data, run->io.size);
		else
			bus_write(c->bus, BUS_PIO, run->io.port, data, run->io.size);
	}
	return ARCH_CONTINUE;
}

static enum arch_verdict serve_shutdown(const struct exit_context *c)
{
	snprintf(c->text, c->len, "vCPU %u: triple fault", c->vcpu);
	return ARCH_DIED;
}

/* The processor's own exit reason, which this KVM does not know. */
static enum arch_verdict serve_unknown(const struct exit_context *c)
{
	snprintf(c->text, c->len, "vCPU %u: KVM knows nothing of hardware exit reason %#llx",
		 c->vcpu, (unsigned long long)c->run->hw.hardware_exit_reason);
	return ARCH_DIED;
}

/* Appends to text; once it is full, what follows is left out. */
PRINTF_LIKE(3, 4) static void append(char *text, size_t len, const char *fmt, ...)
{
	size_t at = strlen(text);
	va_list args;

	va_start(args, fmt);
	vsnprintf(text + at, len - at, fmt, args);
	va_end(args);
}

/* What KVM says of it: the instruction's bytes if it is about one, else its words. */
static void append_details(const struct kvm_run *run, char *text, size_t len)
{
	unsigned words = MIN(run->internal.ndata, (uint32_t)ARRAY_SIZE(run->internal.data));
	unsigned size = MIN(run->emulation_failure.insn_size, (uint8_t)INSN_MAX);

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		for (unsigned i = 0; i < words; i++)
			append(text, len, "%s %#llx", i ? "" : ", data",
			       (unsigned long long)run->internal.data[i]);
		return;
	}
	/* Flags are the first word, the instruction two more. */
	if (words < 3 ||
	    !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		return;
	for (unsigned i = 0; i < size; i++)
		append(text, len, "%s %02x", i ? "" : ", instruction",
		       run->emulation_failure.insn_bytes[i]);
}

static enum arch_verdict serve_internal_error(const struct exit_context *c)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that it can't emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an event that could not be delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an unexpected exit",
	};
	uint32_t sub = c->run->internal.suberror;
	const char *name = sub < ARRAY_SIZE(names) ? names[sub] : NULL;

	snprintf(c->text, c->len, "vCPU %u: KVM internal error %u (%s)", c->vcpu, sub,
		 name ?: "unknown");
	append_details(c->run, c->text, c->len);
	return ARCH_DIED;
}

/* KVM API, KVM_EXIT_IOAPIC_EOI: a CPU has finished with a level-triggered vector. The IOAPIC's own
 * EOI register (Intel I/O controller hubs, "EOIR") takes the same news. */
static enum arch_verdict serve_ioapic_eoi(const struct exit_context *c)
{
	uint32_t vector = c->run->eoi.vector;

	bus_write(c->bus, BUS_MMIO, IOAPIC_GPA + IOAPIC_EOI, &vector, sizeof(vector));
	return ARCH_CONTINUE;
}

static const exit_handler handlers[] = {
	[KVM_EXIT_UNKNOWN] = serve_unknown,
	[KVM_EXIT_IO] = serve_io,
	[KVM_EXIT_HLT] = exit_serve_nothing,
	[KVM_EXIT_MMIO] = exit_serve_mmio,
	[KVM_EXIT_IRQ_WINDOW_OPEN] = exit_serve_nothing,
	[KVM_EXIT_SHUTDOWN] = serve_shutdown,
	[KVM_EXIT_FAIL_ENTRY] = exit_serve_fail_entry,
	[KVM_EXIT_INTR] = exit_serve_nothing,
	[KVM_EXIT_INTERNAL_ERROR] = serve_internal_error,
	[KVM_EXIT_SYSTEM_EVENT] = exit_serve_system_event,
	[KVM_EXIT_IOAPIC_EOI] = serve_ioapic_eoi,
};

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

	return exit_serve(handlers, ARRAY_SIZE(handlers), &c, exit);
}
