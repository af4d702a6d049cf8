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

		/* What our starter ignores (nohup) stays ignored; blocked, it would be read. */
		if (sigaction(signos[i], NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			continue;
		sigaddset(&set, signos[i]);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
}
