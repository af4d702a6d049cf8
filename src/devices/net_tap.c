/* Frames by the host's tun driver (Documentation/networking/tuntap.rst), straight between its
 * buffers and the guest's. Control thread. */
#include "devices/net_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"

struct tap {
	struct net_port port;
	bool multi, attached;
};

static struct tap *from_port(struct net_port *port)
{
	return container_of(port, struct tap, port);
}

/* The driver writes ten bytes of the header, and counts twelve. */
static ssize_t receive(struct net_port *port, struct iovec *iov, unsigned n)
{
	for (;;) {
		ssize_t got = readv(port->fd, iov, (int)n);

		if (got >= 0)
			return got;
		if (errno != EINTR)
			return -errno;
	}
}

static int transmit(struct net_port *port, const struct iovec *iov, unsigned n)
{
	for (;;) {
		if (writev(port->fd, iov, (int)n) >= 0)
			return 0;
		/* EBADFD: the interface is gone. EIO: it is down; EINVAL: no proper header. */
		if (errno != EINTR)
			return errno == EBADFD ? -EPIPE : -errno;
	}
}

static int set_offloads(struct net_port *port, unsigned offloads)
{
	return ioctl(port->fd, TUNSETOFFLOAD, (unsigned long)offloads) < 0 ? -errno : 0;
}

static int set_attached(struct net_port *port, bool attached)
{
	struct tap *t = from_port(port);
	struct ifreq req = {.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	if (!t->multi || t->attached == attached)
		return 0;
	if (ioctl(port->fd, TUNSETQUEUE, &req) < 0)
		return -errno;
	t->attached = attached;
	return 0;
}

static void tap_free(struct net_port *port)
{
	fd_close(&port->fd);
	free(from_port(port));
}

static const struct net_port_ops tap_ops = {
	.receive = receive,
	.transmit = transmit,
	.set_offloads = set_offloads,
	.set_attached = set_attached,
	.free = tap_free,
};

static int configure(int fd, const char *name, bool multi)
{
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int header = NET_HEADER_BYTES, little = 1;

	if (multi)
		req.ifr_flags |= IFF_MULTI_QUEUE;
	strncpy(req.ifr_name, name, sizeof(req.ifr_name) - 1);
	if (ioctl(fd, TUNSETIFF, &req) < 0)
		return -errno;
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 || ioctl(fd, TUNSETVNETLE, &little) < 0 ||
	    ioctl(fd, TUNSETOFFLOAD, 0ul) < 0)
		return -errno;
	return 0;
}

static int explain(int r, const char *name, struct error *err)
{
	switch (r) {
	case -EPERM:
		error_contention(err, "tap %s: it is not there, or not ours to use", name);
		error_hint(err, "sudo ip tuntap add %s mode tap multi_queue user $USER", name);
		return r;
	case -EBUSY:
		return error_contention(err, "tap %s is in use by another program", name);
	case -EINVAL:
		return error_usage(err, "tap %s is an interface of another kind", name);
	default:
		return error_set_shortage(err, r, "opening tap %s", name);
	}
}

static int open_device(struct error *err)
{
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), r = -errno;

	if (fd >= 0)
		return fd;
	if (r != -ENOENT && r != -ENODEV && r != -EACCES && r != -EPERM)
		return error_set_shortage(err, r, "opening /dev/net/tun");
	error_contention(err, "a tap needs /dev/net/tun: %s", strerror(-r));
	error_hint(err, r == -EACCES || r == -EPERM ? "give yourself the right to /dev/net/tun"
						    : "sudo modprobe tun");
	return r;
}

static int open_queue(const char *name, bool multi, struct net_port **ret_port, struct error *err)
{
	int fd = open_device(err), r;
	struct tap *t;

	if (fd < 0)
		return fd;
	r = configure(fd, name, multi);
	t = r == 0 ? calloc(1, sizeof(*t)) : NULL;
	if (!t) {
		fd_close(&fd);
		return r < 0 ? r : -ENOMEM;
	}
	*t = (struct tap){.port = {.ops = &tap_ops, .fd = fd}, .multi = multi, .attached = true};
	*ret_port = &t->port;
	return 0;
}

/* Whether somebody has it: of a tap, the carrier is its users. With many queues the driver lets
 * anybody join, and gives each part of the frames. */
static bool is_held(const char *name)
{
	struct ethtool_value link = {.cmd = ETHTOOL_GLINK};
	struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq req = {.ifr_data = (void *)&driver};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(req.ifr_name, name, sizeof(req.ifr_name) - 1);
	if (fd < 0 || ioctl(fd, SIOCETHTOOL, &req) < 0 || strcmp(driver.driver, "tun") != 0)
		return false;
	req.ifr_data = (void *)&link;
	return ioctl(fd, SIOCETHTOOL, &req) == 0 && link.data;
}

int net_tap_open(const char *name, unsigned pairs, struct net_port **ret_ports, unsigned *ret_pairs,
		 struct error *err)
{
	struct net_port *first;
	bool multi = pairs > 1;
	unsigned n = 1;
	int r;

	if (strlen(name) == 0 || strlen(name) >= IFNAMSIZ || strchr(name, '%'))
		return error_usage(err, "%s: a tap's name has 1 to %d characters", name,
				   IFNAMSIZ - 1);
	if (is_held(name))
		return explain(-EBUSY, name, err);
	r = open_queue(name, multi, &first, err);
	/* One that was made before, with or without many queues, has to be opened alike. */
	if (r == -EINVAL) {
		multi = !multi;
		r = open_queue(name, multi, &first, err);
	}
	if (r < 0)
		return err->code ? r : explain(r, name, err);
	ret_ports[0] = first;
	/* Fewer than asked for do as well. */
	for (; multi && n < pairs; n++)
		if (open_queue(name, multi, &ret_ports[n], NULL) < 0)
			break;
	*ret_pairs = n;
	return 0;
}
