/* The signals that end or resize a run, while nobody reads them from a descriptor. */
#include "vm/signals.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

#include "base/util.h"

#define NS_PER_S 1000000000u

void signals_block(void)
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

int signals_take(uint64_t ns)
{
	const struct timespec pause = {.tv_sec = (time_t)(ns / NS_PER_S),
				       .tv_nsec = (long)(ns % NS_PER_S)};
	sigset_t set;
	int signo;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	signo = sigtimedwait(&set, NULL, &pause);
	return signo > 0 ? signo : 0;
}
