/* Tasks that do one thing for a while: yield their CPU, or spin. usage: yield TASKS SECONDS
 * yield|spin */
#include <sched.h>
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

static void task(int yields, const struct timespec *end)
{
	while (!over(end))
		for (int i = 0; i < (yields ? 64 : 1000000); i++) {
			if (yields)
				sched_yield();
			turns++;
		}
}

int main(int argc, char **argv)
{
	struct timespec end;

	if (argc != 4)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += atoi(argv[2]);
	for (int i = 0; i < atoi(argv[1]); i++)
		if (fork() == 0) {
			task(strcmp(argv[3], "yield") == 0, &end);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	return 0;
}
