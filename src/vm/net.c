/* --net: its words, its refusals, its JSON, and the ports that it means. Control thread. */
#include "vm/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"
#include "devices/net_stream.h"
#include "devices/net_tap.h"
#include "vm/lab/uplink.h"

#define ACCEPTED                                                                                   \
	"tap=NAME[,mac=XX:XX:XX:XX:XX:XX][,ip=ADDRESS/BITS][,gw=ADDRESS][,dns=ADDRESS]"            \
	"[,offloads=off] or user[,mac=…] is accepted"
#define MAC_TEXT_BYTES 18

static bool parse_mac(const char *text, uint8_t mac[NET_MAC_BYTES])
{
	unsigned b[NET_MAC_BYTES];
	char end;

	if (strlen(text) != MAC_TEXT_BYTES - 1 ||
	    strspn(text, "0123456789abcdefABCDEF:") != MAC_TEXT_BYTES - 1 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != NET_MAC_BYTES)
		return false;
	for (unsigned i = 0; i < NET_MAC_BYTES; i++)
		mac[i] = (uint8_t)b[i];
	/* Groups and nobody are no interface's address. */
	return !(mac[0] & 1) && (b[0] | b[1] | b[2] | b[3] | b[4] | b[5]);
}

static const char *mac_text(const uint8_t mac[NET_MAC_BYTES], char text[MAC_TEXT_BYTES])
{
	snprintf(text, MAC_TEXT_BYTES, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return text;
}

static bool parse_ip(char *text, struct vm_net *n)
{
	char *slash = strchr(text, '/');
	uint64_t bits;

	if (!slash || parse_uint(slash + 1, 1, 32, &bits) < 0)
		return false;
	*slash = '\0';
	n->prefix = (unsigned)bits;
	return inet_pton(AF_INET, text, &n->address) == 1 && n->address.s_addr;
}

static bool parse_word(char *word, struct vm_net *n)
{
	uint64_t number;

	if (!strncmp(word, "mac=", 4)) {
		n->mac_given = true;
		return parse_mac(word + 4, n->mac);
	}
	if (n->kind != VM_NET_TAP)
		return false;
	if (!strncmp(word, "ip=", 3))
		return parse_ip(word + 3, n);
	if (!strncmp(word, "gw=", 3))
		return inet_pton(AF_INET, word + 3, &n->gateway) == 1;
	if (!strncmp(word, "dns=", 4))
		return inet_pton(AF_INET, word + 4, &n->dns) == 1;
	/* Internal, from the outer stasis to the one in the lab. */
	if (!strncmp(word, "uplink=", 7)) {
		if (parse_uint(word + 7, 0, VM_MAX_NETS - 1, &number) < 0)
			return false;
		n->uplink = (int)number;
		return true;
	}
	if (!strcmp(word, "offloads=off"))
		n->offloads = false;
	return !strncmp(word, "offloads=", 9) &&
	       (!strcmp(word + 9, "off") || !strcmp(word + 9, "on"));
}

int vm_net_parse(const char *value, struct vm_net *ret_net, struct error *err)
{
	struct vm_net n = {.kind = VM_NET_TAP, .offloads = true, .uplink = -1};
	CLEANUP_FREE char *words = strdup(value);
	char *rest = words, *word = words ? strsep(&rest, ",") : NULL;

	if (!word)
		return error_set(err, -ENOMEM, "reading --net");
	if (!strcmp(word, "user")) {
		n.kind = VM_NET_USER;
		n.prefix = PASST_PREFIX;
		n.mtu = PASST_MTU;
		n.offloads = false;
		(void)inet_pton(AF_INET, PASST_ADDRESS, &n.address);
		(void)inet_pton(AF_INET, PASST_GATEWAY, &n.gateway);
		(void)inet_pton(AF_INET, PASST_DNS, &n.dns);
	} else if (!strncmp(word, "tap=", 4)) {
		size_t len = strlen(word + 4);

		if (len == 0 || len >= sizeof(n.tap) || strpbrk(word + 4, "%/ "))
			return error_usage(err, "%s: \"%s\": a tap's name has 1 to %d characters",
					   value, word + 4, IFNAMSIZ - 1);
		memcpy(n.tap, word + 4, len + 1);
	} else {
		return error_usage(err, "%s: " ACCEPTED, value);
	}
	while ((word = strsep(&rest, ","))) {
		CLEANUP_FREE char *shown = strdup(word);

		if (!parse_word(word, &n))
			return error_usage(err, "%s: \"%s\": " ACCEPTED, value, shown ?: "");
	}
	if (n.gateway.s_addr && !n.address.s_addr)
		return error_usage(err, "%s: gw= goes with ip=", value);
	*ret_net = n;
	return 0;
}

void vm_net_settle(struct vm_net *net, const char *name, size_t i)
{
	uint64_t hash = XXH3_64bits_withSeed(name, strlen(name), i);

	if (net->mac_given)
		return;
	memcpy(net->mac, &hash, NET_MAC_BYTES);
	/* Locally administered, one station's. */
	net->mac[0] = (uint8_t)((net->mac[0] & 0xfc) | 2);
	net->mac_given = true;
}

static int open_user(const struct vm_net *net, struct loop *loop, struct vm_net_host *host,
		     struct virtio_net_config *config, struct error *err)
{
	int fd, r = passt_start(loop, &host->passt, &fd, err);

	if (r < 0)
		return r;
	config->pairs = 1;
	config->mtu = net->mtu;
	r = net_stream_new(fd, &config->port[0], err);
	if (r < 0)
		close(fd);
	return r;
}

static int open_tap(const struct vm_net *net, unsigned pairs, struct virtio_net_config *config,
		    struct error *err)
{
	int r = net_tap_open(net->tap, MIN(pairs, (unsigned)VIRTIO_NET_MAX_PAIRS), config->port,
			     &config->pairs, err);

	if (r == 0 && net->uplink >= 0)
		r = lab_uplink_join((unsigned)net->uplink, net->tap, err);
	config->offloads = net->offloads;
	return r;
}

int vm_net_check(const struct vm_net *net, struct error *err)
{
	struct net_port *port;
	unsigned pairs;
	int r;

	if (net->kind == VM_NET_USER)
		return passt_check(err);
	r = net_tap_open(net->tap, 1, &port, &pairs, err);
	if (r == 0)
		port->ops->free(port);
	return r;
}

int vm_net_open(const struct vm_net *net, const char *what, unsigned pairs, struct loop *loop,
		struct vm_net_host *ret_host, struct virtio_net_config *ret_config,
		struct error *err)
{
	struct virtio_net_config config = {.name = what, .mac_own = net->mac_own};
	int r;

	*ret_host = (struct vm_net_host){.passt = {.pid_fd = -1, .words_fd = -1}};
	memcpy(config.mac, net->mac, NET_MAC_BYTES);
	r = net->kind == VM_NET_USER ? open_user(net, loop, ret_host, &config, err)
				     : open_tap(net, pairs, &config, err);
	if (r < 0) {
		for (unsigned i = 0; i < config.pairs; i++)
			if (config.port[i])
				config.port[i]->ops->free(config.port[i]);
		vm_net_close(ret_host);
		return r;
	}
	*ret_config = config;
	return 0;
}

void vm_net_close(struct vm_net_host *host)
{
	passt_stop(&host->passt);
}

static const char *address_text(struct in_addr a, char text[INET_ADDRSTRLEN])
{
	return a.s_addr ? inet_ntop(AF_INET, &a, text, INET_ADDRSTRLEN) : "-";
}

char *vm_net_line(const struct vm_net *net)
{
	char mac[MAC_TEXT_BYTES], address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN],
		dns[INET_ADDRSTRLEN];

	return text_format("%s %s/%u %s %s %u", mac_text(net->mac, mac),
			   address_text(net->address, address), net->prefix,
			   address_text(net->gateway, gateway), address_text(net->dns, dns),
			   net->mtu);
}

static json_t *address_json(struct in_addr a)
{
	char text[INET_ADDRSTRLEN];

	return a.s_addr ? json_string(address_text(a, text)) : json_null();
}

json_t *vm_net_json(const struct vm_net *n)
{
	char mac[MAC_TEXT_BYTES];

	return json_pack("{s:s, s:s?, s:o, s:o, s:i, s:o, s:o, s:b}", "kind",
			 n->kind == VM_NET_USER ? "user" : "tap", "tap",
			 n->kind == VM_NET_USER ? NULL : n->tap, "mac",
			 n->mac_given ? json_string(mac_text(n->mac, mac)) : json_null(), "address",
			 address_json(n->address), "prefix", (int)n->prefix, "gateway",
			 address_json(n->gateway), "dns", address_json(n->dns), "offloads",
			 (int)n->offloads);
}

json_t *vm_net_report(const struct vm_net *n, const struct virtio_net *dev)
{
	const struct virtio_net_stats s = virtio_net_stats(dev);
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{"rx_frames", s.rx_frames}, {"rx_bytes", s.rx_bytes}, {"rx_dropped", s.rx_dropped},
		{"tx_frames", s.tx_frames}, {"tx_bytes", s.tx_bytes}, {"tx_refused", s.tx_refused},
		{"guest_faults", s.faults},
	};
	json_t *json = vm_net_json(n);

	for (size_t i = 0; json && i < ARRAY_SIZE(counts); i++)
		json_object_set_new(json, counts[i].name,
				    json_integer((json_int_t)counts[i].value));
	if (json)
		json_object_set_new(json, "link_up", json_boolean(virtio_net_link_up(dev)));
	return json;
}

char *vm_net_inner(const struct vm_net *net, size_t i)
{
	char mac[MAC_TEXT_BYTES];

	/* Its init has its addresses from the outside already. */
	return text_format("tap=guest%zu,uplink=%zu,mac=%s%s", i, i, mac_text(net->mac, mac),
			   net->offloads || net->kind == VM_NET_USER ? "" : ",offloads=off");
}

char *vm_net_value(const struct vm_net *n)
{
	char mac[MAC_TEXT_BYTES], address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN],
		dns[INET_ADDRSTRLEN], words[160] = "";
	int at = 0;

	if (n->kind == VM_NET_USER)
		return text_format("user,mac=%s", mac_text(n->mac, mac));
	if (n->address.s_addr)
		at += snprintf(words, sizeof(words), ",ip=%s/%u", address_text(n->address, address),
			       n->prefix);
	if (n->gateway.s_addr)
		at += snprintf(words + at, sizeof(words) - (size_t)at, ",gw=%s",
			       address_text(n->gateway, gateway));
	if (n->dns.s_addr)
		at += snprintf(words + at, sizeof(words) - (size_t)at, ",dns=%s",
			       address_text(n->dns, dns));
	if (n->uplink >= 0)
		at += snprintf(words + at, sizeof(words) - (size_t)at, ",uplink=%d", n->uplink);
	return text_format("tap=%s,mac=%s%s%s", n->tap, mac_text(n->mac, mac), words,
			   n->offloads ? "" : ",offloads=off");
}
