/* stasis bench: hands over to the runner of bench/, which is a program of its own. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/commands.h"
#include "vm/tools.h"

int command_bench(int argc UNUSED, char **argv)
{
	struct error err = {0};
	char *path;

	if (tools_bench(&path, &err) < 0)
		return command_failed(&err);
	execv(path, argv);
	error_set(&err, -errno, "running %s", path);
	free(path);
	return command_failed(&err);
}
