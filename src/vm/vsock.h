/* A VM's Unix sockets for its vsock: "vsock" in its folder, where clients of the host say CONNECT,
 * and "vsock_PORT", where programs of the host wait for the guest's. Control thread. */
#ifndef STASIS_VM_VSOCK_H
#define STASIS_VM_VSOCK_H

#include "vm/qmp/socket.h"
#include "vm/runtime.h"

struct vm_vsock {
	struct qmp_socket socket; /* non-blocking */
	const char *folder;	  /* borrowed */
};

#define VM_VSOCK_NONE                                                                              \
	{                                                                                          \
		.socket = {.fd = -1, .dir_fd = -1 }                                                \
	}

/* After the folder is there, which outlives it. */
int vm_vsock_open(struct vm_vsock *s, const char *folder, struct error *err) MUST_CHECK;
void vm_vsock_close(struct vm_vsock *s); /* accepts VM_VSOCK_NONE */
/* virtio_vsock_config's connect; arg: the struct. */
int vm_vsock_connect(void *arg, uint32_t port);

#endif
