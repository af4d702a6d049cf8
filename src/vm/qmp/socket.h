/* Unix sockets by path, of any length: the kernel's limit on a socket's name is met by going
 * through an open descriptor of its folder. Any thread. */
#ifndef STASIS_VM_QMP_SOCKET_H
#define STASIS_VM_QMP_SOCKET_H

#include <sys/types.h>

#include "base/error.h"

struct qmp_socket {
	int fd;	    /* listens; blocking, close-on-exec; owned. -1: none */
	int dir_fd; /* the folder; owned */
	char *name; /* in the folder; owned */
	dev_t dev;
	ino_t ino; /* of the file, so that nobody else's is removed */
};

/* Binds a socket that its owner alone may use (0600), and listens. A socket that nobody listens on
 * any more is replaced; anything else in its place is a usage error that begins with the path. */
int qmp_socket_listen(const char *path, struct qmp_socket *ret_socket,
		      struct error *err) MUST_CHECK;
/* Closes and removes it. Accepts one with descriptors of -1. */
void qmp_socket_done(struct qmp_socket *s);
/* A connection, blocking. limit_ns, not 0: for this, and for each send through it. -ENOENT and
 * -ECONNREFUSED without a message: nobody is there. */
int qmp_socket_connect(const char *path, uint64_t limit_ns, int *ret_fd,
		       struct error *err) MUST_CHECK;
/* A non-blocking one, and nothing is waited for: -EAGAIN where the listener's queue is full. */
int qmp_socket_connect_now(const char *path, int *ret_fd) MUST_CHECK;

#endif
