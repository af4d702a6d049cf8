/* The subcommands. Each gets argv[0] as its own name and returns the exit status. */
#ifndef STASIS_CLI_COMMANDS_H
#define STASIS_CLI_COMMANDS_H

#include "base/error.h"

int command_run(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_list(int argc, char **argv);
int command_status(int argc, char **argv);
int command_freeze(int argc, char **argv);
int command_thaw(int argc, char **argv);
int command_dump(int argc, char **argv);
int command_vmcore(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_top(int argc, char **argv);
int command_profile(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_snapshot(int argc, char **argv);
int command_restore(int argc, char **argv);
int command_exec(int argc, char **argv);
int command_locks(int argc, char **argv);
int command_report(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_topology(int argc, char **argv);
int command_kernel(int argc, char **argv);
int command_lab(int argc, char **argv);
int command_lab_agent(int argc, char **argv); /* internal: the lab's inside */
int command_lab_pipe(int argc, char **argv);  /* likewise */
int command_lab_snapshot(int argc, char **argv);

/* Prints the failure and gives its exit status. */
int command_failed(const struct error *err);

#endif
