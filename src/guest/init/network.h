/* Gives the guest's network interfaces what the host says of them. One thread: init's. */
#ifndef STASIS_GUEST_INIT_NETWORK_H
#define STASIS_GUEST_INIT_NETWORK_H

/* By SESSION_NETWORK_FILE, which may be missing: addresses, routes, the resolver's file unless
 * there is one. After the drivers are loaded. Failures are logged. */
void network_set_up(void);

#endif
