/* Counts its own cycles for a while, as `perf stat -e cycles` would: prints the count, and ends 77
 * where the kernel has no such event. */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.exclude_hv = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	volatile unsigned work = 0;
	uint64_t cycles;

	if (fd < 0) {
		fprintf(stderr, "perf_event_open: %s\n", strerror(errno));
		return errno == ENOENT || errno == ENODEV || errno == EOPNOTSUPP ? 77 : 1;
	}
	while (work < 1000000)
		work++;
	if (read(fd, &cycles, sizeof(cycles)) != sizeof(cycles))
		return 1;
	printf("%llu\n", (unsigned long long)cycles);
	return cycles < 1000000;
}
