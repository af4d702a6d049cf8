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
#include "guest/session_protocol.h"

static int load(const char *name)
{
	char path[512];
	int fd, r = 0;

	if (snprintf(path, sizeof(path), SESSION_MODULES_DIR "/%s.ko", name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
		r = -errno;
	close(fd);
	return r;
}

void modload_all(void)
{
	const char **names;
	int r = command_load(SESSION_MODULES_FILE, &names);

	if (r < 0) {
		if (r != -ENOENT)
			klog("reading %s: %s", SESSION_MODULES_FILE, strerror(-r));
		return;
	}
	for (const char **name = names; *name; name++) {
		r = load(*name);
		if (r < 0)
			klog("loading module %s: %s", *name, strerror(-r));
	}
	free((void *)names);
}
