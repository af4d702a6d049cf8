/* Calls into the kernel that do their work with interrupts on, in a mix that stays the same, until
 * it is killed: lines of text, noise, paths, copies. usage: calls */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char buf[16384];

static void must(int ok)
{
	if (!ok)
		exit(1);
}

int main(void)
{
	int text = open("/proc/kallsyms", O_RDONLY), noise = open("/dev/urandom", O_RDONLY);
	int file = memfd_create("file", 0);
	struct stat st;

	must(text >= 0 && noise >= 0 && file >= 0);
	for (;;) {
		if (read(text, buf, 4096) <= 0)
			must(lseek(text, 0, SEEK_SET) == 0);
		must(read(noise, buf, 8192) == 8192);
		for (int i = 0; i < 4; i++)
			must(stat("/proc/sys/kernel/../kernel/../../self/status", &st) == 0);
		for (int i = 0; i < 4; i++)
			must(pwrite(file, buf, sizeof(buf), 0) == sizeof(buf) &&
			     pread(file, buf, sizeof(buf), 0) == sizeof(buf));
	}
}
