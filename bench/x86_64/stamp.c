/* Tells who measures that the first KVM_RUN is about to begin. Linked into the measured programs,
 * with --wrap=ioctl; or, with STAMP_PRELOAD, loaded into one that is not ours. Any thread. */
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "child.h"

#ifdef STAMP_PRELOAD
#define __wrap_ioctl		       ioctl
#define __real_ioctl(fd, request, arg) ((int)syscall(SYS_ioctl, fd, request, arg))
#else
int __real_ioctl(int fd, unsigned long request, ...);
#endif
int __wrap_ioctl(int fd, unsigned long request, ...);

void child_stamp(void)
{
	static atomic_bool done;
	const char *fd = getenv(CHILD_FD);
	uint64_t ns = now_ns();

	/* A reader that went away has its reason. */
	if (!atomic_exchange(&done, true) && fd && write(atoi(fd), &ns, sizeof(ns)) < 0)
		return;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	static atomic_bool stamped;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_RUN && !atomic_load_explicit(&stamped, memory_order_relaxed)) {
		atomic_store_explicit(&stamped, true, memory_order_relaxed);
		child_stamp();
	}
	return __real_ioctl(fd, request, arg);
}
