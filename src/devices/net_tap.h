/* A tap interface of the host as a network device's ports. Control thread. */
#ifndef STASIS_DEVICES_NET_TAP_H
#define STASIS_DEVICES_NET_TAP_H

#include "devices/net_port.h"

/* Opens up to `pairs` queues of the tap called name, which is made if there is none and we may; an
 * interface made here goes when the ports do. *ret_pairs: how many there are, 1 where the interface
 * was made for one queue. What lacks (a driver, a right, the interface) is named, with the command
 * that mends it. */
int net_tap_open(const char *name, unsigned pairs, struct net_port **ret_ports, unsigned *ret_pairs,
		 struct error *err) MUST_CHECK;

#endif
