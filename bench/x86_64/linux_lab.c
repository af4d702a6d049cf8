/* Starts the machine, answers its init, keeps what the program in there prints, and makes rows of
 * it. Main thread. */
#include "linux_lab.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "vm/config.h"
#include "vm/console_log.h"
#include "vm/kernels.h"
#include "vm/lab/qemu.h"
#include "vm/session.h"

#define OUT_MAX	     MIB(16)
#define INCLUDES_MAX 24
#define WORDS_MAX    16
#define TAIL_LINES   12
#define WORDS_LINE   512

extern char **environ;

/* ---- a command in a machine of its own ------------------------------------------------- */

enum { CONTROL, OUT, ERRORS, CONSOLE, STREAMS };

struct inside {
	struct lab_qemu qemu;
	struct session session;
	struct console_log console;
	char *out; /* what the command wrote; owned */
	size_t len;
	char words[WORDS_LINE]; /* a line of its standard error, so far */
	size_t words_len;
};

static void on_session(struct session *s)
{
	if (s->state == SESSION_HELLO)
		session_send_go(s);
	else if (s->state == SESSION_DONE)
		session_send_bye(s);
}

static void to_init(struct session *s, const char *line, size_t len)
{
	struct inside *in = s->arg;

	/* An init that is gone shows in its channels' end. */
	(void)!write(in->qemu.control_fd, line, len);
}

static int keep(struct inside *in, const void *data, size_t len, struct error *err)
{
	char *more = in->len + len < OUT_MAX ? realloc(in->out, in->len + len + 1) : NULL;

	if (!more)
		return error_set_shortage(err, -ENOMEM, "keeping what the lab says");
	in->out = more;
	memcpy(more + in->len, data, len);
	in->len += len;
	more[in->len] = '\0';
	return 0;
}

static void show_line(struct inside *in)
{
	in->words[in->words_len] = '\0';
	text_one_line(in->words);
	fprintf(stderr, "%s\n", in->words);
	in->words_len = 0;
}

/* A machine's words go to a person's terminal as lines, and as nothing else. */
static void show(struct inside *in, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n') {
			show_line(in);
			continue;
		}
		in->words[in->words_len++] = data[i] ? (char)data[i] : '?';
		if (in->words_len == WORDS_LINE - 1)
			show_line(in);
	}
}

/* One read of a stream; closes fd at its end, which is the machine's. */
static int take(struct inside *in, int stream, int *fd, struct error *err)
{
	uint8_t buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		fd_close(fd);
		return 0;
	}
	if (stream == CONTROL)
		session_input(&in->session, buf, (size_t)n);
	else if (stream == OUT)
		return keep(in, buf, (size_t)n, err);
	else if (stream == CONSOLE)
		console_log_add(&in->console, buf, (size_t)n);
	else
		show(in, buf, (size_t)n);
	return 0;
}

/* Until the machine has ended: then all that it sent is here. */
static int listen_to(struct inside *in, uint64_t give_up_ns, struct error *err)
{
	int *const fd[STREAMS] = {&in->qemu.control_fd, &in->qemu.out_fd, &in->qemu.err_fd,
				  &in->qemu.console_fd};
	int r = 0;

	while (r == 0 && (*fd[OUT] >= 0 || *fd[ERRORS] >= 0)) {
		struct pollfd fds[STREAMS];
		uint64_t now = now_ns();

		if (now >= give_up_ns)
			return error_set(err, -ETIMEDOUT, "measuring in the lab");
		for (int i = 0; i < STREAMS; i++)
			fds[i] = (struct pollfd){.fd = *fd[i], .events = POLLIN};
		if (poll(fds, STREAMS, (int)MIN((give_up_ns - now) / 1000000 + 1, 60000u)) < 0 &&
		    errno != EINTR)
			return error_set(err, -errno, "waiting for the lab");
		for (int i = 0; r == 0 && i < STREAMS; i++)
			if (*fd[i] >= 0 && fds[i].revents)
				r = take(in, i, fd[i], err);
	}
	return r;
}

static void show_console(const struct inside *in)
{
	CLEANUP_FREE char *tail = console_log_tail(&in->console, TAIL_LINES);

	if (tail && tail[0])
		fprintf(stderr, "The lab's console ends with:\n%s", tail);
}

/* What its end means; the command's own words have been shown. */
static int judge(const struct inside *in, struct error *err)
{
	const struct session *s = &in->session;

	if (s->state < SESSION_DONE) {
		show_console(in);
		return error_failed(err, "the lab's machine ended before it was done");
	}
	if (s->failed)
		return error_failed(err, "starting the benchmark in the lab: %s", s->text);
	if (!s->signalled && s->status == 77)
		return error_contention(err, "linux: left out, for the reason above");
	if (s->signalled || s->status != 0)
		return error_failed(err, "the benchmark in the lab ended with %s %d",
				    s->signalled ? "signal" : "status", s->status);
	return 0;
}

/* *ret_out is malloc'ed. */
static int run_inside(const struct lab_machine *machine, uint64_t limit_ns, char **ret_out,
		      struct error *err)
{
	struct inside *in = calloc(1, sizeof(*in));
	int r;

	if (!in)
		return error_set_shortage(err, -ENOMEM, "running in the lab");
	session_init(&in->session);
	in->session.changed = on_session;
	in->session.send = to_init;
	in->session.arg = in;
	r = lab_qemu_start(machine, &in->qemu, err);
	if (r == 0) {
		r = listen_to(in, now_ns() + limit_ns, err);
		if (r == -ETIMEDOUT)
			show_console(in);
		lab_qemu_stop(&in->qemu);
		if (in->words_len > 0)
			show_line(in);
		if (r == 0)
			r = judge(in, err);
	}
	if (r == 0) {
		*ret_out = in->out;
		in->out = NULL;
	}
	free(in->out);
	free(in);
	return r;
}

/* ---- what it takes along --------------------------------------------------------------- */

struct luggage {
	struct vm_include include[INCLUDES_MAX];
	size_t n;
	int failed; /* negative errno */
};

/* A file, at its own path; path is malloc'ed and taken. */
static void pack(struct luggage *l, char *path)
{
	char *dst = path ? strdup(path) : NULL;

	if (dst && l->n < INCLUDES_MAX) {
		l->include[l->n++] = (struct vm_include){path, dst};
		return;
	}
	l->failed = dst ? -E2BIG : -ENOMEM;
	free(path);
	free(dst);
}

static void unpack(struct luggage *l)
{
	while (l->n > 0) {
		free(l->include[--l->n].src);
		free(l->include[l->n].dst);
	}
}

/* The folders that QEMU looks into, a line each, or NULL: then there are none. */
static FILE *ask_folders(const char *peer, pid_t *ret_pid)
{
	char *const argv[] = {(char *)peer, (char[]){"-L"}, (char[]){"help"}, NULL};
	posix_spawn_file_actions_t files;
	FILE *in = NULL;
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return NULL;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r = posix_spawn(ret_pid, peer, &files, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	fd_close(&ends[1]);
	if (r == 0)
		in = fdopen(ends[0], "r");
	if (!in)
		fd_close(&ends[0]);
	if (!in && r == 0)
		waitpid(*ret_pid, NULL, 0);
	return in;
}

/* Whichever of these a microvm asks for, in whichever of the folders that QEMU looks into. */
static void pack_firmware(struct luggage *l, const char *peer)
{
	static const char *const names[] = {"bios-microvm.bin", "kvmvapic.bin", "linuxboot_dma.bin",
					    "qboot.rom"};
	char folder[PATH_MAX];
	pid_t pid = 0;
	FILE *folders = ask_folders(peer, &pid);

	while (folders && fgets(folder, sizeof(folder), folders)) {
		folder[strcspn(folder, "\n")] = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			char *path = text_format("%s/%s", folder, names[i]);

			if (path && access(path, R_OK) == 0)
				pack(l, path);
			else
				free(path);
		}
	}
	if (folders) {
		fclose(folders);
		waitpid(pid, NULL, 0);
	}
}

static void pack_all(struct luggage *l, const struct bench *b, const struct linux_lab *lab)
{
	static const char *const beside[] = {"bench-linux", "bench-stamp.so", "linux-init.elf"};

	for (size_t i = 0; i < ARRAY_SIZE(beside); i++)
		pack(l, text_format("%s/%s", b->folder, beside[i]));
	pack(l, strdup(lab->product));
	pack(l, strdup(lab->kernel));
	pack(l, strdup(lab->peer));
	pack_firmware(l, lab->peer);
}

/* ---- rows ------------------------------------------------------------------------------ */

static int add_rows(struct bench *b, const struct linux_lab *lab, const char *text,
		    struct error *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int r = json ? 0 : error_failed(err, "what came out of the lab is no result");

	if (r == 0)
		r = results_from_foreign(&b->results, json, lab->rows, lab->row_count,
					 MAX(1, b->options.pass), "the lab", err);
	if (r == 0 && b->results.rows == 0)
		r = error_failed(err, "the benchmark in the lab measured nothing");
	if (r == 0)
		json_object_set(b->results.host, "lab", json_object_get(json, "host"));
	json_decref(json);
	return r;
}

/* sh, as the program's words and its result must not be mixed: the first go to standard error. */
static void build_command(char *words[WORDS_MAX], const struct bench *b,
			  const struct linux_lab *lab, char *program, char *rounds, char *pass)
{
	static char script[] = "export PATH=\"${1%/*}:$PATH\" " LINUX_LAB_KERNEL "=\"$2\"\n"
			       "shift 2\n"
			       "\"$@\" --json /tmp/result >/dev/null && cat /tmp/result";
	static char sh[] = "sh", c[] = "-c", stasis[] = "--stasis", only[] = "--only",
		    many[] = "--rounds", which[] = "--pass";
	size_t n = 0;

	words[n++] = sh;
	words[n++] = c;
	words[n++] = script;
	words[n++] = sh;
	words[n++] = (char *)lab->peer;
	words[n++] = (char *)lab->kernel;
	words[n++] = program;
	words[n++] = stasis;
	words[n++] = (char *)lab->product;
	if (b->options.only) {
		words[n++] = only;
		words[n++] = (char *)b->options.only;
	}
	if (b->options.rounds) {
		words[n++] = many;
		words[n++] = rounds;
	}
	if (b->options.pass) {
		words[n++] = which;
		words[n++] = pass;
	}
	words[n] = NULL;
}

int linux_lab_measure(struct bench *b, const struct linux_lab *lab, struct error *err)
{
	CLEANUP_FREE char *program = text_format("%s/bench-linux", b->folder);
	CLEANUP_FREE char *rounds = text_format("%u", b->options.rounds);
	CLEANUP_FREE char *pass = text_format("%u/%u", b->options.pass, b->options.passes);
	CLEANUP_FREE char *out = NULL;
	struct kernel_choice kernel = {0};
	struct lab_machine machine = {.kind = arch_kind_own()};
	struct luggage luggage = {.n = 0};
	char *words[WORDS_MAX];
	int r = lab_qemu_check(machine.kind, err);

	if (r == 0)
		r = kernel_for_lab(machine.kind, &kernel, err);
	if (r == 0) {
		pack_all(&luggage, b, lab);
		if (luggage.failed == -E2BIG)
			r = error_contention(err,
					     "%s has firmware in too many folders: no more than "
					     "%d files are taken into the lab",
					     lab->peer, INCLUDES_MAX);
		else if (luggage.failed || !program || !rounds || !pass)
			r = error_set_shortage(err, -ENOMEM, "running in the lab");
	}
	if (r == 0) {
		build_command(words, b, lab, program, rounds, pass);
		machine.kernel = kernel.path;
		machine.modules = kernel.modules;
		machine.vcpus = 1;
		machine.command = words;
		machine.includes = luggage.include;
		machine.include_count = luggage.n;
		fprintf(stderr, "linux: starts a lab, as this host's KVM boots no Linux\n");
		r = run_inside(&machine, lab->limit_ns, &out, err);
	}
	if (r == 0)
		r = add_rows(b, lab, out ?: "", err);
	unpack(&luggage);
	kernel_choice_done(&kernel);
	return r;
}
