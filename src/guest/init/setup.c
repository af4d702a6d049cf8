/* Makes the guest habitable. One thread: init's. */
#include "guest/init/setup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/compiler.h"
#include "guest/init/klog.h"

#define NOSUID_NOEXEC (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* In order: a folder is on what is above it. The optional ones depend on the kernel's options. */
static const struct {
	const char *type, *target, *options;
	unsigned long flags;
	bool optional;
} mounts[] = {
	{"devtmpfs", "/dev", "mode=0755", MS_NOSUID, false},
	{"proc", "/proc", NULL, NOSUID_NOEXEC, false},
	{"sysfs", "/sys", NULL, NOSUID_NOEXEC, false},
	{"devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC, true},
	{"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV, true},
	{"mqueue", "/dev/mqueue", NULL, NOSUID_NOEXEC, true},
	{"hugetlbfs", "/dev/hugepages", NULL, MS_NOSUID | MS_NODEV, true},
	{"tmpfs", "/run", "mode=0755", MS_NOSUID | MS_NODEV, false},
	{"tmpfs", "/tmp", "mode=1777", MS_NOSUID | MS_NODEV, false},
	{"cgroup2", "/sys/fs/cgroup", NULL, NOSUID_NOEXEC, true},
	{"bpf", "/sys/fs/bpf", "mode=0700", NOSUID_NOEXEC, true},
	{"debugfs", "/sys/kernel/debug", NULL, NOSUID_NOEXEC, true},
	{"tracefs", "/sys/kernel/tracing", NULL, NOSUID_NOEXEC, true},
};

static const struct {
	const char *path, *target;
} links[] = {
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
};

/* The soft limit is what programs get, the hard one what they may ask for. Many descriptors and
 * locked memory are everyday needs of those who test schedulers (benchmarks with thousands of
 * tasks, BPF). */
static const struct {
	__rlimit_resource_t resource;
	rlim_t soft, hard;
} limits[] = {
	{RLIMIT_NOFILE, 65536, 1048576},
	{RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY},
	{RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY},
	{RLIMIT_SIGPENDING, RLIM_INFINITY, RLIM_INFINITY},
	{RLIMIT_CORE, 0, RLIM_INFINITY},
};

/* Whether the initramfs brought something there: a COMMAND of /tmp, say. */
static bool has_files(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		found = strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return found;
}

void setup_mounts(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		/* In sysfs the folder is there if the file system is. */
		(void)mkdir(mounts[i].target, 0755);
		/* The root is in memory as well: better that than hiding the person's files. */
		if (!strcmp(mounts[i].type, "tmpfs") && has_files(mounts[i].target)) {
			(void)chmod(mounts[i].target,
				    !strcmp(mounts[i].target, "/run") ? 0755 : 01777);
			continue;
		}
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags,
			  mounts[i].options) < 0 &&
		    errno != EBUSY && !mounts[i].optional)
			klog("mounting %s on %s: %s", mounts[i].type, mounts[i].target,
			     strerror(errno));
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		(void)!symlink(links[i].target, links[i].path);
}

bool setup_is_mount(const char *target)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++)
		if (!strcmp(target, mounts[i].target))
			return true;
	return false;
}

/* The kernel opened /dev/console on all three, if the initramfs has it. Pipes and ports must not
 * land there. */
static void open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static void loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0) /* a kernel without networking */
		return;
	if (ioctl(fd, SIOCGIFFLAGS, &lo) == 0) {
		lo.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
			klog("setting lo up: %s", strerror(errno));
	}
	close(fd);
}

void setup_system(void)
{
	static const char name[] = "stasis";

	open_standard_fds();
	umask(022);
	if (sethostname(name, sizeof(name) - 1) < 0)
		klog("setting the host name: %s", strerror(errno));
	loopback_up();
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit limit = {limits[i].soft, limits[i].hard};

		if (setrlimit(limits[i].resource, &limit) < 0)
			klog("setting limit %d: %s", (int)limits[i].resource, strerror(errno));
	}
	/* Ctrl-Alt-Del becomes SIGINT to init, which nobody handles, in place of a reset. */
	(void)reboot(RB_DISABLE_CAD);
}
