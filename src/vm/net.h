/* A network as it was asked for: --net tap=NAME[,…] or --net user[,…]. Plain data. */
#ifndef STASIS_VM_NET_H
#define STASIS_VM_NET_H

#include <jansson.h>
#include <net/if.h>
#include <netinet/in.h>

#include "devices/virtio_net.h"
#include "vm/passt.h"

#define VM_MAX_NETS 4

enum vm_net_kind { VM_NET_TAP, VM_NET_USER };

struct vm_net {
	enum vm_net_kind kind;
	char tap[IFNAMSIZ];
	uint8_t mac[NET_MAC_BYTES];
	bool mac_given;
	bool mac_own;		     /* a clone's: not the one that the snapshot has */
	bool offloads;		     /* tap only */
	struct in_addr address;	     /* the guest's; 0: none */
	unsigned prefix;	     /* bits of its network */
	struct in_addr gateway, dns; /* 0: none */
	uint16_t mtu;		     /* of the guest's interface; 0: the usual 1500 */
	int uplink; /* in the lab: the tap is joined to the lab's interface of this number; -1 */
};

/* What carries a network's frames outside: the user mode's helper, or nothing. */
struct vm_net_host {
	struct passt passt;
};

/* A usage error begins with the value. */
int vm_net_parse(const char *value, struct vm_net *ret_net, struct error *err) MUST_CHECK;
/* The address that a machine's i-th network has, unless it was given: locally administered, and
 * always the same for a name. */
void vm_net_settle(struct vm_net *net, const char *name, size_t i);
/* Opens it for `pairs` queue pairs at most. */
int vm_net_open(const struct vm_net *net, const char *what, unsigned pairs, struct loop *loop,
		struct vm_net_host *ret_host, struct virtio_net_config *ret_config,
		struct error *err) MUST_CHECK;
/* Whether it could be opened now: what there is to say is said before a lab is started for it. */
int vm_net_check(const struct vm_net *net, struct error *err) MUST_CHECK;
/* Ends the helper. Accepts a zeroed one. */
void vm_net_close(struct vm_net_host *host);
/* A line of SESSION_NETWORK_FILE for the init program: "MAC ADDRESS/PREFIX GATEWAY DNS MTU", "-"
 * for what there is not. malloc'ed. */
char *vm_net_line(const struct vm_net *net);
/* As --dry-run prints it. */
json_t *vm_net_json(const struct vm_net *net);
/* As the report has it. */
json_t *vm_net_report(const struct vm_net *net, const struct virtio_net *dev);
/* The value that gives the same network again, address and all: a snapshot's. malloc'ed. */
char *vm_net_value(const struct vm_net *net);
/* The value that gives the same network to a stasis in the lab, there the interface number i.
 * malloc'ed. */
char *vm_net_inner(const struct vm_net *net, size_t i);

#endif
