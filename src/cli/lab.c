/* stasis lab, and runs in the lab. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/lab_outputs.h"
#include "cli/lab_run.h"
#include "freeze/vmcore.h"
#include "guest/topology_request.h"
#include "vm/image.h"
#include "vm/kernels.h"
#include "vm/lab/lab.h"
#include "vm/lab/place.h"
#include "vm/signals.h"
#include "vm/terminal.h"

#define INNER_ARGS_MAX (47 + 2 * VM_MAX_DISKS)
/* What a core has besides memory: notes of a thousand vCPUs, and what its parts are rounded up. */
#define CORE_BESIDES MIB(16)

/* ---- a run -------------------------------------------------------------------------------------
 */

struct inner {
	char *argv[INNER_ARGS_MAX];
	size_t count;
	bool failed;
};

static void word(struct inner *in, char *text)
{
	if (!text || in->count + 1 >= INNER_ARGS_MAX) {
		in->failed = true;
		free(text);
		return;
	}
	in->argv[in->count++] = text;
}

static void option(struct inner *in, const char *name, const char *value)
{
	if (!value)
		return;
	word(in, strdup(name));
	word(in, strdup(value));
}

static void option_of(void *arg, const char *name, const char *value)
{
	option(arg, name, value);
}

static const char *session_kind(enum vm_session session)
{
	return session == VM_SESSION_COMMAND ? "command"
	       : session == VM_SESSION_SHELL ? "shell"
					     : "console";
}

static char *pin_list(const struct vm_config *c)
{
	char *list = c->pin ? strdup("") : NULL;

	for (unsigned i = 0; list && i < topology_vcpus(&c->topology); i++) {
		char *more = text_format("%s%s%d", list, i ? "," : "", c->pin[i]);

		free(list);
		list = more;
	}
	return list;
}

/* The nodes one by one, because no text of a plain shape says all of them. */
static void shape_words(struct inner *in, const struct topology *t)
{
	char text[128];

	for (unsigned a = 0; a < t->nodes; a++) {
		option(in, "--numa-node", topology_node_format(&t->node[a], text, sizeof(text)));
		for (unsigned b = a + 1; b < t->nodes; b++) {
			if (t->distance[a][b] == TOPOLOGY_DISTANCE_REMOTE)
				continue;
			snprintf(text, sizeof(text), "%u,%u=%u", a, b, t->distance[a][b]);
			option(in, "--numa-distance", text);
		}
	}
	option(in, "--topology", topology_format(t, text, sizeof(text)));
}

static char *disk_words(const struct vm_disk *d)
{
	char buf[LAB_PATH_MAX], iops[32] = "", bps[32] = "";
	const char *path = lab_disk_path(d->path, buf);

	if (!path)
		return NULL;

	if (d->iops)
		snprintf(iops, sizeof(iops), ",iops=%llu", (unsigned long long)d->iops);
	if (d->bps)
		snprintf(bps, sizeof(bps), ",bps=%llu", (unsigned long long)d->bps);
	return text_format("%s%s%s,id=%s%s%s", path, d->read_only ? ",ro" : "",
			   d->direct ? ",direct" : "", d->id, iops, bps);
}

static void duration(struct inner *in, const char *name, uint64_t ns)
{
	char number[32];

	snprintf(number, sizeof(number), "%lluns", (unsigned long long)ns);
	option(in, name, ns ? number : NULL);
}

/* What run and restore have in common. */
static void more_words(struct inner *in, const struct vm_config *c,
		       const struct lab_outputs *outputs)
{
	option(in, "--name", c->name);
	duration(in, "--timeout", c->timeout_ns);
	lab_outputs_words(outputs, option_of, in);
	if (c->verbosity < 0)
		word(in, strdup("--quiet"));
	for (int i = 0; i < c->verbosity; i++)
		word(in, strdup("--verbose"));
}

static void restore_words(struct inner *in, const struct vm_config *c,
			  const struct lab_outputs *outputs)
{
	word(in, strdup("restore"));
	word(in, strdup(c->lab_snapshot));
	word(in, strdup("--in-lab"));
	for (size_t i = 0; i < c->disk_count; i++) {
		char buf[LAB_PATH_MAX];
		const char *path = lab_disk_path(c->disk[i].path, buf);
		CLEANUP_FREE char *disk = path ? text_format("%s=%s", c->disk[i].id, path) : NULL;

		in->failed |= !disk;
		option(in, "--disk", disk);
	}
	more_words(in, c, outputs);
}

/* The same configuration as words for the stasis inside. */
static void build_words(struct inner *in, const struct vm_config *c, const struct lab_file *kernel,
			const struct lab_file *initrd, const char *core,
			const struct lab_outputs *outputs)
{
	char kernel_path[LAB_PATH_MAX], initrd_path[LAB_PATH_MAX], number[LAB_PATH_MAX];
	CLEANUP_FREE char *pin = pin_list(c);
	uint16_t cols, rows;

	if (c->lab_snapshot) {
		restore_words(in, c, outputs);
		return;
	}
	word(in, strdup("run"));
	word(in, strdup("--no-lab"));
	option(in, "--session", session_kind(c->session));
	option(in, "--kernel", lab_file_path(kernel, kernel_path));
	option(in, "--kernel-name", c->kernel);
	option(in, "--lacks", c->lacks);
	option(in, "--initrd", lab_file_path(initrd, initrd_path));
	shape_words(in, &c->topology);
	option(in, "--append", c->append);
	for (size_t i = 0; i < c->disk_count; i++) {
		CLEANUP_FREE char *disk = disk_words(&c->disk[i]);

		in->failed |= !disk;
		option(in, "--disk", disk);
	}
	for (size_t i = 0; i < c->net_count; i++) {
		CLEANUP_FREE char *net = vm_net_inner(&c->net[i], i);

		in->failed |= !net;
		option(in, "--net", net);
	}
	if (c->hugepages)
		word(in, strdup("--hugepages"));
	option(in, "--pin", pin);
	option(in, "--cpu-vendor", c->cpu_vendor);
	if (c->session == VM_SESSION_SHELL && terminal_size(STDIN_FILENO, &cols, &rows)) {
		snprintf(number, sizeof(number), "%ux%u", cols, rows);
		option(in, "--window", number);
	}
	duration(in, "--freeze-at", c->freeze_at_ns);
	duration(in, "--freeze-for", c->freeze_for_ns);
	if (c->watch_scx)
		word(in, strdup("--watch-scx"));
	for (unsigned n = 0; n < c->watch_count; n++)
		option(in, "--watch", c->watch[n].text);
	option(in, "--on-hit", vm_on_hit_name(c->on_hit));
	if (c->monitor_ns) {
		snprintf(number, sizeof(number), "--monitor=%lluns",
			 (unsigned long long)c->monitor_ns);
		word(in, strdup(number));
		option(in, "--on-stall", vm_on_stall_name(c->on_stall));
	}
	if (c->vmcore)
		option(in, "--vmcore", lab_disk_path(core, number));
	if (c->counters)
		word(in, strdup("--counters"));
	if (c->profile_hz) {
		snprintf(number, sizeof(number), "--profile=%u", c->profile_hz);
		word(in, strdup(number));
	}
	more_words(in, c, outputs);
}

/* ---- what comes out ---------------------------------------------------------------------------
 */

/* A core is written to a disk of the lab that is our file: no copy of it stays in there, and its
 * holes are the file's. */
static int open_core(const struct vm_config *c, struct beside *core, char **ret_path,
		     struct error *err)
{
	int r = beside_open(core, c->vmcore, 0600);

	if (r == 0 && !core->tmp)
		r = -ENOTSUP;
	if (r == 0 &&
	    ftruncate(core->fd, (off_t)(topology_memory(&c->topology) + CORE_BESIDES)) < 0)
		r = -errno;
	if (r == 0) {
		*ret_path = text_format("/proc/%d/fd/%d", (int)getpid(), core->fd);
		r = *ret_path ? 0 : -ENOMEM;
	}
	return r < 0 ? error_set(err, r, "making the core %s", c->vmcore) : 0;
}

/* Nothing, where none was written. */
static int close_core(const struct vm_config *c, struct beside *core, struct error *err)
{
	uint64_t len;
	int r = vmcore_length(core->fd, &len);

	if (r == -ENODATA) {
		beside_abort(core);
		return 0;
	}
	if (r == 0 && (ftruncate(core->fd, (off_t)len) < 0 || fdatasync(core->fd) < 0))
		r = -errno;
	if (r == 0)
		r = beside_commit(core);
	return r < 0 ? error_set(err, r, "writing the core %s", c->vmcore) : 0;
}

static void on_opened(void *arg, bool private_lab)
{
	lab_place_opened(arg, private_lab);
}

static int run_with(struct vm_config *c, const struct kernel_choice *machine,
		    struct lab_file files[2], struct lab_place *place, int *ret_status,
		    struct error *err)
{
	struct vm_disk disks[VM_MAX_DISKS + 1] = {0};
	struct lab_machine lab = {.kind = c->kind,
				  .kernel = machine->path,
				  .modules = machine->modules,
				  .vcpus = topology_vcpus(&c->topology),
				  .disks = disks,
				  .disk_count = c->disk_count,
				  .nets = c->net,
				  .net_count = c->net_count};
	struct lab_outputs outputs = {.count = 0};
	CLEANUP_FREE char *core_path = NULL;
	struct beside core = {.fd = -1};
	struct terminal terminal = {.fd = -1};
	struct inner in = {.count = 0};
	struct lab_request request = {
		.kind = c->kind,
		.argv = in.argv,
		.files = files,
		.file_count = c->lab_snapshot ? 0 : 2,
		.outputs = outputs.list,
		.progress = c->verbosity >= 0,
		.limit_ns = c->timeout_ns,
		.name = c->name,
		.control_fd = place->control_fd,
		.control_count = place->control_count,
		.keeper_path = place->keeper_path,
		.opened = on_opened,
		.arg = place,
	};
	int r = lab_outputs_open(&outputs, c, err);

	request.output_count = outputs.count;
	memcpy(disks, c->disk, c->disk_count * sizeof(*disks));
	if (r == 0 && c->vmcore) {
		r = open_core(c, &core, &core_path, err);
		disks[lab.disk_count++].path = core_path;
	}
	build_words(&in, c, &files[0], &files[1], core_path, &outputs);
	/* The guest's console has a terminal's rules of its own. */
	if (c->session != VM_SESSION_COMMAND)
		terminal_make_raw(&terminal, STDIN_FILENO);
	if (r == 0)
		r = in.failed ? error_set(err, -ENOMEM, "running in the lab")
			      : lab_run(&lab, &request, ret_status, err);
	terminal_restore(&terminal);
	if (r == 0 && c->vmcore)
		r = close_core(c, &core, err);
	if (r == 0)
		r = lab_outputs_finish(&outputs, c, *ret_status, err);
	while (in.count > 0)
		free(in.argv[--in.count]);
	beside_abort(&core);
	lab_outputs_close(&outputs);
	return r;
}

/* The initramfs, built here where COMMAND and its libraries are. */
static int build_initrd(const struct vm_config *c, int *ret_fd, struct error *err)
{
	struct image image;
	int fd, r = image_build(c, &image, err);

	if (r < 0)
		return r;
	fd = memfd_create("initrd", MFD_CLOEXEC);
	r = fd < 0 ? error_set_shortage(err, -errno, "building the initramfs")
		   : image_write(&image, fd, err);
	image_done(&image);
	if (r < 0)
		fd_close(&fd);
	else
		*ret_fd = fd;
	return r;
}

/* Kernel and initramfs. */
static int make_files(const struct vm_config *c, struct lab_file files[2], struct error *err)
{
	int r;

	files[0].fd = open(c->kernel, O_RDONLY | O_CLOEXEC);
	if (files[0].fd < 0)
		return error_usage(err, "--kernel %s: %s", c->kernel, strerror(errno));
	r = build_initrd(c, &files[1].fd, err);
	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = lab_file_hash(&files[i], err);
	return r;
}

/* Held until the run is over: the emulator's own locks keep out only its like. */
static int hold_disks(const struct vm_config *c, struct block_file held[VM_MAX_DISKS],
		      struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < VM_MAX_DISKS; i++)
		held[i].fd = -1;
	for (size_t i = 0; r == 0 && i < c->disk_count; i++) {
		const struct vm_disk *d = &c->disk[i];
		const struct block_spec spec = {d->path, d->read_only, d->direct};

		r = block_file_open(&spec, &held[i], err);
		if (r == 0 && c->lab_snapshot)
			r = vm_disk_check(d, held[i].fd, err);
	}
	return r;
}

int lab_run_config(struct vm_config *config)
{
	struct block_file held[VM_MAX_DISKS];
	struct lab_file files[2] = {{.fd = -1}, {.fd = -1}};
	struct kernel_choice machine = {0};
	struct error err = {0};
	struct lab_place place;
	int status = 125, r;

	signals_block();
	r = config->lab_snapshot && config->disk_count &&
			    !lab_has_disks(config->kind, config->disk, config->disk_count)
		    ? error_usage(&err, "the lab was started without a disk that this snapshot has")
		    : hold_disks(config, held, &err);
	for (size_t i = 0; r == 0 && i < config->net_count; i++)
		r = vm_net_check(&config->net[i], &err);
	if (lab_place_init(&place, config, &err) < 0)
		r = err.code;
	else
		vm_config_settle(config);
	if (r == 0)
		r = kernel_for_lab(config->kind, &machine, &err);
	if (r == 0 && !config->lab_snapshot)
		r = make_files(config, files, &err);
	if (r == 0)
		r = run_with(config, &machine, files, &place, &status, &err);
	if (r < 0 || err.code)
		status = command_failed(&err);
	fd_close(&files[0].fd);
	fd_close(&files[1].fd);
	for (size_t i = 0; i < VM_MAX_DISKS; i++)
		block_file_close(&held[i]);
	lab_place_done(&place);
	kernel_choice_done(&machine);
	return status;
}
