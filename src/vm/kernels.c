/* Finding kernels and their modules on this host. Control thread. */
#include "vm/kernels.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

void kernel_choice_done(struct kernel_choice *kernel)
{
	free(kernel->path);
	free(kernel->release);
	free(kernel->modules);
	*kernel = (struct kernel_choice){0};
}

char *kernel_cache_dir(void)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (cache && cache[0] == '/')
		return text_format("%s/stasis", cache);
	return text_format("%s/.cache/stasis", home && home[0] == '/' ? home : "/root");
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The first of the usual places that has modules for the release; NULL if none does. */
static char *modules_beside(const char *image, const char *release)
{
	const char *slash = strrchr(image, '/');
	char *dir;

	/* DIR/boot/vmlinuz-R with DIR/lib/modules/R: an unpacked package. */
	if (slash) {
		dir = text_format("%.*s/../lib/modules/%s", (int)(slash - image), image, release);
		if (dir && is_dir(dir)) {
			char *real = realpath(dir, NULL);

			free(dir);
			return real;
		}
		free(dir);
	}
	dir = text_format("/lib/modules/%s", release);
	if (dir && is_dir(dir))
		return dir;
	free(dir);
	return NULL;
}

/* Fills in release and modules of an image from its name, else from its contents. */
static int describe(const struct arch_kind *kind, struct kernel_choice *kernel)
{
	const char *slash = strrchr(kernel->path, '/');
	const char *base = slash ? slash + 1 : kernel->path;

	if (!strncmp(base, "vmlinuz-", 8) && base[8])
		kernel->release = strdup(base + 8);
	else
		kernel->release = kind->kernel_release(kernel->path);
	if (kernel->release)
		kernel->modules = modules_beside(kernel->path, kernel->release);
	return 0;
}

/* Calls each with the path and release of every DIR/vmlinuz-RELEASE that can be read. */
static void for_each_image(const char *dir_path,
			   void (*each)(const char *path, const char *release, void *arg),
			   void *arg)
{
	DIR *dir = opendir(dir_path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		CLEANUP_FREE char *path = NULL;

		if (strncmp(entry->d_name, "vmlinuz-", 8) || !entry->d_name[8])
			continue;
		path = text_format("%s/%s", dir_path, entry->d_name);
		if (path && access(path, R_OK) == 0)
			each(path, entry->d_name + 8, arg);
	}
	closedir(dir);
}

/* Calls each with every folder of the kernel cache: of packaged kernels, which have boot/vmlinuz-*,
 * and of those that `stasis kernel build` made, which have build.json. */
static void for_each_folder(void (*each)(const char *folder, void *arg), void *arg)
{
	CLEANUP_FREE char *cache = kernel_cache_dir();
	CLEANUP_FREE char *kernels = cache ? text_format("%s/kernels", cache) : NULL;
	struct dirent *entry;
	DIR *dir;

	if (!kernels || !(dir = opendir(kernels)))
		return;
	while ((entry = readdir(dir))) {
		CLEANUP_FREE char *folder = NULL;

		if (entry->d_name[0] == '.')
			continue;
		folder = text_format("%s/%s", kernels, entry->d_name);
		if (folder)
			each(folder, arg);
	}
	closedir(dir);
}

struct newest {
	const struct arch_kind *kind;
	const char *prefix;
	char *path, *release;
};

static void keep_newest(const char *path, const char *release, void *arg)
{
	struct newest *n = arg;

	if (n->prefix && strncmp(release, n->prefix, strlen(n->prefix)))
		return;
	/* A cached kernel of another architecture can't boot here. */
	if (!n->kind->kernel_fits(path))
		return;
	if (n->release && strverscmp(release, n->release) <= 0)
		return;
	free(n->path);
	free(n->release);
	n->path = strdup(path);
	n->release = strdup(release);
}

static void keep_newest_of(const char *folder, void *arg)
{
	CLEANUP_FREE char *boot = text_format("%s/boot", folder);

	if (boot)
		for_each_image(boot, keep_newest, arg);
}

int kernel_from_cache(const struct arch_kind *kind, const char *prefix,
		      struct kernel_choice *ret_kernel)
{
	struct newest n = {.kind = kind, .prefix = prefix};

	for_each_folder(keep_newest_of, &n);
	if (!n.path || !n.release) {
		free(n.path);
		free(n.release);
		return -ENOENT;
	}
	*ret_kernel = (struct kernel_choice){
		.path = n.path,
		.release = n.release,
		.modules = modules_beside(n.path, n.release),
	};
	return 0;
}

/* The image inside a kernel build tree; NULL if there is none. */
static char *image_of_tree(const struct arch_kind *kind, const char *tree)
{
	for (size_t i = 0; kind->kernel_in_tree[i]; i++) {
		char *path = text_format("%s/%s", tree, kind->kernel_in_tree[i]);

		if (path && access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

static int choose_asked(const struct arch_kind *kind, const char *asked,
			struct kernel_choice *ret_kernel, struct error *err)
{
	struct kernel_choice kernel = {0};
	struct stat st;

	if (stat(asked, &st) < 0)
		return error_usage(err, "--kernel %s: %s", asked, strerror(errno));
	if (S_ISDIR(st.st_mode)) {
		kernel.path = image_of_tree(kind, asked);
		if (!kernel.path)
			return error_usage(err, "--kernel %s: a folder without a built kernel (%s)",
					   asked, kind->kernel_in_tree[0]);
	} else if (!S_ISREG(st.st_mode)) {
		return error_usage(err, "--kernel %s: not a file", asked);
	} else {
		kernel.path = strdup(asked);
	}
	if (!kernel.path)
		return error_set(err, -ENOMEM, "choosing the kernel");
	if (access(kernel.path, R_OK) < 0) {
		kernel_choice_done(&kernel);
		return error_usage(err, "--kernel %s: %s", asked, strerror(errno));
	}
	describe(kind, &kernel);
	*ret_kernel = kernel;
	return 0;
}

int kernel_choose(const struct arch_kind *kind, const char *asked, struct kernel_choice *ret_kernel,
		  struct error *err)
{
	struct newest n = {.kind = kind};

	if (asked)
		return choose_asked(kind, asked, ret_kernel, err);
	for_each_image("/boot", keep_newest, &n);
	if (n.path && n.release) {
		*ret_kernel = (struct kernel_choice){
			.path = n.path,
			.release = n.release,
			.modules = modules_beside(n.path, n.release),
		};
		return 0;
	}
	if (kernel_from_cache(kind, NULL, ret_kernel) == 0)
		return 0;
	error_contention(err,
			 "there is no kernel for %s to boot: none readable in /boot, none in the "
			 "kernel cache",
			 kind->name);
	if (kind == arch_kind_own())
		error_hint(err, "stasis kernel get, or -k PATH");
	else
		error_hint(err, "stasis kernel get --arch %s, or -k PATH", kind->debian);
	return -ENOENT;
}

int kernel_for_lab(const struct arch_kind *kind, struct kernel_choice *ret_kernel,
		   struct error *err)
{
	if (kernel_from_cache(kind, "6.12", ret_kernel) == 0)
		return 0;
	return kernel_choose(kind, NULL, ret_kernel, err);
}

struct listing {
	json_t *rows;
	const char *source;
};

static void list_image(const char *path, const char *release, void *arg)
{
	const struct listing *listing = arg;
	const struct arch_kind *kind = arch_kind_of_kernel(path);
	CLEANUP_FREE char *modules = modules_beside(path, release);

	json_array_append_new(listing->rows,
			      json_pack("{s:s, s:s?, s:s, s:s?, s:s}", "release", release, "arch",
					kind ? kind->name : NULL, "path", path, "modules", modules,
					"source", listing->source));
}

/* The folder of a kernel that was built here; scripts/build-kernel writes its build.json last. */
static void list_built(const char *folder, json_t *build, json_t *rows)
{
	const char *release = json_string_value(json_object_get(build, "release"));
	const char *arch = json_string_value(json_object_get(build, "arch"));
	const struct arch_kind *kind = arch ? arch_kind_find(arch) : NULL;
	CLEANUP_FREE char *image = kind ? image_of_tree(kind, folder) : NULL;

	if (!release || !image)
		return;
	json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:n, s:s, s:b}", "release", release,
					      "arch", kind->name, "path", folder, "modules",
					      "source", "built", "sched_ext",
					      json_is_true(json_object_get(build, "sched_ext"))));
}

static void list_folder(const char *folder, void *arg)
{
	struct listing *listing = arg;
	CLEANUP_FREE char *boot = text_format("%s/boot", folder);
	CLEANUP_FREE char *mark = text_format("%s/build.json", folder);
	json_t *build = mark ? json_load_file(mark, 0, NULL) : NULL;

	if (build)
		list_built(folder, build, listing->rows);
	else if (boot)
		for_each_image(boot, list_image, listing);
	json_decref(build);
}

json_t *kernel_list(void)
{
	struct listing listing = {.rows = json_array(), .source = "boot"};

	for_each_image("/boot", list_image, &listing);
	listing.source = "cache";
	for_each_folder(list_folder, &listing);
	return listing.rows;
}
