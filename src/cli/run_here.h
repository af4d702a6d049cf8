/* A machine in this process, from its configuration to an exit status. */
#ifndef STASIS_CLI_RUN_HERE_H
#define STASIS_CLI_RUN_HERE_H

#include <stdbool.h>

#include "vm/config.h"

/* Runs it, says how it ended, writes its report. */
int run_here(struct vm_config *config, bool in_lab);

#endif
