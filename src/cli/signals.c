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
	for (size_t i = 0; i < ARRAY_SIZE(signos); i++) {
		struct sigaction now;

		/* What nohup ignores stays ignored; blocked, it would be read. SIGINT and SIGQUIT
		 * are not looked at: a shell ignores them for whatever it puts in the background,
		 * and a signal that somebody sends there is meant. */
		if (signos[i] == SIGHUP && sigaction(SIGHUP, NULL, &now) == 0 &&
		    now.sa_handler == SIG_IGN)
			continue;
		sigaddset(&set, signos[i]);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
}
