/* Builds the two parts of the initramfs and lays them into guest memory. Control thread. */
#include "vm/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "guest/elf_closure.h"
#include "guest/elf_image.h"
#include "guest/initramfs.h"
#include "guest/modules.h"
#include "guest/session_protocol.h"
#include "vm/tools.h"

#define INITRD_FILE_MAX GIB(2)

/* What every guest of ours needs, where the kernel has it as a module: the transport, entropy,
 * and the panic device's driver. */
static const char *const base_modules[] = {"virtio_mmio", "virtio_console", "virtio_rng",
					   "vmw_vsock_virtio_transport", "pvpanic_mmio"};

/* Names that scripts expect in both places on a host whose /bin is /usr/bin. */
static const char *const both_bins[] = {"sh", "env", "cat", "test", "true", "false", "["};

#define MODULES_MAX 16

struct base_parts {
	const struct arch_kind *kind;
	const char *init, *busybox, *modules;
	const char *lister; /* a busybox that runs here, and says what applets there are */
	const char *module[MODULES_MAX]; /* names */
	size_t module_count;
};

static int add_applets(struct initramfs *fs, const char *busybox, struct error *err)
{
	CLEANUP_FREE char *command = text_format("'%s' --list-full", busybox);
	char line[256];
	FILE *list = command ? popen(command, "re") : NULL;
	unsigned count = 0;
	int r = 0;

	if (!list)
		return error_set(err, -errno, "asking %s for its applets", busybox);
	while (r == 0 && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		/* A relative path of plain words, or it is not what we asked. */
		if (!line[0] || line[0] == '/' || strstr(line, "..") || strchr(line, ' '))
			continue;
		if (strcmp(line, "bin/busybox"))
			r = initramfs_link(fs, line, "/bin/busybox", err);
		count++;
	}
	if (pclose(list) != 0 || count == 0) {
		if (r == 0)
			r = error_set(err, -EIO, "asking %s for its applets", busybox);
		return r;
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(both_bins); i++) {
		CLEANUP_FREE char *bin = text_format("bin/%s", both_bins[i]);
		CLEANUP_FREE char *usr_bin = text_format("usr/bin/%s", both_bins[i]);

		if (!bin || !usr_bin)
			return error_set(err, -ENOMEM, "linking applets");
		r = initramfs_link(fs, bin, "/bin/busybox", err);
		if (r == 0)
			r = initramfs_link(fs, usr_bin, "/bin/busybox", err);
	}
	return r;
}

static int add_modules(struct initramfs *fs, const struct base_parts *parts, struct error *err)
{
	CLEANUP_FREE char *names = NULL;
	struct module_list list = {0};
	size_t len = 0;
	int r;

	r = modules_load(parts->modules, parts->module, parts->module_count, &list, err);
	if (r < 0)
		return r;
	names = calloc(list.count + 1, sizeof(list.images[0].name));
	if (!names)
		r = error_set(err, -ENOMEM, "listing modules");
	for (size_t i = 0; r == 0 && i < list.count; i++) {
		const struct module_image *m = &list.images[i];
		CLEANUP_FREE char *path = text_format("%s/%s.ko", SESSION_MODULES_DIR, m->name);

		if (!path) {
			r = error_set(err, -ENOMEM, "adding module %s", m->name);
			break;
		}
		r = initramfs_file(fs, path, 0644, m->data, m->len, err);
		memcpy(names + len, m->name, strlen(m->name) + 1);
		len += strlen(m->name) + 1;
	}
	if (r == 0)
		r = initramfs_file(fs, SESSION_MODULES_FILE, 0644, names, len, err);
	modules_done(&list);
	return r;
}

/* shm_cache_get's make(): the whole base, compressed. */
static int make_base(void *arg, uint8_t **ret_data, size_t *ret_len, struct error *err)
{
	static const char *const folders[] = {"dev",	   "proc",	   "sys",      "run",
					      "tmp",	   "root",	   "var",      "mnt",
					      "etc",	   "bin",	   "sbin",     "lib",
					      "lib64",	   "usr/bin",	   "usr/sbin", "usr/lib",
					      "usr/lib64", "usr/local/bin"};
	const struct base_parts *parts = arg;
	struct initramfs fs = {0};
	int r = initramfs_init(&fs);

	if (r < 0)
		return error_set(err, r, "building the initramfs");
	fs.machine = parts->kind->elf_machine;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(folders); i++)
		r = initramfs_dir(&fs, folders[i], 0755, err);
	/* The kernel opens it for init before anything is mounted. */
	if (r == 0)
		r = initramfs_device(&fs, "dev/console", 0600 | S_IFCHR, 5, 1, err);
	if (r == 0)
		r = initramfs_add_host(&fs, "init", parts->init, false, err);
	if (r == 0)
		r = initramfs_add_host(&fs, "bin/busybox", parts->busybox, false, err);
	if (r == 0)
		r = add_applets(&fs, parts->lister, err);
	if (r == 0 && parts->modules)
		r = add_modules(&fs, parts, err);
	if (r == 0)
		r = initramfs_file(&fs, "etc/passwd", 0644, "root:x:0:0:root:/root:/bin/sh\n", 30,
				   err);
	if (r == 0)
		r = initramfs_file(&fs, "etc/group", 0644, "root:x:0:\n", 10, err);
	if (r == 0)
		r = initramfs_finish(&fs, err);
	if (r == 0)
		r = initramfs_compress(&fs, ret_data, ret_len, err);
	initramfs_done(&fs);
	return r;
}

static int base_key(const struct base_parts *parts, char hex[SHM_KEY_HEX_LEN + 1],
		    struct error *err)
{
	CLEANUP_FREE char *order = NULL;
	struct shm_key key = {0};
	int r = shm_key_init(&key);

	if (r < 0)
		return error_set(err, r, "naming the cached initramfs");
	shm_key_text(&key, STASIS_VERSION);
	r = shm_key_file(&key, parts->init, err);
	if (r == 0)
		r = shm_key_file(&key, parts->busybox, err);
	if (r == 0 && parts->modules) {
		/* Packaged modules are replaced as a folder; modules.order changes with a build. */
		order = text_format("%s/modules.order", parts->modules);
		r = shm_key_file(&key, parts->modules, err);
		if (r == 0 && order)
			r = access(order, R_OK) == 0 ? shm_key_file(&key, order, err) : 0;
	}
	for (size_t i = 0; i < parts->module_count; i++)
		shm_key_text(&key, parts->module[i]);
	shm_key_done(&key, hex);
	return r;
}

static const struct arch_kind *kind_of(const struct vm_config *config)
{
	return config->kind ?: arch_kind_own();
}

static int build_base(const struct vm_config *config, struct shm_segment *ret_base,
		      struct error *err)
{
	const struct arch_kind *kind = kind_of(config);
	CLEANUP_FREE char *init = NULL;
	CLEANUP_FREE char *busybox = NULL;
	CLEANUP_FREE char *lister = NULL;
	struct base_parts parts;
	char key[SHM_KEY_HEX_LEN + 1];
	int r;

	r = tools_init(kind, &init, err);
	if (r == 0)
		r = tools_busybox(kind, &busybox, err);
	if (r == 0)
		r = tools_busybox(arch_kind_own(), &lister, err);
	if (r < 0)
		return r;
	parts = (struct base_parts){.kind = kind,
				    .init = init,
				    .busybox = busybox,
				    .lister = lister,
				    .modules = config->modules};
	for (size_t i = 0; i < ARRAY_SIZE(base_modules); i++)
		parts.module[parts.module_count++] = base_modules[i];
	if (config->disk_count > 0)
		parts.module[parts.module_count++] = "virtio_blk";
	if (config->net_count > 0)
		parts.module[parts.module_count++] = "virtio_net";
	for (const char *const *more = config->more_modules;
	     more && *more && parts.module_count < MODULES_MAX; more++)
		parts.module[parts.module_count++] = *more;
	r = base_key(&parts, key, err);
	if (r < 0)
		return r;
	return shm_cache_get(key, make_base, &parts, ret_base, err);
}

/* A program that the guest's machine can't run. */
static bool is_foreign(const struct initramfs *fs, const char *path)
{
	uint16_t machine = elf_image_machine_of(path);

	return machine != 0 && fs->machine != 0 && machine != fs->machine;
}

/* COMMAND's file with all that it needs, at its own path; *ret_path is where the guest finds it. A
 * command that the host lacks, or has for another machine than the guest's, is left for the guest
 * to find (an applet, an included file). */
static int add_command(struct initramfs *fs, const char *command, char **ret_path,
		       struct error *err)
{
	const char *path_env = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin";
	CLEANUP_FREE char *found = NULL;
	int r;

	if (elf_which(command, path_env, &found, NULL) < 0 || is_foreign(fs, found)) {
		*ret_path = strdup(command);
		return *ret_path ? 0 : error_set(err, -ENOMEM, "naming COMMAND");
	}
	if (found[0] != '/') {
		char *real = realpath(found, NULL);

		free(found);
		found = real;
	}
	if (!found)
		return error_set(err, -errno, "reading %s", command);
	r = initramfs_add_host(fs, found, found, true, err);
	if (r < 0)
		return r;
	*ret_path = found;
	found = NULL;
	return 0;
}

static int add_strings(struct initramfs *fs, const char *path, const char *const *strings,
		       struct error *err)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0, at = 0;

	for (const char *const *s = strings; *s; s++)
		len += strlen(*s) + 1;
	data = malloc(len + 1);
	if (!data)
		return error_set(err, -ENOMEM, "writing %s", path);
	for (const char *const *s = strings; *s; s++) {
		memcpy(data + at, *s, strlen(*s) + 1);
		at += strlen(*s) + 1;
	}
	return initramfs_file(fs, path, 0644, data, len, err);
}

static int add_argv(struct initramfs *fs, char *const *command, struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE const char **argv = NULL;
	size_t n = 0;
	int r = add_command(fs, command[0], &path, err);

	if (r < 0)
		return r;
	while (command[n])
		n++;
	argv = calloc(n + 1, sizeof(*argv));
	if (!argv)
		return error_set(err, -ENOMEM, "writing COMMAND");
	argv[0] = path;
	for (size_t i = 1; i < n; i++)
		argv[i] = command[i];
	return add_strings(fs, SESSION_ARGV_FILE, argv, err);
}

static int add_env(struct initramfs *fs, struct error *err)
{
	/* LD_LIBRARY_PATH, because the closure went by it. */
	static const char *const passed[] = {"TERM", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"};
	const char *env[ARRAY_SIZE(passed) + 1] = {NULL};
	char *made[ARRAY_SIZE(passed)] = {NULL};
	size_t n = 0;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(passed); i++) {
		const char *value = getenv(passed[i]);

		if (!value)
			continue;
		made[i] = text_format("%s=%s", passed[i], value);
		if (made[i])
			env[n++] = made[i];
	}
	r = add_strings(fs, SESSION_ENV_FILE, env, err);
	for (size_t i = 0; i < ARRAY_SIZE(made); i++)
		free(made[i]);
	return r;
}

/* What init gives the guest's interfaces. */
static int add_network(struct initramfs *fs, const struct vm_config *config, struct error *err)
{
	const char *lines[VM_MAX_NETS + 1] = {NULL};
	char *made[VM_MAX_NETS] = {NULL};
	int r = 0;

	for (size_t i = 0; i < config->net_count; i++) {
		lines[i] = made[i] = vm_net_line(&config->net[i]);
		if (!made[i])
			r = error_set(err, -ENOMEM, "writing " SESSION_NETWORK_FILE);
	}
	if (r == 0)
		r = add_strings(fs, SESSION_NETWORK_FILE, lines, err);
	for (size_t i = 0; i < config->net_count; i++)
		free(made[i]);
	return r;
}

static int build_tail(const struct vm_config *config, struct image *image, struct error *err)
{
	struct initramfs fs = {0};
	int r = initramfs_init(&fs);

	if (r < 0)
		return error_set(err, r, "building the initramfs");
	fs.machine = kind_of(config)->elf_machine;
	for (size_t i = 0; r == 0 && i < config->include_count; i++) {
		const struct vm_include *include = &config->includes[i];

		r = initramfs_add_host(&fs, include->dst, include->src, true, err);
	}
	if (r == 0 && config->command)
		r = add_argv(&fs, config->command, err);
	if (r == 0)
		r = add_env(&fs, err);
	if (r == 0 && config->net_count > 0)
		r = add_network(&fs, config, err);
	if (r == 0)
		r = initramfs_finish(&fs, err);
	if (r == 0) {
		image->tail = fs.data;
		image->tail_len = fs.len;
		fs.data = NULL;
	}
	initramfs_done(&fs);
	return r;
}

int image_build(const struct vm_config *config, struct image *ret_image, struct error *err)
{
	struct image image = {.base = {.fd = -1}};
	int r;

	if (config->initrd) {
		r = file_read(config->initrd, INITRD_FILE_MAX, (char **)&image.tail,
			      &image.tail_len);
		if (r < 0)
			return error_usage(err, "--initrd %s: %s", config->initrd, strerror(-r));
	} else {
		r = build_tail(config, &image, err);
		if (r == 0)
			r = build_base(config, &image.base, err);
		if (r < 0) {
			image_done(&image);
			return r;
		}
	}
	*ret_image = image;
	return 0;
}

uint64_t image_len(const struct image *image)
{
	return (image->base.fd >= 0 ? image->base.mapped_len : 0) + image->tail_len;
}

int image_place(const struct image *image, struct guest_memory *mem, uint64_t gpa,
		struct error *err)
{
	int r = 0;

	if (image->base.fd >= 0) {
		r = guest_map_private(mem, gpa, image->base.mapped_len, image->base.fd, err);
		gpa += image->base.mapped_len;
	}
	if (r == 0 && image->tail_len > 0) {
		r = guest_write(mem, gpa, image->tail, image->tail_len);
		if (r < 0)
			error_set(err, r, "placing the initramfs");
	}
	return r;
}

int image_write(const struct image *image, int fd, struct error *err)
{
	uint8_t buf[1 << 16];
	uint64_t at = 0;
	int r = 0;

	while (image->base.fd >= 0 && r == 0 && at < image->base.mapped_len) {
		size_t want = (size_t)MIN(sizeof(buf), image->base.mapped_len - at);
		ssize_t n = pread(image->base.fd, buf, want, (off_t)at);

		if (n < 0)
			return error_set(err, -errno, "reading the cached initramfs");
		/* The segment may end inside its last page; the rest of it is zero. */
		memset(buf + n, 0, want - (size_t)n);
		r = fd_write_all(fd, buf, want);
		at += want;
	}
	if (r == 0)
		r = fd_write_all(fd, image->tail, image->tail_len);
	return r < 0 ? error_set(err, r, "writing the initramfs") : 0;
}

void image_done(struct image *image)
{
	shm_segment_done(&image->base);
	free(image->tail);
	*image = (struct image){.base = {.fd = -1}};
}
