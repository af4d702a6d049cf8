/* What the command line asks of the lab. Control thread. */
#include "vm/lab/lab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "vm/lab/client.h"
#include "vm/lab/digest.h"
#include "vm/lab/launch.h"
#include "vm/lab/paths.h"
#include "vm/lab/wire.h"

#define STOP_MS 5000

int lab_file_hash(struct lab_file *file, struct error *err)
{
	uint8_t hash[MESSAGE_HASH];
	uint64_t size;
	int r = digest_fd(file->fd, hash, &size);

	if (r < 0)
		return error_set(err, r, "reading a file for the lab");
	digest_to_hex(hash, file->hash);
	return 0;
}

const char *lab_file_path(const struct lab_file *file, char *buf)
{
	snprintf(buf, LAB_PATH_MAX, LAB_DIR "/" LAB_FILES "/%s", file->hash);
	return buf;
}

/* A connection to the keeper of the runtime directory, its HELLO read. -ENOENT without a message:
 * there is none. *ret_usable: it has this build of stasis inside; another is not what the person
 * started. */
static int find(int *ret_fd, struct message_hello *hello, bool *ret_usable, struct error *err)
{
	uint8_t program[MESSAGE_HASH];
	CLEANUP_FD int fd = -1;
	int r = launch_find(&fd, err);

	if (r == 0)
		r = digest_self(program, err);
	if (r == 0)
		r = client_hello(fd, hello, err);
	if (r < 0)
		return r;
	*ret_usable =
		hello->version == MESSAGE_VERSION && !memcmp(program, hello->program, MESSAGE_HASH);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int lab_run(const struct lab_machine *machine, const struct lab_request *request, int *ret_status,
	    struct error *err)
{
	struct launch own = {.fd = -1};
	struct message_hello hello;
	bool usable = false;
	int fd = -1;
	int r = find(&fd, &hello, &usable, err);

	if (r == 0 && !usable) {
		log_warn("the lab that runs has another build of stasis inside; starting one for "
			 "this run");
		fd_close(&fd);
		r = -ENOENT;
	}
	if (r == -ENOENT) {
		r = launch_own(machine, &own, err);
		fd = own.fd;
		own.fd = -1;
		if (r == 0)
			r = client_hello(fd, &hello, err);
	}
	if (r == 0)
		r = client_run(fd, hello.ready, request, ret_status, err);
	else
		fd_close(&fd);
	launch_end(&own);
	return r;
}

int lab_start(const struct lab_machine *machine, struct error *err)
{
	struct launch shared = {.fd = -1};
	struct message_hello hello;
	int status = 0;
	int r = launch_shared(machine, &shared, err);

	if (r == -EALREADY) {
		error_usage(err, "a lab is running already; stasis lab stop ends it");
		return r;
	}
	if (r == 0)
		r = client_hello(shared.fd, &hello, err);
	if (r < 0) {
		fd_close(&shared.fd);
		return r;
	}
	r = client_run(shared.fd, hello.ready, NULL, &status, err);
	return r == 0 && status ? error_set(err, -EINTR, "starting a lab") : r;
}

int lab_stop(struct error *err)
{
	struct wire wire;
	int fd = -1;
	int r = launch_find(&fd, err);

	if (r == -ENOENT) {
		error_usage(err, "no lab is running");
		return r;
	}
	if (r == 0)
		r = wire_init(&wire, fd, fd);
	if (r < 0)
		return error_set(err, r, "stopping the lab");
	r = wire_send(&wire, 0, FRAME_STOP, 0, NULL, 0);
	if (r == 0)
		r = wire_flush(&wire);
	/* A keeper that doesn't listen any more is ended without being asked. */
	if (r == 0 || r == -EPIPE)
		r = launch_wait_gone(STOP_MS, err);
	wire_done(&wire);
	return r < 0 ? error_set(err, r, "stopping the lab") : 0;
}

int lab_status(struct lab_status *ret_status, struct error *err)
{
	struct message_hello hello;
	bool usable = false;
	int fd = -1;
	int r = find(&fd, &hello, &usable, err);

	if (r < 0)
		return r;
	fd_close(&fd);
	*ret_status = (struct lab_status){
		.up = hello.ready,
		.other_build = !usable,
		.pid = (pid_t)hello.pid,
		.sessions = hello.sessions,
		.memory_bytes = hello.memory_bytes,
		.boot_ns = hello.boot_ns,
	};
	return 0;
}

bool lab_is_warm(void)
{
	struct lab_status status;

	return lab_status(&status, NULL) == 0 && !status.other_build;
}
