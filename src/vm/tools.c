/* Looks for stasis-init and busybox. Control thread. */
#include "vm/tools.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "guest/elf_closure.h"

/* The first of n candidates that can be read; entries are freed but for it. NULL if none. */
static char *first_readable(char **candidates, size_t n)
{
	char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		if (!found && candidates[i] && access(candidates[i], R_OK) == 0)
			found = candidates[i];
		else
			free(candidates[i]);
	}
	return found;
}

/* A file of ours: $STASIS_LIBEXEC, its place in the build or source tree (relative to this
 * program), beside an installed program, or where it was installed. */
static int find_own(const char *name, const char *in_tree, char **ret_path, struct error *err)
{
	const char *libexec = getenv("STASIS_LIBEXEC");
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash, *found;

	if (n < 0)
		return error_set(err, -errno, "finding this program");
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	*slash = '\0';

	char *candidates[] = {
		libexec ? text_format("%s/%s", libexec, name) : NULL,
		text_format("%s/%s/%s", exe, in_tree, name),
		text_format("%s/../libexec/stasis/%s", exe, name),
		text_format(STASIS_LIBEXECDIR "/%s", name),
	};

	found = first_readable(candidates, ARRAY_SIZE(candidates));
	if (!found) {
		error_set(err, -ENOENT, "finding %s near %s or in %s", name, exe,
			  STASIS_LIBEXECDIR);
		error_hint(err, "set STASIS_LIBEXEC to the folder that holds it");
		return -ENOENT;
	}
	*ret_path = found;
	return 0;
}

int tools_init(char **ret_path, struct error *err)
{
	return find_own("stasis-init", "../guest/init", ret_path, err);
}

int tools_fetch_kernel(char **ret_path, struct error *err)
{
	return find_own("fetch-kernel", "../../../scripts", ret_path, err);
}

/* elf_closure's callback: any call means that the file is not static. */
static int is_dynamic(const char *path UNUSED, void *arg UNUSED)
{
	return -ELIBBAD;
}

int tools_busybox(char **ret_path, struct error *err)
{
	const char *env = getenv("STASIS_BUSYBOX");
	char *candidates[] = {
		env ? strdup(env) : NULL,
		strdup("/bin/busybox"),
		strdup("/usr/bin/busybox"),
	};
	char *found = first_readable(candidates, ARRAY_SIZE(candidates));

	if (!found || elf_closure(found, is_dynamic, NULL, NULL) < 0) {
		error_set(err, -ENOENT, "finding a statically linked busybox");
		error_hint(err, "apt-get install busybox-static");
		free(found);
		return -ENOENT;
	}
	*ret_path = found;
	return 0;
}
