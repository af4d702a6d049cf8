/* stasis top: what a running VM's exits cost, again and again. On a terminal in its place, until q;
 * elsewhere one block after another. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/find_vm.h"
#include "cli/options.h"
#include "cli/stats_table.h"
#include "vm/terminal.h"

#define NS_PER_MS      1000000
#define NS_PER_S       1000000000u
#define DELAY_LEAST_NS (100 * (uint64_t)NS_PER_MS)
#define DELAY_MOST_NS  (3600 * (uint64_t)NS_PER_S)
#define CTRL_C	       3
#define ROWS_UNKNOWN   24

/* ECMA-48: the other screen and back (private mode 1049), no cursor and one again (25); home, the
 * rest of each line, and of the screen, cleared. */
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_HOME  "\033[H"
#define LINE_CLEAR   "\033[K"
#define REST_CLEAR   "\033[J"

struct request {
	bool help;
	unsigned count; /* of updates; 0: until q, or the VM's end */
	uint64_t delay_ns;
};

static int set_count(void *target, const char *value, struct error *err)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || n == 0 || n > 1000000)
		return error_usage(err, "%s: a number from 1 to 1000000 is accepted", value);
	((struct request *)target)->count = (unsigned)n;
	return 0;
}

static int set_delay(void *target, const char *value, struct error *err)
{
	struct request *q = target;

	if (parse_duration(value, &q->delay_ns) < 0 || q->delay_ns < DELAY_LEAST_NS ||
	    q->delay_ns > DELAY_MOST_NS)
		return error_usage(err, "%s: a duration from 100ms to 3600s is accepted", value);
	return 0;
}

static const struct cli_option options[] = {
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	{"count", 'n', "N", set_count,
	 "end after N updates (default: at q, Ctrl-C or the VM's end)"},
	{"delay", 'd', "DURATION", set_delay, "between two updates (default: 1s)"},
};

/* ---- the screen ------------------------------------------------------------------------ */

struct screen {
	bool live; /* standard output is a terminal */
	struct terminal terminal;
};

static volatile sig_atomic_t ended;

static void on_end(int signo)
{
	ended = signo;
}

static void screen_open(struct screen *s)
{
	struct sigaction action = {.sa_handler = on_end}; /* no SA_RESTART: poll ends */

	*s = (struct screen){.live = isatty(STDOUT_FILENO)};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	if (!s->live)
		return;
	terminal_make_raw(&s->terminal, STDIN_FILENO);
	fputs(SCREEN_ENTER, stdout);
}

static void screen_close(struct screen *s)
{
	if (s->live)
		fputs(SCREEN_LEAVE, stdout);
	fflush(stdout);
	terminal_restore(&s->terminal);
}

/* Lines cut to the terminal's width: one that wrapped would push the head out. */
static void put_cut(const char *block, size_t cols)
{
	fputs(SCREEN_HOME, stdout);
	while (*block) {
		size_t len = strcspn(block, "\n");

		fwrite(block, 1, MIN(len, cols), stdout);
		fputs(LINE_CLEAR "\r\n", stdout);
		block += len + (block[len] == '\n');
	}
	fputs(REST_CLEAR, stdout);
}

static void show(const struct screen *s, const json_t *stats, const json_t *before)
{
	uint16_t cols = 80, rows = ROWS_UNKNOWN;
	size_t len = 0, head = stats_table_head(stats) + 1; /* the cursor's line */
	CLEANUP_FREE char *block = NULL;
	FILE *f;

	if (!s->live) {
		stats_table_print(stdout, stats, before, 0);
		putchar('\n');
	} else {
		terminal_size(STDOUT_FILENO, &cols, &rows);
		f = open_memstream(&block, &len);
		if (!f)
			return;
		stats_table_print(f, stats, before, rows > head ? rows - head : 1);
		if (fclose(f) == 0)
			put_cut(block, cols);
	}
	fflush(stdout);
}

/* Until deadline_ns; whether to go on. */
static bool pause_until(const struct screen *s, uint64_t deadline_ns)
{
	struct pollfd in = {.fd = s->terminal.raw ? STDIN_FILENO : -1, .events = POLLIN};
	uint64_t now;
	char key;

	while (!ended && !ferror(stdout) && (now = now_ns()) < deadline_ns) {
		if (poll(&in, 1, (int)((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS)) <= 0)
			continue;
		if (read(in.fd, &key, 1) != 1)
			in.fd = -1;
		else if (key == 'q' || key == 'Q' || key == CTRL_C)
			return false;
	}
	return !ended && !ferror(stdout);
}

/* ---- the command ----------------------------------------------------------------------- */

/* The VM's end is not a failure once it has been seen. */
static int watch(struct qmp_client *client, const struct request *q, struct error *err)
{
	json_t *before = NULL, *stats = NULL;
	struct screen screen;
	int r = qmp_client_execute(client, "x-stasis-query-stats", NULL, &stats, err);

	if (r < 0)
		return r;
	screen_open(&screen);
	for (unsigned i = 1;; i++) {
		uint64_t next_ns = now_ns() + q->delay_ns;

		show(&screen, stats, before);
		json_decref(before);
		before = stats;
		if ((q->count && i >= q->count) || !pause_until(&screen, next_ns) ||
		    qmp_client_execute(client, "x-stasis-query-stats", NULL, &stats, err) < 0)
			break;
	}
	json_decref(before);
	screen_close(&screen);
	return 0;
}

int command_top(int argc, char **argv)
{
	struct request q = {.delay_ns = NS_PER_S};
	struct qmp_client client;
	struct error err = {0};
	const char *name;
	int r;

	r = options_parse_words(options, ARRAY_SIZE(options), argc, argv, &q, &name, 1, &err);
	if (r >= 0 && q.help) {
		printf("usage: stasis top [OPTIONS] NAME\n\n"
		       "The first block is since the VM's start, each other since the one before; "
		       "WAITING and\nSERVED are since the start. q ends it.\n\n");
		options_print(options, ARRAY_SIZE(options));
		return 0;
	}
	if (r >= 0 && r != 1)
		r = error_usage(&err,
				"stasis top takes the name of one VM; stasis list shows them");
	if (r >= 0)
		r = find_vm_open(name, FIND_VM_LIMIT_NS, &client, &err);
	if (r < 0)
		return command_failed(&err);
	r = watch(&client, &q, &err);
	qmp_client_close(&client);
	return r < 0 ? command_failed(&err) : 0;
}
