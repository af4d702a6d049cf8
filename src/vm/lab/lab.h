/* The lab: a software-emulated machine (L1) whose own KVM runs stock kernels, for hosts that have
 * none or one that can't. stasis runs inside it; this is the outside's interface.
 *
 *   client (stasis run) ──socket── keeper ──virtio-serial── agent (stasis lab-agent, in L1)
 *                                    └─ owns QEMU               └─ stasis run --no-lab …
 *
 * A run without a warm lab forks a keeper of its own, which dies with it, and QEMU with that. */
#ifndef STASIS_VM_LAB_LAB_H
#define STASIS_VM_LAB_LAB_H

#include <stdbool.h>

#include "arch/kinds.h"
#include "base/error.h"
#include "vm/disk.h"
#include "vm/net.h"

struct vm_include; /* vm/config.h */

/* A file that goes in: its bytes are found at lab_file_path(hash) in the lab. */
struct lab_file {
	int fd; /* borrowed; read from 0 */
	char hash[33];
};
/* A file that comes back. */
struct lab_output {
	const char *name; /* relative, as COMMAND of the session wrote it: "report" */
	int fd;		  /* borrowed; its bytes are written here */
};

struct lab_request {
	const struct arch_kind *kind; /* of the lab */
	char **argv; /* of the inner stasis, without its own name; NULL-terminated */
	struct lab_file *files;
	size_t file_count;
	struct lab_output *outputs;
	size_t output_count;
	bool progress;	   /* may show what is being waited for */
	uint64_t limit_ns; /* the inner stasis ends the run then, by itself; 0: never */

	/* Control sockets that listen here for the VM called name inside: each client gets a
	 * session of its own, by a process of its own. All borrowed. */
	const char *name;
	const int *control_fd;
	size_t control_count; /* at most LAB_CONTROLS */
	/* Where the keeper of a private lab shall listen for those sessions. */
	const char *keeper_path;
	/* The inner stasis has been started, in a lab that ends with it or in the warm one; or
	 * NULL. */
	void (*opened)(void *arg, bool private_lab);
	void *arg;
};
#define LAB_CONTROLS 3
#define LAB_VSOCK    1 /* of them, the one whose clients go to the VM's vsock */

struct lab_machine {
	const struct arch_kind *kind;
	const char *kernel, *modules; /* L1's own: an image with KVM, and its modules */
	unsigned vcpus; /* of the guest that it is made for; 0: a warm one, for many */
	/* The host's own files as L1's disks: lab_disk_path. A run whose disks the warm lab was not
	 * started with boots a lab for itself. */
	const struct vm_disk *disks;
	size_t disk_count;
	/* The guest's networks as L1's interfaces: lab_uplink_join. A warm lab has none. */
	const struct vm_net *nets;
	size_t net_count;
	/* What L1's init starts, with its libraries, and which files and folders it finds; NULL, 0:
	 * the agent alone. lab_qemu_start only: a keeper knows how to talk to the agent. */
	char **command;
	struct vm_include *includes;
	size_t include_count;
};

/* Whether its guest is too large for the few CPUs that the architecture's labs have. */
static inline bool lab_wants_host_cpus(const struct lab_machine *machine)
{
	return !machine->kind->lab_cpus || machine->vcpus > machine->kind->lab_cpus_enough;
}

/* Fills in file->hash from its contents. */
int lab_file_hash(struct lab_file *file, struct error *err) MUST_CHECK;
/* Where that file is in the lab. buf: LAB_PATH_MAX. */
#define LAB_PATH_MAX 96
const char *lab_file_path(const struct lab_file *file, char *buf);

/* Where the disk that is this file of the host's is in the lab. buf: LAB_PATH_MAX. NULL: there is
 * no such file. */
const char *lab_disk_path(const char *path, char *buf);
/* Whether the warm lab was started with all of these. */
bool lab_has_disks(const struct arch_kind *kind, const struct vm_disk *disks, size_t count);

/* Runs the request with our standard streams and signals; *ret_status is the inner stasis's, or 125
 * where one of our streams could not be written: err says why, though 0 is returned. The signals
 * that vm_run names must be blocked. */
int lab_run(const struct lab_machine *machine, const struct lab_request *request, int *ret_status,
	    struct error *err) MUST_CHECK;
/* A warm lab in the runtime directory, one for each architecture: starts one and returns when it is
 * up; stops it; says whether there is one. -EALREADY, -ENOENT as usage errors. */
int lab_start(const struct lab_machine *machine, struct error *err) MUST_CHECK;
int lab_stop(const struct arch_kind *kind, struct error *err) MUST_CHECK;
bool lab_is_warm(const struct arch_kind *kind);

/* In the lab, as a session: standard input and output of the process are a client of the VM called
 * name, at that socket of its folder, from when it is there. Returns an exit status. */
int lab_pipe(const char *name, const char *socket);

/* Which build of stasis this process is; a lab runs the one that started it. buf: LAB_BUILD_MAX. */
#define LAB_BUILD_MAX 96
const char *lab_build(char *buf);

/* In L1, as init's COMMAND: frames on standard input and output, until they end. */
int lab_agent(void);

#endif
