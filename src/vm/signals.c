/* The signals that end or resize a run, while nobody reads them from a descriptor. */
#include "vm/signals.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

#include "base/util.h"

#define NS_PER_S 1000000000u

static const int enders[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

void signals_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	for (size_t i = 0; i < ARRAY_SIZE(enders); i++) {
		struct sigaction now;

		/* What nohup ignores stays ignored; blocked, it would be read. SIGINT and SIGQUIT
		 * are not looked at: a shell ignores them for whatever it puts in the background,
		 * and a signal that somebody sends there is meant. */
		if (enders[i] == SIGHUP && sigaction(SIGHUP, NULL, &now) == 0 &&
		    now.sa_handler == SIG_IGN)
			continue;
		sigaddset(&set, enders[i]);
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
	for (size_t i = 0; i < ARRAY_SIZE(enders); i++)
		sigaddset(&set, enders[i]);
	signo = sigtimedwait(&set, NULL, &pause);
	return signo > 0 ? signo : 0;
}
