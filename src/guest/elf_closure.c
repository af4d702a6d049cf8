/* Breadth first over DT_NEEDED, as glibc's loader does it; scripts lead to their interpreters.
 * Control thread. */
#include "guest/elf_closure.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "guest/elf_image.h"
#include "guest/elf_search.h"

#define OBJECTS_MAX 4096
#define SCRIPTS_MAX 5	/* the kernel follows as many */
#define SCRIPT_LINE 256 /* BINPRM_BUF_SIZE */
#define USUAL_PATH  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CONF_FILE   "/etc/ld.so.conf"
#define CACHE_FILE  "/etc/ld.so.cache"

/* One loaded file of a program. */
struct object {
	char *path;		     /* as found */
	char *origin;		     /* folder that $ORIGIN stands for */
	const char *name;	     /* how DT_NEEDED called it; its loader owns the text */
	const struct object *loader; /* who needed it first; NULL: the program */
	struct elf_image image;
};

/* The objects of one program, in loading order. Pointers, since objects refer to each other. */
struct program {
	struct object **objects;
	size_t count;
	const char *interp; /* objects[0]'s */
};

struct closure {
	int (*each)(const char *path, void *arg);
	void *arg;
	struct error *err;
	struct elf_conf conf;
	uint16_t machine;
	char **seen; /* what each was called with */
	size_t seen_count;
	unsigned scripts;
};

static int out_of_memory(struct closure *c)
{
	return error_set_shortage(c->err, -ENOMEM, "finding shared libraries");
}

/* path without "." and "..": by its text where that is the same file, else by its real folder. */
static char *tidy(const char *path)
{
	CLEANUP_FREE char *out = strdup(path);
	CLEANUP_FREE char *dir = NULL;
	struct stat a, b;
	const char *slash;
	char *to = out;

	if (!out || path[0] != '/')
		return out ? strdup(out) : NULL;
	for (const char *p = path; *p;) {
		size_t n;

		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			while (to > out && *--to != '/')
				;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			*to++ = '/';
			memmove(to, p, n);
			to += n;
		}
		p += n;
	}
	*to = '\0';
	if (stat(path, &a) == 0 && stat(out, &b) == 0 && a.st_ino == b.st_ino &&
	    a.st_dev == b.st_dev)
		return strdup(out);
	slash = strrchr(path, '/');
	*to = '\0';
	dir = text_format("%.*s/", (int)(slash - path), path);
	if (dir) {
		char *real = realpath(dir, NULL);

		free(dir);
		dir = real;
	}
	return dir ? text_format("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, slash + 1)
		   : strdup(path);
}

/* Calls each for path unless that was done before. */
static int report(struct closure *c, const char *path)
{
	char **bigger;
	char *copy;

	for (size_t i = 0; i < c->seen_count; i++)
		if (strcmp(c->seen[i], path) == 0)
			return 0;
	bigger = realloc(c->seen, (c->seen_count + 1) * sizeof(*bigger));
	if (!bigger)
		return out_of_memory(c);
	c->seen = bigger;
	copy = strdup(path);
	if (!copy)
		return out_of_memory(c);
	bigger[c->seen_count++] = copy;
	return c->each(path, c->arg);
}

static void object_free(struct object *o)
{
	if (!o)
		return;
	free(o->path);
	free(o->origin);
	elf_image_done(&o->image);
	free(o);
}

static void program_done(struct program *p)
{
	for (size_t i = 0; i < p->count; i++)
		object_free(p->objects[i]);
	free(p->objects);
}

/* Takes path and image over, on failure too. */
static int program_add(struct closure *c, struct program *p, char *path, const char *name,
		       const struct object *loader, struct elf_image *image)
{
	struct object *o = calloc(1, sizeof(*o));
	struct object **bigger = NULL;
	char *slash;

	if (p->count < OBJECTS_MAX)
		bigger = realloc(p->objects, (p->count + 1) * sizeof(struct object *));
	if (bigger)
		p->objects = bigger;
	if (!o || !bigger) {
		free(o);
		free(path);
		elf_image_done(image);
		return p->count < OBJECTS_MAX
			       ? out_of_memory(c)
			       : error_usage(c->err, "'%.200s' needs more than %d libraries",
					     p->objects[0]->path, OBJECTS_MAX);
	}
	*o = (struct object){.path = path, .name = name, .loader = loader, .image = *image};
	p->objects[p->count++] = o;
	/* The loader takes a program's real path, and a library's as it was found. */
	o->origin = loader ? strdup(path) : realpath(path, NULL);
	if (!o->origin)
		return out_of_memory(c);
	slash = strrchr(o->origin, '/');
	if (slash)
		slash[slash == o->origin] = '\0';
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_loaded(const struct program *p, const char *name)
{
	/* The loader itself is there before anything else. */
	if (p->interp && strcmp(base_name(p->interp), name) == 0)
		return true;
	for (size_t i = 0; i < p->count; i++) {
		const struct object *o = p->objects[i];

		if ((o->name && strcmp(o->name, name) == 0) || strcmp(o->path, name) == 0 ||
		    (o->image.soname && strcmp(o->image.soname, name) == 0))
			return true;
	}
	return false;
}

/* Returns as elf_search_try. */
static int find_library(struct closure *c, const struct object *who, const char *name,
			char **ret_path, struct elf_image *ret_image)
{
	const char *env = getenv("LD_LIBRARY_PATH");
	int r = 0;

	if (strchr(name, '/'))
		return elf_search_direct(name, who->origin, c->machine, ret_path, ret_image);
	/* An object's RPATH serves what it loads, and so on down, but a RUNPATH turns RPATHs off:
	 * its own for everyone, all of them for what it needs itself. */
	if (!who->image.runpath)
		for (const struct object *o = who; o && r == 0; o = o->loader)
			if (o->image.rpath && !o->image.runpath)
				r = elf_search_list(o->image.rpath, o->origin, name, c->machine,
						    ret_path, ret_image);
	if (r == 0 && env)
		r = elf_search_list(env, who->origin, name, c->machine, ret_path, ret_image);
	if (r == 0 && who->image.runpath)
		r = elf_search_list(who->image.runpath, who->origin, name, c->machine, ret_path,
				    ret_image);
	if (r != 0 || who->image.no_default)
		return r;
	r = elf_search_conf(&c->conf, name, c->machine, ret_path, ret_image);
	if (r == 1 && !elf_search_is_default(*ret_path, c->machine) &&
	    access(CACHE_FILE, R_OK) == 0) {
		int failed = report(c, CACHE_FILE);

		if (failed) {
			free(*ret_path);
			elf_image_done(ret_image);
			return failed;
		}
	}
	if (r == 0)
		r = elf_search_default(name, c->machine, ret_path, ret_image);
	return r;
}

static int load_needed(struct closure *c, struct program *p, const struct object *who,
		       const char *name)
{
	struct elf_image image;
	char *path = NULL, *tidied;
	int r;

	if (is_loaded(p, name))
		return 0;
	r = find_library(c, who, name, &path, &image);
	if (r == 0)
		return error_usage(c->err, "'%.200s' needs the library '%.100s', which isn't there",
				   who->path, name);
	if (r < 0) {
		/* A failure of each is its own to tell; error_set keeps the first. */
		return error_set(c->err, r, "finding the library %.100s for %.200s", name,
				 who->path);
	}
	tidied = tidy(path);
	free(path);
	if (!tidied) {
		elf_image_done(&image);
		return out_of_memory(c);
	}
	r = program_add(c, p, tidied, name, who, &image);
	return r < 0 ? r : report(c, tidied);
}

/* Takes image over. */
static int close_program(struct closure *c, const char *path, struct elf_image *image)
{
	struct program p = {.interp = image->interp};
	char *copy = strdup(path);
	int r;

	if (!copy) {
		elf_image_done(image);
		return out_of_memory(c);
	}
	r = program_add(c, &p, copy, NULL, NULL, image);
	if (r == 0 && p.interp) {
		if (access(p.interp, R_OK) < 0)
			r = error_usage(c->err,
					"'%.200s' needs the loader '%.200s', which isn't "
					"there",
					path, p.interp);
		else
			r = report(c, p.interp);
	}
	for (size_t i = 0; i < p.count && r == 0; i++)
		for (size_t n = 0; n < p.objects[i]->image.needed_count && r == 0; n++)
			r = load_needed(c, &p, p.objects[i], p.objects[i]->image.needed[n]);
	program_done(&p);
	return r;
}

static int close_file(struct closure *c, const char *path);

/* Whether a closure for another machine meets a program that is not of it. */
static bool is_foreign(const struct closure *c, const char *path)
{
	uint16_t machine = c->machine == elf_image_own_machine() ? 0 : elf_image_machine_of(path);

	return machine != 0 && machine != c->machine;
}

/* The word that "env ARGS" runs, or NULL: after -S, other options and NAME=VALUE. */
static char *env_command(char *args)
{
	char *next = NULL, *word;

	for (word = strtok_r(args, " \t", &next); word; word = strtok_r(NULL, " \t", &next)) {
		if (strncmp(word, "-S", 2) == 0 && word[2])
			return word + 2;
		if (word[0] != '-' && !strchr(word, '='))
			return word;
	}
	return NULL;
}

/* line is what follows "#!". */
static int close_script(struct closure *c, const char *path, char *line)
{
	CLEANUP_FREE char *command_path = NULL;
	char *interpreter, *args, *command;
	int r;

	line += strspn(line, " \t");
	interpreter = line;
	args = line + strcspn(line, " \t");
	if (*args)
		*args++ = '\0';
	if (interpreter[0] != '/')
		return *interpreter
			       ? error_usage(c->err,
					     "the script '%.200s' has the interpreter '%.100s', "
					     "which is no absolute path",
					     path, interpreter)
			       : 0;
	if (++c->scripts > SCRIPTS_MAX)
		return error_usage(c->err, "the script '%.200s' leads through too many scripts",
				   path);
	if (access(interpreter, R_OK) < 0)
		return error_usage(c->err,
				   "the script '%.200s' needs the interpreter '%.100s', "
				   "which isn't there",
				   path, interpreter);
	if (is_foreign(c, interpreter))
		return 0;
	r = report(c, interpreter);
	if (r == 0)
		r = close_file(c, interpreter);
	if (r < 0 || strcmp(base_name(interpreter), "env") != 0)
		return r;
	command = env_command(args);
	if (!command)
		return 0;
	r = elf_which(command, getenv("PATH"), &command_path, c->err);
	if (r == 0 && command_path[0] == '/' && !is_foreign(c, command_path)) {
		r = report(c, command_path);
		if (r == 0)
			r = close_file(c, command_path);
	}
	return r;
}

static int close_file(struct closure *c, const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	char start[SCRIPT_LINE + 1];
	struct elf_image image;
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(c->err, -errno, "opening %s", path);
	if (!S_ISREG(st.st_mode))
		return 0;
	n = fd_read_all(fd, start, SCRIPT_LINE);
	if (n < 0)
		return error_set(c->err, (int)n, "reading %s", path);
	start[n] = '\0';
	if (n > 2 && start[0] == '#' && start[1] == '!') {
		start[strcspn(start, "\n")] = '\0';
		return close_script(c, path, start + 2);
	}
	r = elf_image_read(fd, &image);
	if (r == -ENOEXEC) {
		/* 32-bit and big-endian files carry the mark as well. */
		if (n >= 4 && memcmp(start, "\177ELF", 4) == 0)
			return error_usage(c->err, "'%.200s' is an ELF file for another machine",
					   path);
		return 0;
	}
	if (r < 0)
		return error_set(c->err, r, "reading %s as an ELF file", path);
	if (image.machine != c->machine) {
		elf_image_done(&image);
		return error_usage(c->err, "'%.200s' is an ELF file for another machine", path);
	}
	return close_program(c, path, &image);
}

int elf_closure(const char *path, int (*each)(const char *path, void *arg), void *arg,
		struct error *err)
{
	return elf_closure_for(elf_image_own_machine(), path, each, arg, err);
}

int elf_closure_for(uint16_t machine, const char *path, int (*each)(const char *path, void *arg),
		    void *arg, struct error *err)
{
	struct closure c = {
		.each = each,
		.arg = arg,
		.err = err,
		.machine = machine,
	};
	int r = elf_conf_load(CONF_FILE, &c.conf);

	r = r < 0 ? error_set(err, r, "reading %s", CONF_FILE) : close_file(&c, path);
	for (size_t i = 0; i < c.seen_count; i++)
		free(c.seen[i]);
	free(c.seen);
	elf_conf_done(&c.conf);
	return r;
}

static int which_error(struct error *err, int code, const char *command, const char *why)
{
	bool first = err && err->code == 0;

	error_usage(err, "'%.200s' %s", command, why);
	if (first)
		err->code = code;
	return code;
}

/* 0, -EACCES for what is there and can't be run, -ENOENT. */
static int can_run(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -ENOENT;
	return S_ISREG(st.st_mode) && access(path, X_OK) == 0 ? 0 : -EACCES;
}

int elf_which(const char *command, const char *path_env, char **ret_path, struct error *err)
{
	const char *p = path_env ? path_env : USUAL_PATH;
	int worst = -ENOENT;

	if (strchr(command, '/')) {
		char *copy;
		int r = can_run(command);

		if (r < 0)
			return which_error(err, r, command,
					   r == -ENOENT ? "isn't there" : "can't be executed");
		copy = strdup(command);
		if (!copy)
			return error_set_shortage(err, -ENOMEM, "finding %.200s", command);
		*ret_path = copy;
		return 0;
	}
	while (*command) {
		size_t len = strcspn(p, ":");
		/* An empty element is the working folder. */
		char *path = text_format("%.*s/%s", len ? (int)len : 1, len ? p : ".", command);
		int r;

		if (!path)
			return error_set_shortage(err, -ENOMEM, "finding %.200s", command);
		r = can_run(path);
		if (r == 0) {
			*ret_path = path;
			return 0;
		}
		free(path);
		if (r == -EACCES)
			worst = r;
		if (!p[len])
			break;
		p += len + 1;
	}
	return which_error(err, worst, command,
			   worst == -ENOENT ? "is in no folder of PATH"
					    : "is on the PATH but can't be executed");
}
