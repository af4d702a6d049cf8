/* Sets interfaces up by ioctl(2). One thread: init's. */
#include "guest/init/network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "guest/init/command.h"
#include "guest/init/klog.h"
#include "guest/session_protocol.h"

#define WAIT_NS	 5000000000u /* for a driver that looks for its devices in the background */
#define PAUSE_US 10000

/* One line of the file, its words taken apart. */
struct line {
	char mac[18], address[32], gateway[32], dns[32];
	unsigned prefix, mtu;
};

static bool has_address(const char *name, const char *mac)
{
	char path[64 + IFNAMSIZ], text[32] = "";
	int fd;

	(void)snprintf(path, sizeof(path), "/sys/class/net/%.15s/address", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return !strncmp(text, mac, strlen(mac));
}

static bool find(const char *mac, char name[IFNAMSIZ])
{
	DIR *dir = opendir("/sys/class/net");
	const struct dirent *e;
	bool found = false;

	while (dir && !found && (e = readdir(dir))) {
		found = strlen(e->d_name) < IFNAMSIZ && has_address(e->d_name, mac);
		if (found)
			(void)snprintf(name, IFNAMSIZ, "%.15s", e->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void put(struct sockaddr *to, struct in_addr address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};

	memcpy(to, &in, sizeof(in));
}

static int set_address(int fd, const char *name, const struct line *l)
{
	struct in_addr mask = {.s_addr = htonl(l->prefix ? ~0u << (32 - l->prefix) : 0)}, address;
	struct ifreq req = {0};

	if (inet_pton(AF_INET, l->address, &address) != 1)
		return 0;
	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%.15s", name);
	put(&req.ifr_addr, address);
	if (ioctl(fd, SIOCSIFADDR, &req) < 0)
		return -errno;
	put(&req.ifr_netmask, mask);
	return ioctl(fd, SIOCSIFNETMASK, &req) < 0 ? -errno : 0;
}

static int set_up(int fd, const char *name, const struct line *l)
{
	struct ifreq req = {0};
	int r;

	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%.15s", name);
	req.ifr_mtu = (int)l->mtu;
	if (l->mtu && ioctl(fd, SIOCSIFMTU, &req) < 0)
		return -errno;
	r = set_address(fd, name, l);
	if (r < 0)
		return r;
	if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
		return -errno;
	req.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &req) < 0 ? -errno : 0;
}

static int set_route(int fd, const struct line *l)
{
	struct in_addr gateway, any = {0};
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};

	if (inet_pton(AF_INET, l->gateway, &gateway) != 1)
		return 0;
	put(&route.rt_gateway, gateway);
	put(&route.rt_dst, any);
	put(&route.rt_genmask, any);
	return ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

/* One that the person has put there is theirs. */
static void set_resolver(const struct line *l)
{
	int fd;

	if (l->dns[0] == '-')
		return;
	(void)mkdir("/etc", 0755);
	fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	dprintf(fd, "nameserver %s\n", l->dns);
	close(fd);
}

static void serve_line(int fd, const char *text)
{
	uint64_t end_ns = now_ns() + WAIT_NS;
	char name[IFNAMSIZ];
	struct line l;
	int r;

	if (sscanf(text, "%17s %31[^/]/%2u %31s %31s %5u", l.mac, l.address, &l.prefix, l.gateway,
		   l.dns, &l.mtu) != 6 ||
	    l.prefix > 32) {
		klog("%s: what is \"%s\"?", SESSION_NETWORK_FILE, text);
		return;
	}
	while (!find(l.mac, name)) {
		if (now_ns() > end_ns) {
			klog("no network interface %s: does the kernel have a driver for "
			     "virtio-net?",
			     l.mac);
			return;
		}
		usleep(PAUSE_US);
	}
	r = set_up(fd, name, &l);
	if (r == 0)
		r = set_route(fd, &l);
	if (r < 0)
		klog("setting up network interface %s: %s", name, strerror(-r));
	set_resolver(&l);
}

void network_set_up(void)
{
	const char **lines;
	int fd, r = command_load(SESSION_NETWORK_FILE, &lines);

	if (r < 0)
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (const char **line = lines; fd >= 0 && *line; line++)
		serve_line(fd, *line);
	if (fd < 0)
		klog("making a socket: %s", strerror(errno));
	else
		close(fd);
	free((void *)lines);
}
