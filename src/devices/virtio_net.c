/* Frames between the rings and the ports. Control thread. A port is polled while its pair is idle
 * and read or written without waiting otherwise, a bounded number of frames in each turn; what a
 * port doesn't take stays in the ring. So nothing is in flight but polls. */
#include "devices/virtio_net.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <string.h>

#include "base/util.h"
#include "devices/net_rx.h"

#define QUEUE_SIZE 256
/* One turn of the loop takes no more from one queue, or port. */
#define TURN_FRAMES   128
#define TURN_COMMANDS 16

/* Control queue (5.1.6.5). */
enum { CTRL_RX = 0, CTRL_MAC = 1, CTRL_ANNOUNCE = 3, CTRL_MQ = 4, CTRL_OFFLOADS = 5 };
enum { CTRL_RX_PROMISC = 0, CTRL_RX_ALLMULTI = 1 };
enum { CTRL_MAC_TABLE = 0, CTRL_MAC_ADDR = 1 };
/* More than this no command has but the table of addresses, whose entries nobody looks at. */
#define CTRL_BYTES 64

#define BIT(f) (1ull << (f))
#define CTRL_BITS                                                                                  \
	(BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | \
	 BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))
#define GUEST_OFFLOADS                                                                             \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |                             \
	 BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))
#define HOST_OFFLOADS                                                                              \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |      \
	 BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))

/* 5.1.4 */
struct net_space {
	uint8_t mac[NET_MAC_BYTES];
	uint16_t status, max_pairs, mtu;
};
_Static_assert(sizeof(struct net_space) == 12, "laid out as the specification has it");

struct net_pair {
	struct virtio_net *net;
	unsigned index; /* its queues: 2 * index receives, the next transmits */
	struct net_port *port;
	struct net_rx rx;
	struct loop_op readable, writable;
	bool gone; /* the port is */
};

struct virtio_net {
	struct virtio_device dev;
	struct virtio_ops ops; /* the features differ */
	struct loop *loop;
	const char *name;
	bool mac_own;
	struct loop_timer again; /* goes on with what a turn has left */
	uint32_t again_rx, again_tx;
	struct virtio_net_stats stats;
	unsigned max_pairs;
	struct net_pair pair[VIRTIO_NET_MAX_PAIRS];

	/* What the driver has made of it: all that a snapshot needs besides the rings. */
	struct net_space space;
	unsigned pairs;	   /* in use */
	uint64_t offloads; /* of GUEST_OFFLOADS */
};

static struct virtio_net *from_device(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_net, dev);
}

static bool has(const struct virtio_net *net, unsigned feature)
{
	return net->dev.features >> feature & 1;
}

static bool may_serve(const struct net_pair *p)
{
	return virtio_running(&p->net->dev) && !p->gone && p->index < p->net->pairs;
}

/* ---- waiting ------------------------------------------------------------------------------ */

static void come_again(struct virtio_net *net, uint32_t *set, unsigned index)
{
	*set |= 1u << index;
	/* Without memory for a timer, the driver's next notification has to do. */
	if (loop_timer_set(net->loop, &net->again, 0) < 0)
		log_warn("%s: no memory for a timer", net->name);
}

static void wait_for(struct net_pair *p, struct loop_op *op, short events)
{
	struct virtio_net *net = p->net;

	if (!op->active && loop_poll_fd(net->loop, op, p->port->fd, events) < 0)
		come_again(net, op == &p->readable ? &net->again_rx : &net->again_tx, p->index);
}

static void set_link(struct virtio_net *net, bool up)
{
	if (up == virtio_net_link_up(net))
		return;
	net->space.status ^= VIRTIO_NET_S_LINK_UP;
	virtio_config_changed(&net->dev);
}

/* The program or device at the other end has ended: as if somebody pulled the cable. */
static void port_gone(struct net_pair *p)
{
	p->gone = true;
	log_warn("%s: the host's end is gone; the guest's link is down", p->net->name);
	set_link(p->net, false);
}

/* ---- to the guest ------------------------------------------------------------------------- */

static void serve_rx(struct net_pair *p)
{
	struct virtio_net *net = p->net;
	struct virtq *q = &net->dev.queue[2 * p->index];
	enum net_rx_result r = NET_RX_FRAME;

	/* Whoever polls will come. */
	if (p->readable.active)
		return;
	for (unsigned n = 0; r == NET_RX_FRAME && may_serve(p); n++) {
		if (n == TURN_FRAMES) {
			come_again(net, &net->again_rx, p->index);
			break;
		}
		r = net_rx_next(&p->rx, q, p->port);
	}
	if (r == NET_RX_EMPTY)
		wait_for(p, &p->readable, POLLIN);
	else if (r == NET_RX_FAULT)
		virtio_fault(&net->dev, "%s: bad receive buffers", net->name);
	else if (r == NET_RX_GONE)
		port_gone(p);
	virtio_signal(&net->dev, q);
}

/* ---- from the guest ----------------------------------------------------------------------- */

/* -EAGAIN: it has to wait. */
static int transmit(struct net_pair *p, const struct virtq_chain *c)
{
	struct virtio_net *net = p->net;
	int r = -EMSGSIZE;

	if (c->out_bytes >= NET_HEADER_BYTES + NET_ETHER_BYTES && c->out_bytes <= NET_FRAME_MAX)
		r = p->port->ops->transmit(p->port, c->iov, c->out);
	if (r == 0) {
		net->stats.tx_frames++;
		net->stats.tx_bytes += c->out_bytes - NET_HEADER_BYTES;
	} else if (r != -EAGAIN) {
		net->stats.tx_refused++;
	}
	return r;
}

/* What went in part comes first. */
static int flush(struct net_pair *p)
{
	int r = p->port->unsent ? p->port->ops->flush(p->port) : 0;

	if (r == -EAGAIN)
		wait_for(p, &p->writable, POLLOUT);
	else if (r < 0)
		port_gone(p);
	return r;
}

static void serve_tx(struct net_pair *p)
{
	struct virtio_net *net = p->net;
	struct virtq *q = &net->dev.queue[2 * p->index + 1];
	struct virtq_chain c;
	int r = 0;

	if (p->writable.active || !virtio_running(&net->dev) || p->index >= net->pairs ||
	    (!p->gone && flush(p) < 0))
		return;
	for (unsigned n = 0; virtio_running(&net->dev); n++) {
		if (n == TURN_FRAMES) {
			come_again(net, &net->again_tx, p->index);
			break;
		}
		r = virtq_pop(q, &c);
		if (r < 0)
			virtio_fault(&net->dev, "%s: bad chain to transmit (%d)", net->name, r);
		if (r <= 0)
			break;
		/* Without a link, frames go nowhere. */
		r = p->gone ? -EPIPE : transmit(p, &c);
		if (r == -EAGAIN) {
			virtq_unpop(q);
			wait_for(p, &p->writable, POLLOUT);
			break;
		}
		if (r == -EPIPE && !p->gone)
			port_gone(p);
		virtq_put(q, c.head, 0);
	}
	if (!p->gone)
		(void)flush(p);
	virtio_signal(&net->dev, q);
}

/* ---- control ------------------------------------------------------------------------------ */

static unsigned tun_offloads(uint64_t bits)
{
	return (bits & BIT(VIRTIO_NET_F_GUEST_CSUM) ? TUN_F_CSUM : 0) |
	       (bits & BIT(VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0) |
	       (bits & BIT(VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0) |
	       (bits & BIT(VIRTIO_NET_F_GUEST_ECN) ? TUN_F_TSO_ECN : 0);
}

/* False: the host refuses the set, which no driver that keeps to 5.1.3.1 asks for. */
static bool set_offloads(struct virtio_net *net, uint64_t bits)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < net->max_pairs; i++)
		if (net->pair[i].port->ops->set_offloads)
			r = net->pair[i].port->ops->set_offloads(net->pair[i].port,
								 tun_offloads(bits));
	if (r == 0)
		net->offloads = bits;
	else
		log_guest(&net->dev.fault_log, "%s: offloads %#x: %s", net->name,
			  tun_offloads(bits), strerror(-r));
	return r == 0;
}

/* The first n pairs take part. */
static bool attach_pairs(struct virtio_net *net, unsigned n)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < net->max_pairs; i++)
		if (net->pair[i].port->ops->set_attached)
			r = net->pair[i].port->ops->set_attached(net->pair[i].port, i < n);
	if (r < 0) {
		log_guest(&net->dev.fault_log, "%s: %u queues: %s", net->name, n, strerror(-r));
		return false;
	}
	net->pairs = n;
	return true;
}

static bool set_pairs(struct virtio_net *net, unsigned n)
{
	if (!attach_pairs(net, n))
		return false;
	for (unsigned i = 0; i < n; i++) {
		serve_rx(&net->pair[i]);
		serve_tx(&net->pair[i]);
	}
	return true;
}

/* Two tables of addresses: count 4, then as many. They would filter; a guest sorts out by itself
 * what it has not asked for (5.1.6.5.1: filtering is done as well as it can be). */
static bool tables_are_whole(const struct virtq_chain *c)
{
	uint64_t at = 2;

	for (unsigned table = 0; table < 2; table++) {
		uint32_t count = 0;
		uint8_t *bytes = (uint8_t *)&count;

		if (at + sizeof(count) > c->out_bytes)
			return false;
		/* Byte by byte: it may lie across segments. */
		for (unsigned i = 0; i < sizeof(count); i++) {
			uint64_t skip = at + i;
			const struct iovec *v = c->iov;

			for (; skip >= v->iov_len; v++)
				skip -= v->iov_len;
			bytes[i] = ((const uint8_t *)v->iov_base)[skip];
		}
		__asm__ volatile("" ::: "memory");
		at += sizeof(count) + (uint64_t)count * NET_MAC_BYTES;
	}
	return at <= c->out_bytes;
}

static bool obey(struct virtio_net *net, const struct virtq_chain *c)
{
	uint8_t cmd[CTRL_BYTES];
	size_t len = net_iov_read(c->iov, c->out, cmd, sizeof(cmd));
	uint16_t pairs;
	uint64_t bits;

	/* The copy is what gets checked. */
	__asm__ volatile("" ::: "memory");
	if (len < 2)
		return false;
	len = c->out_bytes - 2;
	switch (cmd[0]) {
	case CTRL_RX:
		/* A tap gives all, which is more than any of these asks for. */
		return has(net, VIRTIO_NET_F_CTRL_RX) && cmd[1] <= CTRL_RX_ALLMULTI && len == 1;
	case CTRL_MAC:
		if (cmd[1] == CTRL_MAC_TABLE)
			return has(net, VIRTIO_NET_F_CTRL_RX) && tables_are_whole(c);
		if (cmd[1] != CTRL_MAC_ADDR || !has(net, VIRTIO_NET_F_CTRL_MAC_ADDR) ||
		    len != NET_MAC_BYTES)
			return false;
		memcpy(net->space.mac, cmd + 2, NET_MAC_BYTES);
		return true;
	case CTRL_ANNOUNCE:
		if (cmd[1] != 0 || !has(net, VIRTIO_NET_F_GUEST_ANNOUNCE))
			return false;
		net->space.status &= (uint16_t)~VIRTIO_NET_S_ANNOUNCE;
		return true;
	case CTRL_MQ:
		if (cmd[1] != 0 || !has(net, VIRTIO_NET_F_MQ) || len != sizeof(pairs))
			return false;
		memcpy(&pairs, cmd + 2, sizeof(pairs));
		return pairs >= 1 && pairs <= net->max_pairs && set_pairs(net, pairs);
	case CTRL_OFFLOADS:
		if (cmd[1] != 0 || !has(net, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
		    len != sizeof(bits))
			return false;
		memcpy(&bits, cmd + 2, sizeof(bits));
		return !(bits & ~(net->dev.features & GUEST_OFFLOADS)) && set_offloads(net, bits);
	default:
		return false;
	}
}

static unsigned control_queue(const struct virtio_net *net)
{
	return has(net, VIRTIO_NET_F_MQ) ? 2 * net->max_pairs : 2;
}

static void serve_control(struct virtio_net *net)
{
	struct virtq *q = &net->dev.queue[control_queue(net)];
	struct virtq_chain c;

	for (unsigned n = 0; virtio_running(&net->dev); n++) {
		uint8_t answer;
		int r;

		if (n == TURN_COMMANDS) {
			come_again(net, &net->again_tx, net->max_pairs);
			break;
		}
		r = virtq_pop(q, &c);
		if (r == 0)
			break;
		if (r > 0 && !c.in_bytes) {
			virtq_unpop(q);
			r = -ENOBUFS;
		}
		if (r < 0) {
			virtio_fault(&net->dev, "%s: bad command (%d)", net->name, r);
			break;
		}
		net->stats.commands++;
		answer = obey(net, &c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
		*(uint8_t *)c.iov[c.out].iov_base = answer;
		virtq_put(q, c.head, 1);
	}
	virtio_signal(&net->dev, q);
}

/* ---- the device --------------------------------------------------------------------------- */

static void notify(struct virtio_device *dev, unsigned q)
{
	struct virtio_net *net = from_device(dev);

	if (has(net, VIRTIO_NET_F_CTRL_VQ) && q == control_queue(net))
		serve_control(net);
	else if (q >= 2 * net->max_pairs)
		return;
	else if (q % 2 == 0)
		serve_rx(&net->pair[q / 2]);
	else
		serve_tx(&net->pair[q / 2]);
}

static void serve_again(struct loop_timer *t)
{
	struct virtio_net *net = container_of(t, struct virtio_net, again);
	uint32_t rx = net->again_rx, tx = net->again_tx;

	net->again_rx = net->again_tx = 0;
	for (unsigned i = 0; i < net->max_pairs; i++) {
		if (rx >> i & 1)
			serve_rx(&net->pair[i]);
		if (tx >> i & 1)
			serve_tx(&net->pair[i]);
	}
	if (tx >> net->max_pairs & 1)
		serve_control(net);
}

static void polls_ended(struct virtio_net *net)
{
	for (unsigned i = 0; i < net->max_pairs; i++)
		if (net->pair[i].readable.active || net->pair[i].writable.active)
			return;
	if (net->dev.quiescing)
		virtio_quiesced(&net->dev);
}

static void on_readable(struct loop_op *op, int res)
{
	struct net_pair *p = container_of(op, struct net_pair, readable);

	if (res != -ECANCELED)
		serve_rx(p);
	polls_ended(p->net);
}

static void on_writable(struct loop_op *op, int res)
{
	struct net_pair *p = container_of(op, struct net_pair, writable);

	if (res != -ECANCELED)
		serve_tx(p);
	polls_ended(p->net);
}

static void config_read(struct virtio_device *dev, uint64_t offset, void *data, unsigned len)
{
	const struct virtio_net *net = from_device(dev);

	memset(data, 0, len);
	if (offset < sizeof(net->space))
		memcpy(data, (const uint8_t *)&net->space + offset,
		       MIN(len, sizeof(net->space) - offset));
}

static void activate(struct virtio_device *dev)
{
	struct virtio_net *net = from_device(dev);

	for (unsigned i = 0; i < net->max_pairs; i++)
		net->pair[i].rx.mergeable = has(net, VIRTIO_NET_F_MRG_RXBUF);
	(void)set_offloads(net, net->dev.features & GUEST_OFFLOADS);
	(void)set_pairs(net, 1);
}

/* Frames that come meanwhile wait in the host, as long as it keeps them. */
static void quiesce(struct virtio_device *dev)
{
	struct virtio_net *net = from_device(dev);

	loop_timer_clear(net->loop, &net->again);
	net->again_rx = net->again_tx = 0;
	for (unsigned i = 0; i < net->max_pairs; i++) {
		struct net_pair *p = &net->pair[i];

		net_rx_put_back(&p->rx, &dev->queue[2 * i]);
		loop_cancel(net->loop, &p->readable);
		loop_cancel(net->loop, &p->writable);
	}
	polls_ended(net);
}

static void reset(struct virtio_device *dev)
{
	struct virtio_net *net = from_device(dev);

	for (unsigned i = 0; i < net->max_pairs; i++)
		net_rx_reset(&net->pair[i].rx);
	net->pairs = 0;
	net->space.status &= (uint16_t)~VIRTIO_NET_S_ANNOUNCE;
}

/* A frame that came and that the guest has given no room for. */
static void staged_state(struct net_rx *rx, struct state_io *io)
{
	uint32_t bytes = (uint32_t)rx->staged_bytes;

	state_u32(io, "staged_bytes", &bytes);
	state_check(io, "staged_bytes",
		    !bytes || (bytes >= NET_HEADER_BYTES + NET_ETHER_BYTES &&
			       bytes <= NET_FRAME_MAX));
	if (io->restoring && io->err.code)
		return;
	state_bytes(io, "staged", rx->staged, bytes);
	if (state_restoring(io))
		rx->staged_bytes = bytes;
}

/* What is on its way in a port's own buffers is lost, as frames may be. */
static void net_state(struct virtio_device *dev, struct state_io *io)
{
	struct virtio_net *net = from_device(dev);
	struct net_space space = net->space;
	uint64_t offloads = dev->activated ? net->offloads : 0;
	uint32_t pairs = net->pairs;
	bool up = virtio_net_link_up(net);

	if (state_begin(io, "virtio-net", 1)) {
		state_bytes(io, "mac", space.mac, sizeof(space.mac));
		state_u16(io, "status", &space.status);
		state_check(io, "status",
			    !(space.status & ~(VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE)));
		state_u16(io, "max_pairs", &space.max_pairs);
		state_check(io, "max_pairs", space.max_pairs == net->max_pairs);
		state_u16(io, "mtu", &space.mtu);
		state_check(io, "mtu", space.mtu == net->space.mtu);
		state_u32(io, "pairs", &pairs);
		state_check(io, "pairs", pairs <= (has(net, VIRTIO_NET_F_MQ) ? net->max_pairs : 1));
		state_u64(io, "offloads", &offloads);
		state_check(io, "offloads", !(offloads & ~(dev->features & GUEST_OFFLOADS)));
		for (unsigned i = 0; i < net->max_pairs; i++)
			staged_state(&net->pair[i].rx, io);
	}
	state_end(io);
	if (!state_restoring(io))
		return;
	if (dev->activated && (!set_offloads(net, offloads) || !attach_pairs(net, pairs))) {
		state_refuse(io, "offloads or pairs", "are not taken by this host's network");
		return;
	}
	net->offloads = offloads;
	net->pairs = pairs;
	if (net->mac_own)
		memcpy(space.mac, net->space.mac, sizeof(space.mac));
	net->space = space;
	for (unsigned i = 0; i < net->max_pairs; i++)
		net->pair[i].rx.mergeable = dev->activated && has(net, VIRTIO_NET_F_MRG_RXBUF);
	/* The link is this host's. */
	set_link(net, up);
}

static const struct virtio_ops net_ops = {
	.name = "virtio-net",
	.device_id = 1,
	.features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
		    CTRL_BITS,
	.queues = 3,
	.queue_size = QUEUE_SIZE,
	.config_read = config_read,
	/* The address is set by a command, since it takes six bytes at once. */
	.activate = activate,
	.notify = notify,
	.quiesce = quiesce,
	.polls_only = true,
	.reset = reset,
	.state = net_state,
};

static void destroy(struct virtio_net *net)
{
	loop_timer_clear(net->loop, &net->again);
	for (unsigned i = 0; i < VIRTIO_NET_MAX_PAIRS; i++) {
		struct net_pair *p = &net->pair[i];

		assert(!p->readable.active && !p->writable.active);
		if (p->port)
			p->port->ops->free(p->port);
		net_rx_done(&p->rx);
	}
	free(net);
}

int virtio_net_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		   const struct virtio_net_config *config, struct virtio_net **ret_net,
		   struct error *err)
{
	struct virtio_net *net = calloc(1, sizeof(*net));
	int r = net ? 0 : -ENOMEM;

	assert(config->pairs >= 1 && config->pairs <= VIRTIO_NET_MAX_PAIRS);
	for (unsigned i = 0; r == 0 && i < config->pairs; i++)
		r = net_rx_init(&net->pair[i].rx);
	if (r < 0) {
		for (unsigned i = 0; net && i < config->pairs; i++)
			net_rx_done(&net->pair[i].rx);
		free(net);
		return error_set_shortage(err, r, "making a virtio network device");
	}
	net->ops = net_ops;
	if (config->offloads)
		net->ops.features |= GUEST_OFFLOADS | HOST_OFFLOADS;
	if (config->mtu)
		net->ops.features |= BIT(VIRTIO_NET_F_MTU);
	if (config->pairs > 1)
		net->ops.features |= BIT(VIRTIO_NET_F_MQ);
	virtio_init(&net->dev, &net->ops, mem, irq_fd);
	net->dev.queue_count = 2 * config->pairs + 1;
	net->loop = loop;
	net->name = config->name;
	net->mac_own = config->mac_own;
	net->again.fire = serve_again;
	net->max_pairs = config->pairs;
	net->space = (struct net_space){.status = VIRTIO_NET_S_LINK_UP,
					.max_pairs = (uint16_t)config->pairs,
					.mtu = config->mtu};
	memcpy(net->space.mac, config->mac, NET_MAC_BYTES);
	for (unsigned i = 0; i < config->pairs; i++) {
		struct net_pair *p = &net->pair[i];

		p->net = net;
		p->index = i;
		p->port = config->port[i];
		p->readable.done = on_readable;
		p->writable.done = on_writable;
	}
	*ret_net = net;
	return 0;
}

void virtio_net_free(struct virtio_net *net)
{
	if (net)
		destroy(net);
}

struct virtio_device *virtio_net_device(struct virtio_net *net)
{
	return &net->dev;
}

void virtio_net_announce(struct virtio_net *net)
{
	if (!has(net, VIRTIO_NET_F_GUEST_ANNOUNCE) || !virtio_net_link_up(net))
		return;
	net->space.status |= VIRTIO_NET_S_ANNOUNCE;
	virtio_config_changed(&net->dev);
}

bool virtio_net_link_up(const struct virtio_net *net)
{
	return net->space.status & VIRTIO_NET_S_LINK_UP;
}

struct virtio_net_stats virtio_net_stats(const struct virtio_net *net)
{
	struct virtio_net_stats s = net->stats;

	for (unsigned i = 0; i < net->max_pairs; i++) {
		s.rx_frames += net->pair[i].rx.frames;
		s.rx_bytes += net->pair[i].rx.frame_bytes;
		s.rx_dropped += net->pair[i].rx.dropped;
	}
	s.faults = net->dev.faults;
	return s;
}
