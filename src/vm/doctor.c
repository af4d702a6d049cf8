/* Tries what a run needs, one thing after another. Control thread. */
#include "vm/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/text.h"
#include "base/util.h"
#include "loop/loop.h"
#include "vm/host.h"
#include "vm/kernels.h"
#include "vm/perf/apply.h"
#include "vm/perf/locks.h"
#include "vm/runtime.h"
#include "vm/tools.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

/* Which KVM on which boot an answer is about: the node is made when the module is loaded. */
static char *host_identity(void)
{
	CLEANUP_FREE char *boot_id = NULL;
	size_t len;
	struct stat st;

	if (file_read(BOOT_ID_PATH, 128, &boot_id, &len) < 0 || stat("/dev/kvm", &st) < 0)
		return NULL;
	return text_format("%.*s %lld.%09ld %s", (int)strcspn(boot_id, "\n"), boot_id,
			   (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, STASIS_VERSION);
}

static char *memory_path(void)
{
	CLEANUP_FREE char *dir = NULL;

	return runtime_dir(&dir, NULL) < 0 ? NULL : text_format("%s/.probe.json", dir);
}

static bool recall(const char *path, const char *identity, struct arch_probe *ret_probe)
{
	json_t *json = path && identity ? json_load_file(path, 0, NULL) : NULL;
	const char *about, *lacks;
	bool found = false;

	if (json && json_unpack(json, "{s:s, s:s}", "about", &about, "lacks", &lacks) == 0 &&
	    !strcmp(about, identity)) {
		ret_probe->runs_stock_kernel = !lacks[0];
		snprintf(ret_probe->lacks, sizeof(ret_probe->lacks), "%s", lacks);
		found = true;
	}
	json_decref(json);
	return found;
}

/* Best effort: without it, the next run probes again. */
static void remember(const char *path, const char *identity, const struct arch_probe *probe)
{
	CLEANUP_FREE char *tmp = path ? text_format("%s.%d", path, (int)getpid()) : NULL;
	json_t *json;

	if (!tmp || !identity)
		return;
	json = json_pack("{s:s, s:s}", "about", identity, "lacks", probe->lacks);
	if (json && json_dump_file(json, tmp, JSON_COMPACT) == 0 && rename(tmp, path) < 0)
		unlink(tmp);
	json_decref(json);
}

static int probe(struct arch_probe *ret_probe, struct error *err)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	int r = kvm_open(&kvm, "/dev/kvm", err);

	if (r == 0)
		r = arch_probe(&kvm, ret_probe, err);
	kvm_close(&kvm);
	return r;
}

static void ability_from(const struct arch_probe *p, struct host_ability *ret_ability)
{
	*ret_ability = (struct host_ability){.runs_linux = p->runs_stock_kernel};
	if (!p->runs_stock_kernel)
		snprintf(ret_ability->why, sizeof(ret_ability->why),
			 "this host's KVM (%s) can't run a stock kernel: a probe guest stopped at "
			 "%s",
			 host_kind(), p->lacks);
}

int host_ability(struct host_ability *ret_ability, struct error *err)
{
	CLEANUP_FREE char *identity = NULL;
	CLEANUP_FREE char *path = NULL;
	struct arch_probe found;
	struct error inner = {0};
	int r;

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		*ret_ability = (struct host_ability){0};
		snprintf(ret_ability->why, sizeof(ret_ability->why), "/dev/kvm: %s",
			 strerror(errno));
		return 0;
	}
	identity = host_identity();
	path = memory_path();
	if (recall(path, identity, &found)) {
		ability_from(&found, ret_ability);
		return 0;
	}
	r = probe(&found, &inner);
	if (r < 0 && inner.kind == ERROR_CONTENTION) {
		*err = inner;
		return r;
	}
	if (r < 0) {
		*ret_ability = (struct host_ability){0};
		snprintf(ret_ability->why, sizeof(ret_ability->why), "%.255s", inner.what);
		return 0;
	}
	remember(path, identity, &found);
	ability_from(&found, ret_ability);
	return 0;
}

/* ---- doctor's list -------------------------------------------------------------------------- */

struct check {
	const char *name;
	/* Fills found; returns 0, or a negative errno with err. mend is a command, or NULL. */
	int (*run)(char *found, size_t len, struct error *err);
	const char *mend;
};

static int check_kvm(char *found, size_t len, struct error *err)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	unsigned phys_bits;
	int r = kvm_open(&kvm, "/dev/kvm", err);

	if (r == 0)
		r = arch_host_check(&kvm, &phys_bits, err);
	if (r == 0)
		snprintf(found, len, "%s, up to %u vCPUs, %u bits of guest physical address",
			 host_kind(), kvm.max_vcpus, phys_bits);
	kvm_close(&kvm);
	return r;
}

static int check_linux(char *found, size_t len, struct error *err)
{
	struct arch_probe p;
	int r = probe(&p, err);

	if (r < 0)
		return r;
	if (!p.runs_stock_kernel)
		return error_usage(err, "a probe guest stopped at %s; stock kernels go to the lab",
				   p.lacks);
	snprintf(found, len, "a probe guest ran to its end");
	return 0;
}

static int check_watch(char *found, size_t len, struct error *err)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	bool fires = false;
	int r = kvm_open(&kvm, "/dev/kvm", err);

	if (r == 0)
		r = arch_probe_watch(&kvm, &fires, err);
	kvm_close(&kvm);
	if (r < 0)
		return r;
	if (!fires)
		return error_usage(err, "a watched store of a probe guest was not told of: watches "
					"look at the value now and then, and may miss a store");
	snprintf(found, len, "a watched store stopped a probe guest");
	return 0;
}

static int check_io_uring(char *found, size_t len, struct error *err)
{
	struct loop *loop = NULL;
	int r = loop_new(&loop, err);

	loop_free(loop);
	if (r == 0)
		snprintf(found, len, "a ring can be made");
	return r;
}

static int check_kernel(char *found, size_t len, struct error *err)
{
	struct kernel_choice kernel = {0};
	int r = kernel_choose(arch_kind_own(), NULL, &kernel, err);

	if (r == 0)
		snprintf(found, len, "%s%s", kernel.path, kernel.modules ? ", with modules" : "");
	kernel_choice_done(&kernel);
	return r;
}

static int check_busybox(char *found, size_t len, struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	int r = tools_busybox(arch_kind_own(), &path, err);

	if (r == 0)
		snprintf(found, len, "%s", path);
	return r;
}

static int check_init(char *found, size_t len, struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	int r = tools_init(arch_kind_own(), &path, err);

	if (r == 0)
		snprintf(found, len, "%s", path);
	return r;
}

/* Which guests the isolation is for, where that isn't all: --perf never goes to the lab. */
static int add_whose(char *found, size_t len, struct error *err)
{
	struct host_ability ability;
	size_t at = strlen(found);
	int r = host_ability(&ability, err);

	if (r < 0 || ability.runs_linux)
		return r;
	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return error_usage(err, "%s", ability.why);
	snprintf(found + at, len - at,
		 "; with --no-lab only, for guests that this KVM runs: stock kernels go to the "
		 "lab, whose guests are never isolated");
	return 0;
}

/* As one line: the CPUs that a performance run could have, and the first thing that it would lack.
 */
static int check_perf(char *found, size_t len, struct error *err)
{
	struct perf_missing missing = {0};
	struct host_cpu_set allowed;
	struct host_cpus host;
	int r = host_cpu_set_allowed(&allowed, err);

	if (r == 0)
		r = host_cpus_read("/sys", &allowed, &host, err);
	if (r < 0)
		return r;
	snprintf(found, len, "%u CPUs in %u cores and %u last-level caches, of %u online",
		 host.count, host.cores, host.groups, host.online);
	if (host.count < 2)
		perf_missing_add(&missing, NULL,
				 "one CPU is too few: the control thread needs one");
	host_cpus_done(&host);
	perf_apply_check(&(struct perf_need){.vcpus = 1}, &missing);
	for (unsigned i = 0; i < missing.count; i++)
		if (missing.item[i].fatal)
			return error_usage(err, "%s (try: %s)", missing.item[i].what,
					   missing.item[i].mend);
	return add_whose(found, len, err);
}

static int check_locks(char *found, size_t len, struct error *err)
{
	struct perf_locks locks = {.dir_fd = -1, .mutex_fd = -1, .record_fd = -1};
	int r = perf_locks_open(&locks, err);

	if (r == 0)
		r = perf_locks_begin(&locks, err);
	if (r == 0)
		snprintf(found, len, "%s", locks.path);
	perf_locks_close(&locks);
	return r;
}

static int check_lab(char *found, size_t len, struct error *err)
{
	char line[128] = "";
	CLEANUP_FREE char *command = text_format("%s --version 2>/dev/null", arch_kind_own()->qemu);
	FILE *out = command ? popen(command, "re") : NULL;

	if (out) {
		if (!fgets(line, sizeof(line), out))
			line[0] = '\0';
		pclose(out);
	}
	line[strcspn(line, "\n")] = '\0';
	if (!line[0])
		return error_usage(err, "%s is not installed", arch_kind_own()->qemu);
	snprintf(found, len, "%s", line);
	return 0;
}

static const struct check checks[] = {
	{"kvm", check_kvm, "modprobe kvm; and be in the group of /dev/kvm"},
	{"stock kernels", check_linux, NULL},
	{"watchpoints", check_watch, NULL},
	{"io_uring", check_io_uring, "sysctl kernel.io_uring_disabled=0"},
	{"kernel", check_kernel, "stasis kernel get"},
	{"busybox", check_busybox, "apt-get install busybox-static"},
	{"stasis-init", check_init, "ninja -C build"},
	{"performance", check_perf, NULL},
	{"locks", check_locks, NULL},
	{"lab", check_lab, "scripts/setup"},
};

int doctor_examine(json_t **ret_checks, struct error *err)
{
	json_t *list = json_array();

	if (!list)
		return error_set(err, -ENOMEM, "examining this host");
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		char found[300] = "";
		struct error inner = {0};
		bool ok = checks[i].run(found, sizeof(found), &inner) == 0;
		json_t *row = json_pack("{s:s, s:b, s:s}", "name", checks[i].name, "ok", (int)ok,
					"found", ok ? found : inner.what);

		if (!ok && checks[i].mend)
			json_object_set_new(row, "mend", json_string(checks[i].mend));
		json_array_append_new(list, row);
	}
	*ret_checks = list;
	return 0;
}
