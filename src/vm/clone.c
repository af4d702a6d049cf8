/* Names, paths, networks and disks of a snapshot's clones. Control thread. */
#include "vm/clone.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/runtime.h"

/* ---- disks -----------------------------------------------------------------------------------
 */

static int refuse(const struct vm_disk *d, int code, const char *what, struct error *err)
{
	error_usage(err, "disk %s, %s: clones write to copies that share its blocks: %s: %s", d->id,
		    d->path, what, strerror(-code));
	error_hint(err, "a file on XFS, Btrfs or bcachefs can be shared so; a disk that is saved "
			"with \",ro\" needs no copy");
	return code;
}

/* A file without a name, in the folder where the disk is. */
static int make_nameless(const struct vm_disk *d, struct error *err)
{
	CLEANUP_FREE char *path = realpath(d->path, NULL);
	int fd = path ? open(dirname(path), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;

	return fd >= 0 ? fd : refuse(d, -errno, "making a file beside it", err);
}

/* Open, held against writers, and as it was: its descriptor, or a negative errno. */
static int open_original(const struct vm_disk *d, struct error *err)
{
	/* Not to wait for the other end of what is no file. */
	int fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0)
		return error_usage(err, "disk %s, %s: %s", d->id, d->path, strerror(errno));
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		r = vm_disk_check(d, fd, err);
	else
		r = errno == EWOULDBLOCK ? error_contention(err, "disk %s, %s: a VM writes to it",
							    d->id, d->path)
					 : error_usage(err, "disk %s, %s: locking it: %s", d->id,
						       d->path, strerror(errno));
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* Its descriptor, or a negative errno. */
static int copy_disk(const struct vm_disk *d, struct error *err)
{
	CLEANUP_FD int from = open_original(d, err);
	int fd, r;

	if (from < 0)
		return from;
	fd = make_nameless(d, err);
	if (fd < 0 || ioctl(fd, FICLONE, from) == 0)
		return fd;
	r = refuse(d, -errno, "FICLONE", err);
	close(fd);
	return r;
}

static int settle_disk(struct vm_disk *d, struct error *err)
{
	int fd;

	if (d->read_only)
		return 0;
	fd = copy_disk(d, err);
	if (fd < 0)
		return fd;
	d->copy_fd = fd;
	d->copy = text_format("/proc/self/fd/%d", fd);
	if (d->copy)
		return 0;
	close(fd);
	return error_set(err, -ENOMEM, "copying the disk %s", d->id);
}

/* ---- names -----------------------------------------------------------------------------------
 */

/* "-I" behind it, if there is one. */
static int number(char **text, unsigned i, struct error *err)
{
	char *more;

	if (!*text)
		return 0;
	more = text_format("%s-%u", *text, i);
	if (!more)
		return error_set(err, -ENOMEM, "naming a clone");
	free(*text);
	*text = more;
	return 0;
}

static int settle_net(struct vm_net *n, unsigned i, struct error *err)
{
	char tap[sizeof(n->tap) + 12];

	/* vm_config_settle makes one of the name. */
	n->mac_given = false;
	n->mac_own = true;
	if (n->kind != VM_NET_TAP)
		return 0;
	snprintf(tap, sizeof(tap), "%s-%u", n->tap, i);
	if (strlen(tap) >= sizeof(n->tap))
		return error_usage(err,
				   "the network tap=%s: a clone's would be %s, and a tap's name "
				   "has 1 to %zu characters",
				   n->tap, tap, sizeof(n->tap) - 1);
	memcpy(n->tap, tap, sizeof(n->tap));
	return 0;
}

int vm_clone_check(const struct vm_config *c, unsigned count, struct error *err)
{
	CLEANUP_FREE char *last = text_format("%s-%u", c->name, count - 1);
	int r = last ? runtime_check_name(last, err) : error_set(err, -ENOMEM, "naming clones");

	for (size_t i = 0; r == 0 && i < c->net_count; i++) {
		struct vm_net net = c->net[i];

		r = settle_net(&net, count - 1, err);
	}
	for (size_t i = 0; r == 0 && i < c->disk_count; i++) {
		r = c->disk[i].read_only ? open_original(&c->disk[i], err)
					 : copy_disk(&c->disk[i], err);
		/* It could be had. */
		if (r >= 0) {
			close(r);
			r = 0;
		}
	}
	return r;
}

int vm_clone_settle(struct vm_config *c, unsigned i, struct error *err)
{
	int r = number(&c->name, i, err);

	if (r == 0)
		r = number(&c->qmp, i, err);
	if (r == 0)
		r = number(&c->report, i, err);
	for (size_t n = 0; r == 0 && n < c->net_count; n++)
		r = settle_net(&c->net[n], i, err);
	for (size_t n = 0; r == 0 && n < c->disk_count; n++)
		r = settle_disk(&c->disk[n], err);
	return r;
}
