/* An index of the module files of a folder, then a walk over what the wanted ones depend on.
 * Control thread. */
#include "guest/modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "guest/elf_image.h"
#include "guest/unpack.h"

#define MODULE_MAX   MIB(256) /* unpacked */
#define INDEX_MAX    65536
#define LOADED_MAX   1024
#define FOLDERS_MAX  32 /* deep; each holds a descriptor */
#define DEPENDS_MAX  64 /* deep */
#define BUILTIN_MAX  MIB(8)
#define NAME_MAX_LEN sizeof(((struct module_image *)0)->name)

enum packing { PLAIN, GZIP, XZ, ZSTD };

struct entry {
	char name[NAME_MAX_LEN];
	char *path;
	enum packing packing;
	bool visiting; /* on the way down to its dependencies */
	bool loaded;
};

struct modules {
	const char *dir;
	struct error *err;
	struct entry *entries; /* by name, once the walk is over */
	size_t count, cap;
	char *builtin; /* text of modules.builtin; empty where there is none */
	struct module_list list;
};

static int out_of_memory(struct modules *m)
{
	return error_set_shortage(m->err, -ENOMEM, "loading kernel modules");
}

/* Copies n bytes of a module's name with '_' for '-'. False where it is too long. */
static bool canonical(const char *text, size_t n, char ret_name[NAME_MAX_LEN])
{
	if (n == 0 || n >= NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < n; i++)
		ret_name[i] = text[i] == '-' ? '_' : text[i];
	ret_name[n] = '\0';
	return true;
}

/* "a-b.ko.xz" gives "a_b" and XZ. */
static bool module_file(const char *file, char ret_name[NAME_MAX_LEN], enum packing *ret_packing)
{
	static const struct {
		const char *end;
		enum packing packing;
	} kinds[] = {{".ko", PLAIN}, {".ko.gz", GZIP}, {".ko.xz", XZ}, {".ko.zst", ZSTD}};
	size_t len = strlen(file);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].end);

		if (len > n && strcmp(file + len - n, kinds[i].end) == 0) {
			*ret_packing = kinds[i].packing;
			return canonical(file, len - n, ret_name);
		}
	}
	return false;
}

static int index_file(struct modules *m, const char *dir, const char *file)
{
	struct entry e = {0};

	if (!module_file(file, e.name, &e.packing) || m->count == INDEX_MAX)
		return 0;
	if (m->count == m->cap) {
		size_t cap = MAX(m->cap * 2, (size_t)256);
		struct entry *bigger = realloc(m->entries, cap * sizeof(*bigger));

		if (!bigger)
			return out_of_memory(m);
		m->entries = bigger;
		m->cap = cap;
	}
	e.path = text_format("%s/%s", dir, file);
	if (!e.path)
		return out_of_memory(m);
	m->entries[m->count++] = e;
	return 0;
}

/* Takes fd over. Links are left alone: "build" and "source" lead out of the folder. */
static int index_folder(struct modules *m, const char *path, int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *e;
	int r = 0;

	if (!dir) {
		r = -errno;
		close(fd);
		return error_set(m->err, r, "reading folder %s", path);
	}
	while (r == 0 && (errno = 0, e = readdir(dir))) {
		CLEANUP_FREE char *below = NULL;
		struct stat st;
		int child;

		if (e->d_name[0] == '.' || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			r = index_file(m, path, e->d_name);
		if (!S_ISDIR(st.st_mode) || depth == FOLDERS_MAX)
			continue;
		below = text_format("%s/%s", path, e->d_name);
		child = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (!below)
			r = out_of_memory(m);
		else if (child >= 0)
			r = index_folder(m, below, child, depth + 1);
		if (!below && child >= 0)
			close(child);
	}
	closedir(dir);
	return r;
}

/* By name; of two with one name, the one from updates/ comes first, as depmod has it. */
static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	if (r == 0)
		r = (strstr(y->path, "/updates/") != NULL) - (strstr(x->path, "/updates/") != NULL);
	return r ? r : strcmp(x->path, y->path);
}

static struct entry *entry_find(struct modules *m, const char *name)
{
	size_t low = 0, high = m->count;

	/* The first that isn't below name. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(m->entries[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < m->count && strcmp(m->entries[low].name, name) == 0 ? &m->entries[low] : NULL;
}

/* modules.builtin has lines as "kernel/fs/mbcache.ko". */
static bool is_builtin(const struct modules *m, const char *name)
{
	for (const char *line = m->builtin; *line;) {
		size_t len = strcspn(line, "\n");
		const char *slash = memrchr(line, '/', len);
		const char *file = slash ? slash + 1 : line;
		size_t n = (size_t)(line + len - file);
		char found[NAME_MAX_LEN];

		if (n > 3 && canonical(file, n - 3, found) && strcmp(found, name) == 0)
			return true;
		line += len;
		line += *line == '\n';
	}
	return false;
}

static int unpack(enum packing packing, char *raw, size_t raw_len, struct module_image *image)
{
	const uint8_t *in = (const uint8_t *)raw;
	int r;

	switch (packing) {
	case GZIP:
		r = unpack_gzip(in, raw_len, MODULE_MAX, &image->data, &image->len);
		break;
	case XZ:
		r = unpack_xz(in, raw_len, MODULE_MAX, &image->data, &image->len);
		break;
	case ZSTD:
		r = unpack_zstd(in, raw_len, MODULE_MAX, &image->data, &image->len);
		break;
	default:
		image->data = (uint8_t *)raw;
		image->len = raw_len;
		return 0;
	}
	free(raw);
	return r;
}

/* Reads and unpacks. */
static int read_module(struct modules *m, const struct entry *e, struct module_image *ret_image)
{
	struct module_image image = {0};
	char *raw;
	size_t raw_len;
	int r = file_read(e->path, MODULE_MAX, &raw, &raw_len);

	if (r < 0)
		return error_set(m->err, r, "reading kernel module %s", e->path);
	memcpy(image.name, e->name, sizeof(image.name));
	r = unpack(e->packing, raw, raw_len, &image);
	if (r == -ENOMEM)
		return out_of_memory(m);
	if (r < 0)
		return error_set(m->err, r, "unpacking kernel module %s", e->path);
	*ret_image = image;
	return 0;
}

static int load(struct modules *m, const char *name, size_t len, bool must, const char *who,
		unsigned depth);

/* Loads each name of a list that is split by one of the characters of split. */
static int load_names(struct modules *m, const char *names, size_t len, const char *split,
		      bool must, const char *who, unsigned depth)
{
	int r = 0;

	for (size_t at = 0; at < len && r == 0;) {
		size_t n = 0;

		while (at + n < len && !strchr(split, names[at + n]))
			n++;
		if (n)
			r = load(m, names + at, n, must, who, depth + 1);
		at += n + 1;
	}
	return r;
}

/* "pre: a b post: c": the names after pre. */
static int load_softdep(struct modules *m, const char *text, size_t len, const char *who,
			unsigned depth)
{
	const char *start = memmem(text, len, "pre:", 4), *end;

	if (!start)
		return 0;
	start += 4;
	len -= (size_t)(start - text);
	end = memmem(start, len, "post:", 5);
	return load_names(m, start, end ? (size_t)(end - start) : len, " \t", false, who, depth);
}

/* .modinfo is "name=value" strings with NULs between. */
static int load_dependencies(struct modules *m, const struct entry *e,
			     const struct module_image *image, unsigned depth)
{
	const uint8_t *section;
	size_t len;
	int r = elf_image_section(image->data, image->len, ".modinfo", &section, &len);
	const char *info = (const char *)section;

	if (r < 0)
		return error_set(m->err, -EBADMSG, "reading kernel module %s", e->path);
	for (size_t at = 0; at < len && r == 0;) {
		size_t n = strnlen(info + at, len - at);

		if (n > 8 && memcmp(info + at, "depends=", 8) == 0)
			r = load_names(m, info + at + 8, n - 8, ",", true, e->name, depth);
		else if (n > 8 && memcmp(info + at, "softdep=", 8) == 0)
			r = load_softdep(m, info + at + 8, n - 8, e->name, depth);
		at += n + 1;
	}
	return r;
}

/* Takes image over. */
static int list_add(struct modules *m, struct module_image *image)
{
	struct module_image *bigger = NULL;

	if (m->list.count < LOADED_MAX)
		bigger = realloc(m->list.images, (m->list.count + 1) * sizeof(*bigger));
	if (!bigger) {
		free(image->data);
		return out_of_memory(m);
	}
	m->list.images = bigger;
	bigger[m->list.count++] = *image;
	return 0;
}

/* must: a dependency, which is an error unless it is there or built in. */
static int load(struct modules *m, const char *text, size_t len, bool must, const char *who,
		unsigned depth)
{
	struct module_image image;
	char name[NAME_MAX_LEN];
	struct entry *e;
	int r;

	e = canonical(text, len, name) ? entry_find(m, name) : NULL;
	if (!e) {
		/* Without modules.builtin nothing is known, and the guest will tell. */
		if (!must || !*m->builtin || (len < NAME_MAX_LEN && is_builtin(m, name)))
			return 0;
		return error_usage(m->err,
				   "kernel module %s needs %.*s, which is neither in %.200s nor "
				   "built in",
				   who, (int)MIN(len, (size_t)100), text, m->dir);
	}
	/* A ring is left to the guest's kernel: soft dependencies may close one rightly. */
	if (e->loaded || e->visiting)
		return 0;
	if (depth > DEPENDS_MAX)
		return error_set(m->err, -EBADMSG,
				 "loading kernel module %s: %u levels of dependencies", e->path,
				 depth);
	r = read_module(m, e, &image);
	if (r < 0)
		return r;
	e->visiting = true;
	r = load_dependencies(m, e, &image, depth);
	e->visiting = false;
	if (r < 0) {
		free(image.data);
		return r;
	}
	e->loaded = true;
	return list_add(m, &image);
}

static int build_index(struct modules *m)
{
	int fd = open(m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FREE char *path = NULL;
	size_t len;
	int r;

	if (fd < 0)
		return error_set(m->err, -errno, "reading the kernel modules in %s", m->dir);
	r = index_folder(m, m->dir, fd, 0);
	if (r < 0)
		return r;
	if (m->count)
		qsort(m->entries, m->count, sizeof(*m->entries), by_name);
	path = text_format("%s/modules.builtin", m->dir);
	if (!path)
		return out_of_memory(m);
	r = file_read(path, BUILTIN_MAX, &m->builtin, &len);
	if (r < 0) {
		m->builtin = strdup("");
		r = m->builtin ? 0 : out_of_memory(m);
	}
	return r;
}

int modules_load(const char *dir, const char *const *names, size_t n, struct module_list *ret_list,
		 struct error *err)
{
	struct modules m = {.dir = dir, .err = err};
	int r = build_index(&m);

	for (size_t i = 0; i < n && r == 0; i++)
		r = load(&m, names[i], strlen(names[i]), false, NULL, 0);
	for (size_t i = 0; i < m.count; i++)
		free(m.entries[i].path);
	free(m.entries);
	free(m.builtin);
	if (r < 0)
		modules_done(&m.list);
	else
		*ret_list = m.list;
	return r;
}

void modules_done(struct module_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->images[i].data);
	free(list->images);
	*list = (struct module_list){0};
}
