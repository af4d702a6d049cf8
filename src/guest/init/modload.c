/* Loads modules by finit_module. One thread: init's. */
#include "guest/init/modload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/init/command.h"
#include "guest/init/klog.h"
#include "guest/init/modparam.h"
#include "guest/session_protocol.h"

/* The kernel's command line (at most 4 KiB here); what can't be read is as if it were empty. */
static void read_cmdline(char *buf, size_t len)
{
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, buf, len - 1) : 0;

	buf[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

static int load(const char *name, const char *cmdline)
{
	char path[512];
	char *params;
	int fd, r = 0;

	if (snprintf(path, sizeof(path), SESSION_MODULES_DIR "/%s.ko", name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	params = modparam_find(cmdline, name);
	if (syscall(SYS_finit_module, fd, params ?: "", 0) < 0 && errno != EEXIST)
		r = -errno;
	free(params);
	close(fd);
	return r;
}

void modload_all(void)
{
	char cmdline[4096];
	const char **names;
	int r = command_load(SESSION_MODULES_FILE, &names);

	if (r < 0) {
		if (r != -ENOENT)
			klog("reading %s: %s", SESSION_MODULES_FILE, strerror(-r));
		return;
	}
	read_cmdline(cmdline, sizeof(cmdline));
	for (const char **name = names; *name; name++) {
		r = load(*name, cmdline);
		if (r < 0)
			klog("loading module %s: %s", *name, strerror(-r));
	}
	free((void *)names);
}
