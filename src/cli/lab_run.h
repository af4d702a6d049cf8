/* A configuration's run in the lab instead of here: same streams, same status, same report. */
#ifndef STASIS_CLI_LAB_RUN_H
#define STASIS_CLI_LAB_RUN_H

#include "vm/config.h"
#include "vm/kernels.h"

/* Builds the initramfs here, ships it with the kernel, and gives the exit status. */
int lab_run_config(struct vm_config *config);
/* L1's own kernel: one whose modules give it KVM, which Debian's cloud kernels do. */
int lab_choose_machine(const struct arch_kind *kind, struct kernel_choice *ret_kernel,
		       struct error *err) MUST_CHECK;

#endif
