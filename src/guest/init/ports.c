/* Waits for ports and terminals that drivers make when they are ready to. One thread: init's. */
#include "guest/init/ports.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "guest/init/klog.h"
#include "guest/session_protocol.h"

#define SYSFS_PORTS "/sys/class/virtio-ports"
/* Another look without a uevent: where there are none, or one was dropped. */
#define LOOK_MS		   20
#define NS_PER_MS	   1000000u
#define KERNEL_EVENT_GROUP 1

void ports_init(struct ports *p)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_EVENT_GROUP};

	p->uevents = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			    NETLINK_KOBJECT_UEVENT);
	if (p->uevents >= 0 && bind(p->uevents, (struct sockaddr *)&address, sizeof(address)) < 0)
		ports_done(p);
}

void ports_done(struct ports *p)
{
	if (p->uevents >= 0)
		close(p->uevents);
	p->uevents = -1;
}

/* Until something happened to a device, or for a while; false past the deadline. */
static bool wait_for_news(struct ports *p, uint64_t deadline_ns)
{
	struct pollfd fd = {.fd = p->uevents, .events = POLLIN};
	char event[4096];

	if (now_ns() >= deadline_ns)
		return false;
	if (poll(&fd, 1, LOOK_MS) > 0)
		while (recv(p->uevents, event, sizeof(event), 0) > 0)
			;
	return true;
}

/* The name that the host gave a port, e.g. "vport1p2" → "org.stasis.stdin". */
static bool has_name(const char *port, const char *name)
{
	char path[300], text[128];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), SYSFS_PORTS "/%s/name", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) /* not named yet */
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return !strcmp(text, name);
}

/* -ENOENT if there is no port of that name now. */
static int find(const char *name, char *device, size_t size)
{
	DIR *dir = opendir(SYSFS_PORTS);
	struct dirent *entry;
	int r = -ENOENT;

	if (!dir)
		return -ENOENT;
	while (r < 0 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vport", 5) || !has_name(entry->d_name, name))
			continue;
		if (snprintf(device, size, "/dev/%s", entry->d_name) < (int)size)
			r = 0;
	}
	closedir(dir);
	return r;
}

/* A port whose host side isn't open polls as hung up and reads as ended; that isn't news yet. */
static void wait_connected(int fd, const char *name)
{
	uint64_t end_ns = now_ns() + (uint64_t)SESSION_CONNECT_MS * NS_PER_MS;

	for (;;) {
		struct pollfd state = {.fd = fd};

		if (poll(&state, 1, 0) == 0)
			return;
		if (now_ns() >= end_ns)
			break;
		/* No uevent tells, and poll returns at once. */
		(void)poll(NULL, 0, 1);
	}
	klog("the host has not opened %s", name);
}

int ports_open(struct ports *p, const char *name, uint64_t deadline_ns, int *ret_fd)
{
	char device[280];
	int r, fd;

	do {
		r = find(name, device, sizeof(device));
		if (r < 0)
			continue;
		fd = open(device, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0) {
			wait_connected(fd, name);
			*ret_fd = fd;
			return 0;
		}
		/* devtmpfs makes the node before the name, so anything is a failure. */
		r = -errno;
		break;
	} while (wait_for_news(p, deadline_ns));
	return r;
}

int ports_open_tty(struct ports *p, const char *path, uint64_t deadline_ns, int *ret_fd)
{
	int r, fd;

	do {
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		r = -errno;
	} while (wait_for_news(p, deadline_ns));
	return r;
}
