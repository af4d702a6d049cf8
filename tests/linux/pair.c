/* Loads two registers from a device window that nobody has, as no driver does: such an access has
 * no syndrome that a hypervisor could emulate it by. "SIGBUS", and 0, if the kernel sends that. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void on_signal(int signo)
{
	static const char word[] = "SIGBUS\n";

	_exit(signo == SIGBUS && write(1, word, sizeof(word) - 1) > 0 ? 0 : 1);
}

int main(void)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC);
	/* The last of the virtio windows. */
	void *window = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0x0d02c000);

	if (window == MAP_FAILED) {
		perror("mapping a device window");
		return 77;
	}
	signal(SIGBUS, on_signal);
	signal(SIGSEGV, on_signal);
#ifdef __aarch64__
	__asm__ volatile("ldp x0, x1, [%0]" ::"r"(window) : "x0", "x1", "memory");
	puts("loaded");
	return 1;
#else
	puts("arm64 only");
	return 77;
#endif
}
