/* Names for back ends and exits. What a host can do is found by trying (arch_probe), not here. */
#include "vm/host.h"

#include <linux/kvm.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/compiler.h"

const char *host_kind(void)
{
	static const struct {
		const char *module, *name;
	} kinds[] = {
		{"/sys/module/kvm_pvm", "kvm-pvm"},
		{"/sys/module/kvm_amd", "kvm-svm"},
		{"/sys/module/kvm_intel", "kvm-vmx"},
	};

	if (access("/dev/kvm", F_OK) < 0)
		return "none";
	if (!strcmp(arch_name, "aarch64"))
		return "kvm-arm64";
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (access(kinds[i].module, F_OK) == 0)
			return kinds[i].name;
	return "kvm";
}

const char *host_exit_name(unsigned reason)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "unknown",
		[KVM_EXIT_EXCEPTION] = "exception",
		[KVM_EXIT_IO] = "io",
		[KVM_EXIT_HYPERCALL] = "hypercall",
		[KVM_EXIT_DEBUG] = "debug",
		[KVM_EXIT_HLT] = "hlt",
		[KVM_EXIT_MMIO] = "mmio",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window_open",
		[KVM_EXIT_SHUTDOWN] = "shutdown",
		[KVM_EXIT_FAIL_ENTRY] = "fail_entry",
		[KVM_EXIT_INTR] = "intr",
		[KVM_EXIT_SET_TPR] = "set_tpr",
		[KVM_EXIT_TPR_ACCESS] = "tpr_access",
		[KVM_EXIT_NMI] = "nmi",
		[KVM_EXIT_INTERNAL_ERROR] = "internal_error",
		[KVM_EXIT_SYSTEM_EVENT] = "system_event",
		[KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
		[KVM_EXIT_X86_RDMSR] = "rdmsr",
		[KVM_EXIT_X86_WRMSR] = "wrmsr",
		[KVM_EXIT_ARM_NISV] = "arm_nisv",
		[KVM_EXIT_DIRTY_RING_FULL] = "dirty_ring_full",
		[KVM_EXIT_X86_BUS_LOCK] = "bus_lock",
	};

	return reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "other";
}
