/* Leaves nothing running, nothing unwritten, and the machine off. One thread: init's. */
#include "guest/init/power.h"

#include <errno.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "guest/init/klog.h"
#include "guest/init/setup.h"

/* A process in the kernel's hands may not die; it is not waited for longer than this. */
#define KILL_NS	   1000000000u
#define MOUNTS_MAX 256

static void kill_all(void)
{
	uint64_t end_ns = now_ns() + KILL_NS;
	pid_t pid;

	/* From process 1: everyone but itself and the kernel's threads. */
	(void)kill(-1, SIGKILL);
	do {
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid == 0)
			usleep(500);
	} while (pid >= 0 && now_ns() < end_ns);
}

/* The last mounted first. What can't be unmounted is at least made read-only, which is as safe. */
static void unmount_all(void)
{
	char *targets[MOUNTS_MAX];
	struct mntent *entry;
	size_t count = 0;
	FILE *list = setmntent("/proc/self/mounts", "re");

	if (!list)
		return;
	while (count < MOUNTS_MAX && (entry = getmntent(list))) {
		if (!strcmp(entry->mnt_dir, "/") || setup_is_mount(entry->mnt_dir))
			continue;
		targets[count] = strdup(entry->mnt_dir);
		if (targets[count])
			count++;
	}
	endmntent(list);
	while (count > 0) {
		char *target = targets[--count];

		if (umount2(target, UMOUNT_NOFOLLOW) < 0 && errno == EBUSY &&
		    mount(NULL, target, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
			klog("%s stays mounted: %s", target, strerror(errno));
		free(target);
	}
}

void power_settle(void)
{
	kill_all();
	sync();
	unmount_all();
}

void power_off(void)
{
	sync();
	(void)reboot(RB_POWER_OFF);
	klog("powering off: %s", strerror(errno));
	(void)reboot(RB_AUTOBOOT); /* the host tells the two apart, and ends either way */
	/* Returning would panic the kernel. */
	for (;;)
		pause();
}
