/* Folders of running VMs, their locks, and the removal of what crashes left. Control thread. */
#include "vm/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

int runtime_dir(char **ret_path, struct error *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	CLEANUP_FREE char *path = NULL;
	struct stat st;
	int r;

	if (base && base[0] == '/')
		r = asprintf(&path, "%s/stasis", base);
	else if (geteuid() == 0)
		r = asprintf(&path, "/run/stasis");
	else
		r = asprintf(&path, "/tmp/stasis-%u", geteuid());
	if (r < 0) {
		path = NULL;
		return error_set(err, -ENOMEM, "naming the runtime directory");
	}
	r = dir_make(path, 0700);
	if (r < 0)
		return error_set(err, r, "making the runtime directory %s", path);
	/* In /tmp another user could have made it first, to read or to mislead. */
	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return error_set(err, -EPERM, "the runtime directory %s belongs to another user",
				 path);
	*ret_path = path;
	path = NULL;
	return 0;
}

/* Opens DIR/lock and takes it without waiting. Returns the descriptor, -EWOULDBLOCK if it is
 * held, -ENOENT if there is none. */
static int lock_folder(int dir_fd, const char *name, int open_flags)
{
	char path[NAME_MAX + 8];
	int fd, r;

	if (snprintf(path, sizeof(path), "%s/lock", name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = openat(dir_fd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | open_flags, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

/* Removes a folder of flat files. The caller holds its lock, or it has none. */
static void remove_folder(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct dirent *entry;
	DIR *dir;

	if (fd < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(fd, entry->d_name, 0);
	closedir(dir);
	unlinkat(dir_fd, name, AT_REMOVEDIR);
}

/* Calls each(dir_fd, name, arg) for every VM folder. */
static int for_each_folder(const char *path, void (*each)(int dir_fd, const char *name, void *arg),
			   void *arg)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && entry->d_type == DT_DIR)
			each(dirfd(dir), entry->d_name, arg);
	closedir(dir);
	return 0;
}

static void sweep_one(int dir_fd, const char *name, void *arg UNUSED)
{
	int fd = lock_folder(dir_fd, name, 0);

	/* Held: it runs. Without a lock file: its maker died between two steps. */
	if (fd < 0 && fd != -ENOENT)
		return;
	remove_folder(dir_fd, name);
	if (fd >= 0)
		close(fd);
}

static bool name_is_good(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= 64 && name[0] != '.' && name[0] != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       len;
}

int runtime_check_name(const char *name, struct error *err)
{
	if (name_is_good(name))
		return 0;
	return error_usage(err,
			   "--name %s: letters, digits, '.', '_' and '-' are accepted, at "
			   "most 64, not starting with '.' or '-'",
			   name);
}

/* Opens the directory and locks it: a folder and its lock file are made, looked at and removed as
 * one step, so that nobody sweeps a folder whose lock is about to be taken. */
static int open_locked(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	do
		r = flock(fd, LOCK_EX);
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

/* Makes the folder and takes its lock. -EEXIST if the name is taken. */
static int claim_one(int dir_fd, const char *dir, const char *name, struct runtime_vm *ret_vm)
{
	CLEANUP_FREE char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (mkdirat(dir_fd, name, 0700) < 0)
		return -errno;
	fd = lock_folder(dir_fd, name, O_CREAT | O_EXCL);
	if (fd < 0) {
		unlinkat(dir_fd, name, AT_REMOVEDIR);
		return fd;
	}
	ret_vm->path = path;
	ret_vm->lock_fd = fd;
	path = NULL;
	return 0;
}

int runtime_claim(const char *name, char **ret_name, struct runtime_vm *ret_vm, struct error *err)
{
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_FREE char *made = NULL;
	CLEANUP_FD int dir_fd = -1;
	int r = runtime_dir(&dir, err);

	if (r < 0)
		return r;
	if (name)
		r = runtime_check_name(name, err);
	if (r < 0)
		return r;
	dir_fd = open_locked(dir);
	if (dir_fd < 0)
		return error_set_shortage(err, dir_fd, "locking %s", dir);
	for_each_folder(dir, sweep_one, NULL);
	for (int tries = 0; tries < 64; tries++) {
		uint32_t random = 0;

		free(made);
		if (!name && getrandom(&random, sizeof(random), 0) != sizeof(random))
			random = (uint32_t)now_ns();
		if (name)
			made = strdup(name);
		else if (asprintf(&made, "vm-%08x", random) < 0)
			made = NULL;
		if (!made)
			return error_set(err, -ENOMEM, "naming the VM");
		r = claim_one(dir_fd, dir, made, ret_vm);
		if (r != -EEXIST || name)
			break;
	}
	if (r == -EEXIST)
		return error_usage(err, "--name %s: a running VM has this name already", name);
	if (r < 0)
		return error_set_shortage(err, r, "making the VM's folder in %s", dir);
	*ret_name = made;
	made = NULL;
	return 0;
}

int runtime_publish(const struct runtime_vm *vm, json_t *info)
{
	CLEANUP_FREE char *tmp = NULL;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *socket = text_format("%s/" RUNTIME_SOCKET, vm->path);
	int r = 0;

	if (!socket || json_object_set_new(info, "qmp", json_string(socket)) < 0 ||
	    asprintf(&tmp, "%s/info.json.new", vm->path) < 0 ||
	    asprintf(&path, "%s/info.json", vm->path) < 0)
		r = -ENOMEM;
	if (r == 0 && json_dump_file(info, tmp, JSON_COMPACT) < 0)
		r = -EIO;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	json_decref(info);
	return r;
}

void runtime_release(struct runtime_vm *vm)
{
	char *slash = vm->path ? strrchr(vm->path, '/') : NULL;

	if (slash) {
		int dir_fd;

		*slash = '\0';
		/* Without the lock, one who claims the name now may have to try again. */
		dir_fd = open_locked(vm->path);
		*slash = '/';
		remove_folder(AT_FDCWD, vm->path);
		fd_close(&vm->lock_fd);
		if (dir_fd >= 0)
			close(dir_fd);
	}
	free(vm->path);
	fd_close(&vm->lock_fd);
	vm->path = NULL;
}

static void list_one(int dir_fd, const char *name, void *arg)
{
	char path[NAME_MAX + 16];
	json_t *info = NULL;
	int fd = lock_folder(dir_fd, name, 0);

	if (fd >= 0) { /* nobody holds it: a leftover */
		close(fd);
		return;
	}
	if (fd != -EWOULDBLOCK ||
	    snprintf(path, sizeof(path), "%s/info.json", name) >= (int)sizeof(path))
		return;
	fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	info = json_loadfd(fd, 0, NULL);
	close(fd);
	if (info)
		json_array_append_new(arg, info);
}

int runtime_list(json_t **ret_list, struct error *err)
{
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_FD int dir_fd = -1;
	json_t *list;
	int r = runtime_dir(&dir, err);

	if (r < 0)
		return r;
	dir_fd = open_locked(dir);
	if (dir_fd < 0)
		return error_set_shortage(err, dir_fd, "locking %s", dir);
	list = json_array();
	if (!list)
		return error_set(err, -ENOMEM, "listing VMs");
	for_each_folder(dir, sweep_one, NULL);
	r = for_each_folder(dir, list_one, list);
	if (r < 0) {
		json_decref(list);
		return error_set(err, r, "reading %s", dir);
	}
	*ret_list = list;
	return 0;
}
