/* A network behind a stream socket, framed as passt and QEMU have it, as a network device's port.
 * Control thread.
 *
 *   length 4, big-endian | frame: length bytes, no header before it | length 4 | …
 */
#ifndef STASIS_DEVICES_NET_STREAM_H
#define STASIS_DEVICES_NET_STREAM_H

#include "devices/net_port.h"

/* Longer frames than this the other end does not take. */
#define NET_STREAM_FRAME_MAX 65535

/* Takes fd, a connected stream socket, over on success. */
int net_stream_new(int fd, struct net_port **ret_port, struct error *err) MUST_CHECK;

#endif
