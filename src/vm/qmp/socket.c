/* Binding and connecting by way of /proc/self/fd. */
#include "vm/qmp/socket.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"

#define BACKLOG	       16
#define STALE_LIMIT_NS 400000000u
#define STALE_PAUSE_US 10000

/* Opens the folder, and gives the name in it, within path. */
static int open_folder(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *dir = NULL;
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!(*ret_name)[0])
		return -EISDIR;
	dir = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, slash - path);
	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int address(int dir_fd, const char *name, struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s",
		     dir_fd, name) >= (int)sizeof(ret_address->sun_path))
		return -ENAMETOOLONG;
	return 0;
}

static int new_socket(int flags)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	return fd < 0 ? -errno : fd;
}

/* A limit of 0 waits for nothing, then or later. */
static int connect_at(int dir_fd, const char *name, uint64_t limit_ns, int *ret_fd)
{
	/* Where many wait for a server to accept, one more waits until here. */
	const struct timeval limit = {.tv_sec = (time_t)(limit_ns / 1000000000u),
				      .tv_usec = (suseconds_t)(limit_ns % 1000000000u / 1000)};
	struct sockaddr_un to;
	int fd, r = address(dir_fd, name, &to);

	if (r < 0)
		return r;
	fd = new_socket(limit_ns ? 0 : SOCK_NONBLOCK);
	if (fd < 0)
		return fd;
	r = limit_ns ? setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) : 0;
	if (r == 0)
		r = connect(fd, (const struct sockaddr *)&to, sizeof(to));
	if (r < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* Removes a socket that nobody listens on. -EADDRINUSE if somebody does, -EEXIST for what is no
 * socket. */
static int remove_stale(int dir_fd, const char *name)
{
	uint64_t end_ns = now_ns() + STALE_LIMIT_NS;
	struct stat st;
	int fd, r;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	/* A ring whose process was killed keeps its sockets for some milliseconds more. */
	do {
		r = connect_at(dir_fd, name, STALE_LIMIT_NS, &fd);
		if (r == 0)
			close(fd);
	} while (r == 0 && now_ns() < end_ns && usleep(STALE_PAUSE_US) == 0);
	if (r != -ECONNREFUSED)
		return r == 0 || r == -EAGAIN ? -EADDRINUSE : r;
	return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

static int bind_at(int fd, int dir_fd, const char *name)
{
	struct sockaddr_un at;
	int r = address(dir_fd, name, &at);

	/* Before it has a name: the file gets the socket's own mode. */
	if (r == 0 && fchmod(fd, 0600) < 0)
		r = -errno;
	if (r < 0)
		return r;
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	r = remove_stale(dir_fd, name);
	if (r < 0)
		return r;
	return bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 ? -errno : 0;
}

static int listen_at(struct qmp_socket *s)
{
	struct stat st;
	int r;

	s->fd = new_socket(0);
	if (s->fd < 0)
		return s->fd;
	r = bind_at(s->fd, s->dir_fd, s->name);
	if (r < 0)
		return r;
	if (fstatat(s->dir_fd, s->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return listen(s->fd, BACKLOG) < 0 ? -errno : 0;
}

int qmp_socket_listen(const char *path, struct qmp_socket *ret_socket, struct error *err)
{
	struct qmp_socket s = {.fd = -1};
	const char *name;
	int r;

	s.dir_fd = open_folder(path, &name);
	r = s.dir_fd < 0 ? s.dir_fd : 0;
	if (r == 0) {
		s.name = strdup(name);
		r = s.name ? listen_at(&s) : -ENOMEM;
	}
	if (r == 0) {
		*ret_socket = s;
		return 0;
	}
	qmp_socket_done(&s);
	if (r == -EADDRINUSE)
		return error_usage(err, "%s: another program listens there", path);
	if (r == -EEXIST)
		return error_usage(err, "%s: there is a file already, and it is no socket", path);
	if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOSPC)
		return error_set_shortage(err, r, "making the socket %s", path);
	return error_usage(err, "%s: no socket can be made there: %s", path, strerror(-r));
}

void qmp_socket_done(struct qmp_socket *s)
{
	struct stat st;

	if (s->ino && fstatat(s->dir_fd, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == s->dev && st.st_ino == s->ino)
		unlinkat(s->dir_fd, s->name, 0);
	fd_close(&s->fd);
	fd_close(&s->dir_fd);
	free(s->name);
	s->name = NULL;
	s->ino = 0;
}

int qmp_socket_connect_now(const char *path, int *ret_fd)
{
	const char *name;
	int r, dir_fd = open_folder(path, &name);

	if (dir_fd < 0)
		return dir_fd;
	r = connect_at(dir_fd, name, 0, ret_fd);
	close(dir_fd);
	return r;
}

int qmp_socket_connect(const char *path, uint64_t limit_ns, int *ret_fd, struct error *err)
{
	const char *name;
	int r, dir_fd = open_folder(path, &name);

	assert(limit_ns > 0);
	if (dir_fd == -ENOENT)
		return dir_fd;
	if (dir_fd < 0)
		return error_set(err, dir_fd, "connecting to %s", path);
	r = connect_at(dir_fd, name, limit_ns, ret_fd);
	close(dir_fd);
	if (r == 0 || r == -ENOENT || r == -ECONNREFUSED)
		return r;
	return error_set(err, r, "connecting to %s", path);
}
