/* Folder lists of the dynamic loader, after ld.so(8) and ldconfig(8). Control thread. */
#include "guest/elf_search.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

#define CONF_DEPTH_MAX 8
#define CONF_DIRS_MAX  1024
#define CONF_SIZE_MAX  MIB(1)

static const struct machine {
	uint16_t machine;
	const char *platform; /* $PLATFORM */
	const char *multiarch;
} machines[] = {
	{EM_X86_64, "x86_64", "x86_64-linux-gnu"},
	{EM_AARCH64, "aarch64", "aarch64-linux-gnu"},
};

static const struct machine *machine_find(uint16_t machine)
{
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		if (machines[i].machine == machine)
			return &machines[i];
	return NULL;
}

/* What $LIB can stand for; distributions differ. %s is the multiarch name. */
static const char *const lib_forms[] = {"lib/%s", "lib64", "lib"};
static const char *const default_dirs[] = {"/lib/%s",	 "/usr/lib/%s", "/lib64",
					   "/usr/lib64", "/lib",	"/usr/lib"};

/* forms hold at most one %s; written out here because a format must be a literal. */
static char *fill_form(const char *form, const char *multiarch)
{
	const char *at = strstr(form, "%s");

	if (!at)
		return strdup(form);
	return text_format("%.*s%s%s", (int)(at - form), form, multiarch, at + 2);
}

static int conf_add(struct elf_conf *conf, const char *dir)
{
	char **bigger;

	if (conf->count == CONF_DIRS_MAX || dir[0] != '/')
		return 0;
	bigger = realloc(conf->dirs, (conf->count + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	conf->dirs = bigger;
	bigger[conf->count] = strdup(dir);
	if (!bigger[conf->count])
		return -ENOMEM;
	conf->count++;
	return 0;
}

static int conf_file(struct elf_conf *conf, const char *path, unsigned depth);

static int conf_include(struct elf_conf *conf, const char *from, const char *pattern,
			unsigned depth)
{
	const char *slash = strrchr(from, '/');
	CLEANUP_FREE char *full =
		pattern[0] == '/' || !slash
			? strdup(pattern)
			: text_format("%.*s/%s", (int)(slash - from), from, pattern);
	glob_t found = {0};
	int r = 0;

	if (!full)
		return -ENOMEM;
	if (depth < CONF_DEPTH_MAX && glob(full, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc && r == 0; i++)
			r = conf_file(conf, found.gl_pathv[i], depth + 1);
	}
	globfree(&found);
	return r;
}

static int conf_file(struct elf_conf *conf, const char *path, unsigned depth)
{
	CLEANUP_FREE char *text = NULL;
	char *line, *next = NULL;
	size_t len;
	int r = file_read(path, CONF_SIZE_MAX, &text, &len);

	if (r < 0)
		return r == -ENOMEM ? r : 0;
	for (line = strtok_r(text, "\n", &next); line && r == 0;
	     line = strtok_r(NULL, "\n", &next)) {
		char *word, *more = NULL;

		line[strcspn(line, "#")] = '\0';
		word = strtok_r(line, " \t\r,:=", &more);
		if (!word)
			continue;
		if (strcmp(word, "include") == 0) {
			while (r == 0 && (word = strtok_r(NULL, " \t\r", &more)))
				r = conf_include(conf, path, word, depth);
		} else if (strcmp(word, "hwcap") != 0) {
			for (; word && r == 0; word = strtok_r(NULL, " \t\r,:=", &more))
				r = conf_add(conf, word);
		}
	}
	return r;
}

int elf_conf_load(const char *path, struct elf_conf *ret_conf)
{
	struct elf_conf conf = {0};
	int r = conf_file(&conf, path, 0);

	if (r < 0)
		elf_conf_done(&conf);
	else
		*ret_conf = conf;
	return r;
}

void elf_conf_done(struct elf_conf *conf)
{
	for (size_t i = 0; i < conf->count; i++)
		free(conf->dirs[i]);
	free(conf->dirs);
	*conf = (struct elf_conf){0};
}

int elf_search_try(const char *path, uint16_t machine, struct elf_image *ret_image)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct elf_image image;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	r = elf_image_read(fd, &image);
	if (r == -ENOEXEC)
		return 0;
	if (r < 0)
		return r;
	if (image.machine != machine) {
		elf_image_done(&image);
		return 0;
	}
	*ret_image = image;
	return 1;
}

/* Takes path over. */
static int try_path(char *path, uint16_t machine, char **ret_path, struct elf_image *ret_image)
{
	int r;

	if (!path)
		return -ENOMEM;
	r = path[0] == '/' ? elf_search_try(path, machine, ret_image) : 0;
	if (r == 1)
		*ret_path = path;
	else
		free(path);
	return r;
}

/* len of "$NAME" or "${NAME}" at text, else 0. */
static size_t token(const char *text, const char *name)
{
	size_t n = strlen(name);

	if (text[0] != '$')
		return 0;
	if (text[1] == '{')
		return strncmp(text + 2, name, n) == 0 && text[2 + n] == '}' ? n + 3 : 0;
	/* "$LIBRARY" is not "$LIB". */
	if (strncmp(text + 1, name, n) != 0 ||
	    (text[1 + n] && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", text[1 + n])))
		return 0;
	return n + 1;
}

/* The first len bytes of text with its tokens replaced; an empty string where that is too long. */
static char *expand(const char *text, size_t len, const char *origin, const char *lib,
		    const char *platform)
{
	const struct {
		const char *name, *value;
	} tokens[] = {{"ORIGIN", origin}, {"LIB", lib}, {"PLATFORM", platform}};
	char out[PATH_MAX];
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		const char *value = NULL;
		size_t used = 0, value_len;

		for (size_t t = 0; t < ARRAY_SIZE(tokens) && !used; t++) {
			used = token(text + i, tokens[t].name);
			value = tokens[t].value;
		}
		if (!used) {
			value = text + i;
			used = 1;
			value_len = 1;
		} else {
			value_len = strlen(value);
		}
		if (n + value_len >= sizeof(out))
			return strdup("");
		memcpy(out + n, value, value_len);
		n += value_len;
		i += used;
	}
	out[n] = '\0';
	return strdup(out);
}

/* Tries dir/name (or dir alone where name is NULL) for each thing that $LIB can be. */
static int search_expanded(const char *dir, size_t len, const char *origin, const char *name,
			   uint16_t machine, char **ret_path, struct elf_image *ret_image)
{
	const struct machine *m = machine_find(machine);
	size_t forms = m && memmem(dir, len, "LIB", 3) ? ARRAY_SIZE(lib_forms) : 1;
	int r = 0;

	for (size_t i = 0; i < forms && r == 0; i++) {
		CLEANUP_FREE char *lib = fill_form(lib_forms[i], m ? m->multiarch : "");
		CLEANUP_FREE char *where =
			lib ? expand(dir, len, origin, lib, m ? m->platform : "") : NULL;

		if (!where)
			return -ENOMEM;
		if (where[0] == '/')
			r = try_path(name ? text_format("%s/%s", where, name) : strdup(where),
				     machine, ret_path, ret_image);
	}
	return r;
}

int elf_search_list(const char *list, const char *origin, const char *name, uint16_t machine,
		    char **ret_path, struct elf_image *ret_image)
{
	int r = 0;

	while (*list && r == 0) {
		size_t len = strcspn(list, ":;");

		if (len)
			r = search_expanded(list, len, origin, name, machine, ret_path, ret_image);
		list += len;
		list += *list != '\0';
	}
	return r;
}

int elf_search_direct(const char *name, const char *origin, uint16_t machine, char **ret_path,
		      struct elf_image *ret_image)
{
	return search_expanded(name, strlen(name), origin, NULL, machine, ret_path, ret_image);
}

int elf_search_default(const char *name, uint16_t machine, char **ret_path,
		       struct elf_image *ret_image)
{
	const struct machine *m = machine_find(machine);
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(default_dirs) && r == 0; i++) {
		CLEANUP_FREE char *dir = fill_form(default_dirs[i], m ? m->multiarch : "");

		if (!dir)
			return -ENOMEM;
		r = try_path(text_format("%s/%s", dir, name), machine, ret_path, ret_image);
	}
	return r;
}

int elf_search_conf(const struct elf_conf *conf, const char *name, uint16_t machine,
		    char **ret_path, struct elf_image *ret_image)
{
	int r = 0;

	for (size_t i = 0; i < conf->count && r == 0; i++)
		r = try_path(text_format("%s/%s", conf->dirs[i], name), machine, ret_path,
			     ret_image);
	return r;
}

bool elf_search_is_default(const char *path, uint16_t machine)
{
	const struct machine *m = machine_find(machine);
	const char *slash = strrchr(path, '/');
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(default_dirs) && !found; i++) {
		CLEANUP_FREE char *dir = fill_form(default_dirs[i], m ? m->multiarch : "");

		found = dir && slash && strlen(dir) == (size_t)(slash - path) &&
			strncmp(dir, path, strlen(dir)) == 0;
	}
	return found;
}
