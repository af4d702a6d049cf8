/* What run and restore share: a machine in this process, and how it ended. */
#include "cli/run_here.h"

#include <stdio.h>

#include "base/log.h"
#include "vm/result.h"
#include "vm/signals.h"
#include "vm/vm.h"

int run_here(struct vm_config *config, bool in_lab)
{
	struct vm_result result = {.lab = in_lab};
	struct error err = {0}, report_err = {0};
	int status;

	signals_block();
	if (vm_run(config, &result, &err) < 0) {
		log_failure(&err);
		snprintf(result.text, sizeof(result.text), "%s", err.what);
	} else if (result.text[0]) {
		/* A foreign init that powers off is an end like any other. */
		log_at(config->session == VM_SESSION_NONE && result.outcome == VM_EXITED
			       ? LOG_INFO
			       : LOG_ERROR,
		       "%s", result.text);
	}
	status = vm_result_status(&result);
	if (config->report &&
	    vm_report_write(vm_result_json(&result, config), config->report, &report_err) < 0) {
		log_failure(&report_err);
		status = status ?: 125;
	}
	vm_result_done(&result);
	return status;
}
