/* The Unix sockets of a VM's vsock. Control thread. */
#include "vm/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/text.h"
#include "base/util.h"

int vm_vsock_open(struct vm_vsock *s, const char *folder, struct error *err)
{
	CLEANUP_FREE char *path = text_format("%s/" RUNTIME_VSOCK, folder);
	int r;

	s->folder = folder;
	if (!path)
		return error_set(err, -ENOMEM, "making the vsock's socket");
	r = qmp_socket_listen(path, &s->socket, err);
	if (r == 0 && fcntl(s->socket.fd, F_SETFL, O_NONBLOCK) < 0)
		r = error_set(err, -errno, "making the vsock's socket");
	return r;
}

void vm_vsock_close(struct vm_vsock *s)
{
	qmp_socket_done(&s->socket);
}

int vm_vsock_connect(void *arg, uint32_t port)
{
	const struct vm_vsock *s = arg;
	CLEANUP_FREE char *path = text_format("%s/" RUNTIME_VSOCK "_%u", s->folder, port);
	int fd, r;

	if (!path)
		return -ENOMEM;
	/* A listener whose queue is full refuses: nothing here waits. */
	r = qmp_socket_connect_now(path, &fd);
	return r < 0 ? r : fd;
}
