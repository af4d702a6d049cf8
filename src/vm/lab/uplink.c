/* Joins interfaces by ioctl(2), because the lab has no other program than this. Control thread. */
#include "vm/lab/uplink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"

const char *const lab_uplink_modules[] = {"virtio_net", "tun", "bridge", NULL};

static int set_up(int fd, const char *name)
{
	struct ifreq req = {0};

	memccpy(req.ifr_name, name, 0, sizeof(req.ifr_name) - 1);
	if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
		return -errno;
	req.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &req) < 0 ? -errno : 0;
}

/* Frames as long as what brings them sends: a bridge drops those that are too long for one side. */
static int take_mtu(int fd, const char *tap, const char *outer)
{
	struct ifreq req = {0};

	memccpy(req.ifr_name, outer, 0, sizeof(req.ifr_name) - 1);
	if (ioctl(fd, SIOCGIFMTU, &req) < 0)
		return -errno;
	memset(req.ifr_name, 0, sizeof(req.ifr_name));
	memccpy(req.ifr_name, tap, 0, sizeof(req.ifr_name) - 1);
	return ioctl(fd, SIOCSIFMTU, &req) < 0 ? -errno : 0;
}

static bool has_address(const char *name, const char *mac)
{
	char path[64 + IFNAMSIZ], *text = NULL;
	size_t len;
	bool same;

	snprintf(path, sizeof(path), "/sys/class/net/%.15s/address", name);
	if (file_read(path, 1 << 16, &text, &len) < 0)
		return false;
	same = !strncmp(text, mac, strlen(mac));
	free(text);
	return same;
}

/* The interface with that address. */
static int find(const char *mac, char name[IFNAMSIZ])
{
	DIR *dir = opendir("/sys/class/net");
	const struct dirent *e;
	bool found = false;

	if (!dir)
		return -errno;
	/* A bridge takes its first interface's address, and is not it. */
	while (!found && (e = readdir(dir)))
		if (strlen(e->d_name) < IFNAMSIZ && strncmp(e->d_name, "uplink", 6) != 0 &&
		    has_address(e->d_name, mac)) {
			(void)snprintf(name, IFNAMSIZ, "%.15s", e->d_name);
			found = true;
		}
	closedir(dir);
	return found ? 0 : -ENODEV;
}

static int add(int fd, const char *bridge, const char *name)
{
	struct ifreq req = {.ifr_ifindex = (int)if_nametoindex(name)};

	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%.15s", bridge);
	if (ioctl(fd, SIOCBRADDIF, &req) < 0 && errno != EBUSY)
		return -errno;
	return set_up(fd, name);
}

int lab_uplink_join(unsigned i, const char *tap, struct error *err)
{
	char mac[32], bridge[IFNAMSIZ], outer[IFNAMSIZ];
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? -errno : 0;

	snprintf(mac, sizeof(mac), LAB_UPLINK_MAC, i);
	snprintf(bridge, sizeof(bridge), "uplink%u", i);
	if (r == 0)
		r = find(mac, outer);
	if (r == 0)
		r = take_mtu(fd, tap, outer);
	if (r == 0 && ioctl(fd, SIOCBRADDBR, bridge) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = add(fd, bridge, outer);
	if (r == 0)
		r = add(fd, bridge, tap);
	if (r == 0)
		r = set_up(fd, bridge);
	return r < 0 ? error_set(err, r, "joining %s to the lab's network %u", tap, i) : 0;
}
