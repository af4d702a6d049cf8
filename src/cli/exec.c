/* stasis exec: another command in a running VM. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/find_vm.h"
#include "cli/options.h"
#include "vm/exec_client.h"
#include "vm/runtime.h"

/* A guest that boots in the lab takes its time. */
#define LIMIT_NS     10000000000u
#define LAB_LIMIT_NS 180000000000u

struct request {
	bool input, terminal, help;
};

static int set_terminal(void *target, const char *value UNUSED, struct error *err UNUSED)
{
	((struct request *)target)->input = ((struct request *)target)->terminal = true;
	return 0;
}

static const struct cli_option options[] = {
	OPTION_FLAG("input", 'i', struct request, input, "standard input goes to COMMAND"),
	{"terminal", 't', NULL, set_terminal, "COMMAND gets a terminal, and standard input"},
	OPTION_FLAG("help", 'h', struct request, help, "this"),
};

/* The vsock lies beside the control socket. */
static char *vsock_path(const json_t *vm)
{
	const char *qmp = find_vm_text(vm, "qmp"), *slash = strrchr(qmp, '/');

	return text_format("%.*s/" RUNTIME_VSOCK, slash ? (int)(slash - qmp) : 1,
			   slash ? qmp : ".");
}

static int run(const char *name, const struct request *q, char *const *argv, int *ret_status,
	       struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	struct exec_request request = {.argv = argv,
				       .input = q->input,
				       .terminal = q->terminal,
				       .limit_ns = LIMIT_NS};
	json_t *vm;
	int r = find_vm(name, &vm, err);

	if (r < 0)
		return r;
	request.path = path = vsock_path(vm);
	if (!strcmp(find_vm_text(vm, "state") ?: "", "frozen"))
		log_warn("%s is frozen: COMMAND begins when stasis thaw lets it go on", name);
	if (json_is_true(json_object_get(vm, "lab")))
		request.limit_ns = LAB_LIMIT_NS;
	json_decref(vm);
	if (!path)
		return error_set(err, -ENOMEM, "finding %s", name);
	r = exec_client_run(&request, ret_status, err);
	return r == -ENOENT || r == -ECONNREFUSED ? find_vm_none(name, err) : r;
}

int command_exec(int argc, char **argv)
{
	struct request q = {0};
	struct error err = {0};
	int rest, status = 125, r;
	bool dashes;

	r = options_parse(options, ARRAY_SIZE(options), argc, argv, &q, &rest, &dashes, &err);
	if (r == 0 && q.help) {
		printf("usage: stasis exec [-i|-t] NAME [--] COMMAND [ARG...]\n\n"
		       "Runs COMMAND in the running VM called NAME, and ends with its status.\n\n");
		options_print(options, ARRAY_SIZE(options));
		return 0;
	}
	if (r == 0 && rest + 1 < argc) {
		char **command = argv + rest + 1;
		const char *name = argv[rest];

		/* Options may also stand behind the name. */
		for (; *command && **command == '-'; command++) {
			if (!strcmp(*command, "--")) {
				command++;
				break;
			}
			if (!strcmp(*command, "-i") || !strcmp(*command, "--input"))
				q.input = true;
			else if (!strcmp(*command, "-t") || !strcmp(*command, "--terminal"))
				q.input = q.terminal = true;
			else if (!strcmp(*command, "-it") || !strcmp(*command, "-ti"))
				q.input = q.terminal = true;
			else
				break;
		}
		if (*command) {
			r = run(name, &q, command, &status, &err);
			return r < 0 ? command_failed(&err) : status;
		}
	}
	if (r == 0)
		error_usage(&err, "stasis exec takes the name of a VM and a COMMAND: stasis exec "
				  "NAME -- COMMAND; stasis list shows the names");
	return command_failed(&err);
}
