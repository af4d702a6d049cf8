/* Writes init's log lines. One thread: init's. */
#include "guest/init/klog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static int kmsg_fd = -1;

void klog_open(void)
{
	if (kmsg_fd < 0)
		kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
}

void klog(const char *fmt, ...)
{
	static const char prefix[] = "<4>stasis-init: ";
	const size_t level_len = 3; /* "<4>" is /dev/kmsg's */
	int saved_errno = errno;
	char line[512];
	size_t len = sizeof(prefix) - 1;
	va_list ap;
	int n;

	(void)snprintf(line, sizeof(line), "%s", prefix);
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	va_end(ap);
	if (n > 0)
		len = MIN(len + (size_t)n, sizeof(line) - 2);
	line[len++] = '\n';
	if (kmsg_fd < 0 || write(kmsg_fd, line, len) < 0)
		(void)!write(STDERR_FILENO, line + level_len, len - level_len);
	errno = saved_errno;
}
