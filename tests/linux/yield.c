/* Tasks that do one thing for a while: yield their CPU, spin, or pass messages round a ring, as
 * hackbench does, but that each message wakes who waits for it. usage: yield TASKS SECONDS
 * yield|spin|pass. When all are there, it says so on standard error. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long turns;

static int over(const struct timespec *end)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > end->tv_sec ||
	       (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec);
}

/* gate: gives its end when all are there. */
static void task(int yields, unsigned seconds, int gate)
{
	struct timespec end;
	char none;

	if (read(gate, &none, 1) != 0)
		_exit(1);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	while (!over(&end))
		for (int i = 0; i < (yields ? 64 : 1000000); i++) {
			if (yields)
				sched_yield();
			turns++;
		}
}

static void say_so(int tasks)
{
	fprintf(stderr, "%d tasks run\n", tasks);
}

/* One message for four tasks, so that there is always somebody to run. Until it is killed. */
static void pass(int i, const int (*ends)[2], int tasks)
{
	int in = ends[i][0], out = ends[(i + 1) % tasks][1];
	char byte = 0;

	if (i % 4 == 0 && write(out, &byte, 1) != 1)
		_exit(1);
	while (read(in, &byte, 1) == 1 && write(out, &byte, 1) == 1)
		;
	_exit(1);
}

static int ring(int tasks, unsigned seconds)
{
	int(*ends)[2] = calloc((size_t)tasks, sizeof(*ends));
	pid_t *pid = calloc((size_t)tasks, sizeof(*pid));
	int lost = 0;

	for (int i = 0; i < tasks; i++)
		if (!ends || !pid || pipe(ends[i]) != 0)
			return 1;
	for (int i = 0; i < tasks; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			pass(i, ends, tasks);
	}
	say_so(tasks);
	sleep(seconds);
	for (int i = 0; i < tasks; i++) {
		int status;

		kill(pid[i], SIGKILL);
		lost += waitpid(pid[i], &status, 0) != pid[i] || !WIFSIGNALED(status);
	}
	return lost ? 1 : 0;
}

int main(int argc, char **argv)
{
	int tasks = argc == 4 ? atoi(argv[1]) : 0, gate[2];
	unsigned seconds = argc == 4 ? (unsigned)atoi(argv[2]) : 0;

	if (argc != 4 || tasks < 1)
		return 2;
	if (strcmp(argv[3], "pass") == 0)
		return ring(tasks, seconds);
	if (pipe(gate) != 0)
		return 1;
	for (int i = 0; i < tasks; i++)
		if (fork() == 0) {
			close(gate[1]);
			task(strcmp(argv[3], "yield") == 0, seconds, gate[0]);
			_exit(0);
		}
	say_so(tasks);
	close(gate[1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
