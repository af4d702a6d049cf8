/* Runs a vCPU until it is through, stops, or hangs. */
#include "arch/probe_limit.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "base/util.h"

static void on_alarm(int signo UNUSED)
{
}

static int run_steps(int vcpu, const struct kvm_run *run,
		     int (*step)(const struct kvm_run *run, void *arg), void *arg)
{
	uint64_t end_ns = now_ns() + PROBE_LIMIT_S * 1000000000ull;
	int answer = -1;

	while (answer < 0 && now_ns() < end_ns) {
		if (ioctl(vcpu, KVM_RUN, 0) == 0)
			answer = step(run, arg);
		else if (errno != EINTR) /* the alarm, or a signal of someone else's */
			return -1;
	}
	return answer;
}

int probe_run(int vcpu, const struct kvm_run *run,
	      int (*step)(const struct kvm_run *run, void *arg), void *arg)
{
	struct sigaction action = {.sa_handler = on_alarm}, old_action;
	struct itimerval limit = {.it_value.tv_sec = PROBE_LIMIT_S, .it_interval.tv_usec = 100000};
	struct itimerval off = {0};
	sigset_t alarm_set, old_set;
	int answer;

	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	sigaction(SIGALRM, &action, &old_action);
	pthread_sigmask(SIG_UNBLOCK, &alarm_set, &old_set);
	setitimer(ITIMER_REAL, &limit, NULL);
	answer = run_steps(vcpu, run, step, arg);
	setitimer(ITIMER_REAL, &off, NULL);
	pthread_sigmask(SIG_SETMASK, &old_set, NULL);
	sigaction(SIGALRM, &old_action, NULL);
	return answer;
}
