/* Numbered records on a disk, one in each block of 4 KiB from the second on, and on standard output
 * the number of each one that is said to be durable. "fsync": a write, then fsync; "dsync": the
 * write itself is, past the page cache. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD 4096

int main(int argc, char **argv)
{
	int dsync = argc > 2 && !strcmp(argv[2], "dsync");
	int fd = argc > 1 ? open(argv[1], dsync ? O_RDWR | O_DSYNC | O_DIRECT : O_RDWR) : -1;
	unsigned *record = aligned_alloc(RECORD, RECORD);
	char line[16];

	if (fd < 0 || !record) {
		perror("records");
		return 1;
	}
	for (unsigned n = 1;; n++) {
		int len = snprintf(line, sizeof(line), "%u\n", n);

		for (unsigned i = 0; i < RECORD / sizeof(*record); i++)
			record[i] = n;
		if (pwrite(fd, record, RECORD, (off_t)n * RECORD) != RECORD)
			break;
		if ((!dsync && fsync(fd) < 0) || write(1, line, (size_t)len) != len)
			break;
	}
	perror("records");
	return 2;
}
