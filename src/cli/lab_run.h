/* A configuration's run in the lab instead of here: same streams, same status, same report. */
#ifndef STASIS_CLI_LAB_RUN_H
#define STASIS_CLI_LAB_RUN_H

#include "vm/config.h"

/* Builds the initramfs here, ships it with the kernel, and gives the exit status. */
int lab_run_config(struct vm_config *config);

#endif
