/* bench-linux: a stock Linux from before its monitor's process exists until its init has said a
 * word on the serial console, under the product and under a QEMU microvm, by turns. Where this
 * host's KVM boots no Linux, all of it happens in the lab. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/text.h"
#include "child.h"
#include "guest/elf_closure.h"
#include "guest/initramfs.h"
#include "linux_lab.h"
#include "linux_word.h"
#include "vm/doctor.h"
#include "vm/kernels.h"

#define ROUNDS	    5
#define MEMORY	    "256M"
#define WORD_NS	    120000000000u
#define LAB_NS	    180000000000u /* its own boot, on a busy host */
#define SAID_BYTES  4096
#define QUIET	    "quiet loglevel=4" /* after the words that stasis has for a foreign init */
#define PEER_LARGER "qemu-system-x86_64"
#define PEER	    PEER_LARGER "-microvm"

enum { BOOT, KERNEL, KINDS };

/* What is measured in the lab has names of its own, so that --compare never mixes it with hosts. */
static const struct results_spec specs[2][KINDS] = {
	{{"linux.boot", "exec to init's word; floor: a QEMU microvm's", "ns"},
	 {"linux.kernel", "the same from the first KVM_RUN on", "ns"}},
	{{"linux.boot.lab", "in the lab: exec to init's word; floor: a QEMU microvm's", "ns"},
	 {"linux.kernel.lab", "in the lab: the same from the first KVM_RUN on", "ns"}},
};

static const char *const side_name[RESULTS_SIDES] = {"the QEMU microvm", "stasis"};

struct parts {
	struct kernel_choice kernel;
	char *peer, *product; /* absolute paths; owned */
	char *initrd;	      /* … made here */
};

/* ---- one boot -------------------------------------------------------------------------- */

static int no_word(const char *who, char *said, size_t len, struct error *err)
{
	CLEANUP_FREE char *words = child_said();
	char *last;

	while (len > 0 && (said[len - 1] == '\n' || said[len - 1] == '\r'))
		len--;
	said[len] = '\0';
	last = memrchr(said, '\n', len);
	last = last ? last + 1 : said;
	text_one_line(last);
	if (words)
		return error_failed(err, "the guest of %s never came to its init: %s", who, words);
	return error_failed(
		err, "the guest of %s never came to its init; its console ends in \"%.200s\"", who,
		last);
}

/* fd: the guest's console. */
static int await_word(int fd, const char *who, uint64_t *ret_ns, struct error *err)
{
	const uint64_t give_up_ns = now_ns() + WORD_NS;
	char said[SAID_BYTES + 1];
	size_t len = 0;

	for (;;) {
		struct pollfd waited = {.fd = fd, .events = POLLIN};
		uint64_t now = now_ns();
		ssize_t n = 0;

		/* Also of a guest that has something to say at any time. */
		if (now < give_up_ns &&
		    poll(&waited, 1, (int)((give_up_ns - now) / 1000000) + 1) == 1)
			n = read(fd, said + len, SAID_BYTES - len);
		if (n <= 0)
			return no_word(who, said, len, err);
		now = now_ns();
		len += (size_t)n;
		if (memmem(said, len, LINUX_WORD, strlen(LINUX_WORD))) {
			*ret_ns = now;
			return 0;
		}
		if (len > SAID_BYTES / 2) { /* the end is enough, and may be half the word */
			memmove(said, said + len - SAID_BYTES / 4, SAID_BYTES / 4);
			len = SAID_BYTES / 4;
		}
	}
}

/* ret_ns: for each kind. */
static int boot(const struct bench *b, enum results_side side, char *const *argv,
		double ret_ns[KINDS], struct error *err)
{
	CLEANUP_FREE char *stamp = text_format("%s/bench-stamp.so", b->folder);
	int ends[2], r;
	struct child child;
	uint64_t said_ns;

	if (!stamp || pipe2(ends, O_CLOEXEC) < 0)
		return error_set_shortage(err, stamp ? -errno : -ENOMEM, "making a pipe");
	/* By the environment and not by env(1), which would be measured. */
	if (side == RESULTS_FLOOR)
		setenv("LD_PRELOAD", stamp, 1);
	r = child_start(b, argv, ends[1], &child, err);
	unsetenv("LD_PRELOAD");
	fd_close(&ends[1]);
	if (r == 0) {
		r = await_word(ends[0], side_name[side], &said_ns, err);
		child_end(&child, r < 0 ? SIGKILL : SIGTERM);
	}
	fd_close(&ends[0]);
	if (r < 0)
		return r;
	ret_ns[BOOT] = (double)(said_ns - child.began_ns);
	ret_ns[KERNEL] = (double)(said_ns - child.entered_ns);
	return 0;
}

/* ---- both machines --------------------------------------------------------------------- */

static char **product_argv(const struct parts *p, struct error *err)
{
	char *words[] = {
		strdup(p->product), strdup("run"),	    strdup("--no-lab"), strdup("-q"),
		strdup("-m"),	    strdup(MEMORY),	    strdup("-c"),	strdup("1"),
		strdup("-k"),	    strdup(p->kernel.path), strdup("-i"),	strdup(p->initrd),
		strdup("-a"),	    strdup(QUIET),
	};

	return child_argv(words, ARRAY_SIZE(words), err);
}

/* What QEMU's page on the microvm has for a fast boot, as far as it is one of a stock kernel: ACPI
 * stays, without which it doesn't come up, and the clock chip, which it looks for for seconds where
 * there is none. QEMU would take SeaBIOS then, which needs option ROMs to load a kernel; qboot
 * doesn't. */
static char **peer_argv(const struct parts *p, struct error *err)
{
	char *words[] = {
		strdup(p->peer),
		strdup("-nodefaults"),
		strdup("-no-user-config"),
		strdup("-display"),
		strdup("none"),
		strdup("-serial"),
		strdup("stdio"),
		strdup("-machine"),
		strdup("microvm,accel=kvm,x-option-roms=off,pit=off,pic=off,rtc=on,isa-serial=on"),
		strdup("-bios"),
		strdup("qboot.rom"),
		strdup("-cpu"),
		strdup("host,-arch-capabilities"), /* see child_peer_argv */
		strdup("-m"),
		strdup(MEMORY),
		strdup("-smp"),
		strdup("1"),
		strdup("-kernel"),
		strdup(p->kernel.path),
		strdup("-initrd"),
		strdup(p->initrd),
		strdup("-append"),
		text_format("%s " QUIET, arch_cmdline(true)),
	};

	return child_argv(words, ARRAY_SIZE(words), err);
}

/* The program at /init, the console that it gets, and nothing else. */
static int build_initrd(const struct bench *b, const char *path, struct error *err)
{
	CLEANUP_FREE char *init = text_format("%s/linux-init.elf", b->folder);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct initramfs fs = {0};
	int r = init ? initramfs_init(&fs) : -ENOMEM;

	if (r < 0 || fd < 0)
		r = error_set_shortage(err, r < 0 ? r : -errno, "making %s", path);
	if (r == 0)
		r = initramfs_add_host(&fs, "init", init, false, err);
	if (r == 0)
		r = initramfs_device(&fs, "dev/console", 0600 | S_IFCHR, 5, 1, err);
	if (r == 0)
		r = initramfs_finish(&fs, err);
	if (r == 0) {
		r = fd_write_all(fd, fs.data, fs.len);
		if (r < 0)
			error_set(err, r, "writing %s", path);
	}
	initramfs_done(&fs);
	return r;
}

/* ---- rows ------------------------------------------------------------------------------ */

static bool is_wanted(const struct bench *b, const struct results_spec *spec)
{
	return !b->options.only || !strncmp(spec->name, b->options.only, strlen(b->options.only));
}

/* A peer that doesn't run here is no failure of ours. */
static int leave_out(struct error *err)
{
	const struct error why = *err;

	*err = (struct error){0};
	error_contention(err, "linux: left out, as %s", why.what);
	if (why.hint[0])
		error_hint(err, "%s", why.hint);
	return err->code;
}

static bool is_inside(void)
{
	return getenv(LINUX_LAB_KERNEL) != NULL;
}

static int one_round(struct bench *b, char *const *const argv[RESULTS_SIDES], const int kind[2],
		     struct error *err)
{
	double ns[KINDS];
	int r = 0;

	/* No terminal is seen from in there, and it takes minutes. */
	if (is_inside())
		fprintf(stderr, "%s: round %zu of %u\n", b->row[0]->spec.name, b->row[0]->rounds,
			b->rounds);
	for (int side = 0; r == 0 && side < RESULTS_SIDES; side++) {
		r = boot(b, (enum results_side)side, argv[side], ns, err);
		if (r < 0)
			return side == RESULTS_FLOOR ? leave_out(err) : r;
		r = bench_sample(b, (enum results_side)side, ns[kind[0]], err);
		if (r == 0 && b->row[1])
			r = bench_sample_companion(b, (enum results_side)side, ns[kind[1]], err);
	}
	return r;
}

static int measure(struct bench *b, const struct parts *p, const struct results_spec *spec,
		   struct error *err)
{
	char **product = product_argv(p, err);
	char **peer = product ? peer_argv(p, err) : NULL;
	char *const *const argv[RESULTS_SIDES] = {peer, product};
	int kind[KINDS], n = 0, r = peer ? 0 : err->code;

	for (int i = 0; i < KINDS; i++)
		if (is_wanted(b, &spec[i]))
			kind[n++] = i;
	if (r == 0 && bench_row(b, &spec[kind[0]], ROUNDS, err)) {
		if (n > 1)
			r = bench_companion(b, &spec[kind[1]], err);
		while (r == 0 && bench_round(b, err))
			r = one_round(b, argv, kind, err);
	}
	child_argv_free(product);
	child_argv_free(peer);
	return err->code;
}

static int measure_here(struct bench *b, struct parts *p, const struct results_spec *spec,
			struct error *err)
{
	char *folder = NULL;
	int r = child_folder_make(b, &folder, err);

	if (r == 0) {
		p->initrd = text_format("%s/initrd", folder);
		r = p->initrd ? build_initrd(b, p->initrd, err)
			      : error_set_shortage(err, -ENOMEM, "making an initramfs");
	}
	if (r == 0)
		r = measure(b, p, spec, err);
	child_folder_remove(folder);
	return r;
}

static int find_parts(const struct bench *b, struct parts *p, struct error *err)
{
	CLEANUP_FREE char *own = text_format("%s/bench-stasis", b->folder);
	const char *stasis = b->options.stasis ?: own;
	const char *path = getenv("PATH");
	int r;

	p->product = stasis ? realpath(stasis, NULL) : NULL;
	if (!p->product)
		return error_set(err, own ? -errno : -ENOMEM, "finding %s", stasis ?: "stasis");
	if (elf_which(PEER, path, &p->peer, NULL) < 0 &&
	    elf_which(PEER_LARGER, path, &p->peer, NULL) < 0) {
		error_contention(err, "linux: left out, as there is no " PEER_LARGER);
		error_hint(err, "scripts/setup installs it");
		return err->code;
	}
	r = kernel_choose(arch_kind_own(), getenv(LINUX_LAB_KERNEL), &p->kernel, err);
	return r < 0 && err->kind == ERROR_CONTENTION ? leave_out(err) : r;
}

static int run(struct bench *b, struct error *err)
{
	const unsigned rounds = bench_share(&b->options, ROUNDS);
	const bool inside = is_inside();
	struct host_ability ability = {0};
	struct parts parts = {0};
	const struct results_spec *spec;
	int r = host_ability(&ability, err);

	spec = specs[inside || !ability.runs_linux];
	if (r < 0 || !(is_wanted(b, &spec[BOOT]) || is_wanted(b, &spec[KERNEL])))
		return r;
	/* Before anything is found or started: a pass without rounds needs no lab. */
	b->waits = rounds == 0;
	if (b->waits)
		return 0;
	r = find_parts(b, &parts, err);
	if (r == 0 && !ability.runs_linux && inside) {
		r = error_contention(err, "linux: left out, as in the lab, too, %s", ability.why);
	} else if (r == 0 && ability.runs_linux) {
		r = measure_here(b, &parts, spec, err);
	} else if (r == 0) {
		const struct linux_lab lab = {
			.kernel = parts.kernel.path,
			.product = parts.product,
			.peer = parts.peer,
			.limit_ns = LAB_NS + rounds * WORD_NS,
			.rows = spec,
			.row_count = KINDS,
		};

		r = linux_lab_measure(b, &lab, err);
		if (r < 0 && err->kind == ERROR_CONTENTION && strncmp(err->what, "linux:", 6) != 0)
			r = leave_out(err);
	}
	kernel_choice_done(&parts.kernel);
	free(parts.peer);
	free(parts.product);
	free(parts.initrd);
	return r;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"linux", "a stock Linux until its init runs, and a QEMU microvm's", run};

	return bench_main(&program, argc, argv);
}
