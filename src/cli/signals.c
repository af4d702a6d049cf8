/* Blocks the signals that a run reads from a descriptor. */
#include "cli/signals.h"

#include <signal.h>
#include <stddef.h>

#include "base/compiler.h"

void block_signals(void)
{
	static const int signos[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signos); i++)
		sigaddset(&set, signos[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
}
