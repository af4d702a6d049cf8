/* Names and files of a record. Any thread. */
#include "vm/record.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/profile_out.h"

const char *record_name(enum record_file file)
{
	static const char *const names[RECORD_FILES] = {
		[RECORD_REPORT] = "report.json",    [RECORD_SPEEDSCOPE] = "profile.speedscope.json",
		[RECORD_FOLDED] = "profile.folded", [RECORD_PPROF] = "profile.pb.gz",
		[RECORD_MONITOR] = "monitor.csv",   [RECORD_TRACE] = "trace.json",
	};

	return names[file];
}

char *record_path(const char *dir, enum record_file file)
{
	size_t len = strlen(dir);

	return text_format("%s%s%s", dir, len && dir[len - 1] == '/' ? "" : "/", record_name(file));
}

/* 0: an empty folder; -ENOTEMPTY, or why it can't be looked at. */
static int look_into(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	int r = d ? 0 : -errno;

	while (r == 0 && (entry = readdir(d)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = -ENOTEMPTY;
	if (d)
		closedir(d);
	return r == 0 && access(dir, W_OK | X_OK) < 0 ? -errno : r;
}

static int refuse(const char *dir, int r, struct error *err)
{
	if (r == -ENOTEMPTY || r == -ENOTDIR)
		return error_usage(err,
				   "%s: a folder that is empty, or is not there yet, is accepted",
				   dir);
	return error_usage(err, "%s: %s", dir, strerror(-r));
}

/* Whether dir, which is not there, could be made. */
static int could_be_made(const char *dir)
{
	size_t len = strlen(dir);
	CLEANUP_FREE char *parent = NULL;
	struct stat st;

	if (!len || lstat(dir, &st) == 0) /* a link that leads nowhere */
		return -ENOENT;
	while (len > 1 && dir[len - 1] == '/')
		len--;
	while (len > 0 && dir[len - 1] != '/')
		len--;
	parent = len ? text_format("%.*s", (int)len, dir) : text_format(".");
	if (!parent)
		return -ENOMEM;
	return access(parent, W_OK | X_OK) < 0 ? -errno : 0;
}

int record_check(const char *dir, struct error *err)
{
	int r = look_into(dir);

	if (r == -ENOENT)
		r = could_be_made(dir);
	return r < 0 ? refuse(dir, r, err) : 0;
}

int record_make(const char *dir, struct error *err)
{
	int r = mkdir(dir, 0777) == 0 ? 0 : -errno;

	if (r == -EEXIST)
		r = look_into(dir);
	return r < 0 ? refuse(dir, r, err) : 0;
}

int record_profile(const char *dir, json_t *speedscope, struct error *err)
{
	int r = speedscope ? 0 : error_set(err, -ENOMEM, "writing the profile");

	for (unsigned file = RECORD_SPEEDSCOPE; r == 0 && file <= RECORD_PPROF; file++) {
		CLEANUP_FREE char *path = record_path(dir, file);

		r = path ? profile_write(json_incref(speedscope), path, err)
			 : error_set(err, -ENOMEM, "writing the profile");
	}
	json_decref(speedscope);
	return r;
}
