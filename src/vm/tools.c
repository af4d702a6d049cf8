/* Looks for stasis-init and busybox. Control thread. */
#include "vm/tools.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "guest/elf_closure.h"
#include "vm/kernels.h"

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
 * program's folder), near an installed program, or where it was installed; installed is its name
 * there. NULL if it is in none of them, or out of memory. */
static char *find_file(const char *installed, const char *in_tree)
{
	const char *libexec = getenv("STASIS_LIBEXEC");
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		return NULL;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';

	char *candidates[] = {
		libexec ? text_format("%s/%s", libexec, installed) : NULL,
		text_format("%s/%s", exe, in_tree),
		text_format("%s/../libexec/stasis/%s", exe, installed),
		text_format("%s/%s", exe, installed), /* of what is in libexec itself */
		text_format(STASIS_LIBEXECDIR "/%s", installed),
	};

	return first_readable(candidates, ARRAY_SIZE(candidates));
}

static int find_own(const char *name, const char *in_tree, char **ret_path, struct error *err)
{
	*ret_path = find_file(name, in_tree);
	if (*ret_path)
		return 0;
	error_set(err, -ENOENT, "finding %s near this program or in %s", name, STASIS_LIBEXECDIR);
	error_hint(err, "set STASIS_LIBEXEC to the folder that holds it");
	return -ENOENT;
}

/* The same for another architecture. in_tree is below the top of its own build tree. */
static int find_foreign(const struct arch_kind *kind, const char *name, const char *in_tree,
			char **ret_path, struct error *err)
{
	CLEANUP_FREE char *tree = text_format("../../../build-%s/%s", kind->debian, in_tree);
	/* A build folder lies in the source tree, or in a folder of it that has several. */
	CLEANUP_FREE char *above = tree ? text_format("../%s", tree) : NULL;
	CLEANUP_FREE char *installed = text_format("%s/%s", kind->name, name);
	CLEANUP_FREE char *found = NULL;

	if (!above || !installed)
		return error_set(err, -ENOMEM, "finding %s", name);
	found = find_file(installed, tree) ?: find_file(installed, above);
	*ret_path = found ? realpath(found, NULL) : NULL;
	if (*ret_path)
		return 0;
	error_contention(err, "there is no %s for %s guests here", name, kind->name);
	error_hint(err, "scripts/setup %s, and build as it says", kind->debian);
	return -ENOENT;
}

int tools_init(const struct arch_kind *kind, char **ret_path, struct error *err)
{
	if (kind != arch_kind_own())
		return find_foreign(kind, "stasis-init", "src/guest/init/stasis-init", ret_path,
				    err);
	/* The same from each folder of the build tree that has such programs. */
	return find_own("stasis-init", "../../src/guest/init/stasis-init", ret_path, err);
}

int tools_stasis(const struct arch_kind *kind, char **ret_path, struct error *err)
{
	if (kind != arch_kind_own())
		return find_foreign(kind, "stasis", "src/cli/stasis", ret_path, err);
	*ret_path = realpath("/proc/self/exe", NULL);
	return *ret_path ? 0 : error_set(err, -errno, "finding this program");
}

int tools_script(const char *name, char **ret_path, struct error *err)
{
	/* A build folder lies in the source tree, or in a folder of it that has several. */
	CLEANUP_FREE char *in_tree = text_format("../../../scripts/%s", name);
	CLEANUP_FREE char *deeper = text_format("../../../../scripts/%s", name);

	if (!in_tree || !deeper)
		return error_set(err, -ENOMEM, "finding %s", name);
	*ret_path = find_file(name, deeper);
	return *ret_path ? 0 : find_own(name, in_tree, ret_path, err);
}

int tools_bench(char **ret_path, struct error *err)
{
	return find_own("stasis-bench", "../../bench/stasis-bench", ret_path, err);
}

/* elf_closure's callback: any call means that the file is not static. */
static int is_dynamic(const char *path UNUSED, void *arg UNUSED)
{
	return -ELIBBAD;
}

int tools_busybox(const struct arch_kind *kind, char **ret_path, struct error *err)
{
	const bool own = kind == arch_kind_own();
	const char *env = own ? getenv("STASIS_BUSYBOX") : NULL;
	CLEANUP_FREE char *cache = kernel_cache_dir();
	char *candidates[] = {
		env ? strdup(env) : NULL,
		own ? strdup("/bin/busybox") : NULL,
		own ? strdup("/usr/bin/busybox") : NULL,
		cache ? text_format("%s/%s/busybox", cache, kind->name) : NULL,
	};
	char *found = first_readable(candidates, ARRAY_SIZE(candidates));

	if (!found || elf_closure_for(kind->elf_machine, found, is_dynamic, NULL, NULL) < 0) {
		error_set(err, -ENOENT, "finding a statically linked busybox for %s", kind->name);
		if (own)
			error_hint(err, "apt-get install busybox-static");
		else
			error_hint(err, "scripts/setup %s", kind->debian);
		free(found);
		return -ENOENT;
	}
	*ret_path = found;
	return 0;
}
