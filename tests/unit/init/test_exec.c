/* exec: one command over a socket pair in place of the vsock: streams, status, input, signals, a
 * terminal, a host that goes or talks nonsense. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/exec_protocol.h"
#include "guest/init/exec.h"

struct agent {
	int fd;
	pid_t pid;
};

/* What one command said. */
struct said {
	char out[1 << 16], errors[4096], failed[256];
	size_t out_len, errors_len, credit;
	uint8_t end; /* the last frame's type; 0: the connection broke */
	uint32_t status;
};

static struct agent start_agent(void)
{
	static const char *const env[] = {"PATH=/usr/bin:/bin", "HERE=yes", NULL};
	struct agent a;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	a.pid = fork();
	if (a.pid == 0) {
		close(pair[0]);
		exec_serve(pair[1], env);
		_exit(0);
	}
	close(pair[1]);
	a.fd = pair[0];
	return a;
}

static void send_frame(struct agent *a, uint8_t type, const void *payload, uint32_t len)
{
	struct exec_header h = {.type = type, .len = len};

	assert_int_equal(send(a->fd, &h, sizeof(h), MSG_NOSIGNAL), sizeof(h));
	if (len)
		assert_int_equal(send(a->fd, payload, len, MSG_NOSIGNAL), len);
}

/* A shell's script. */
static void start(struct agent *a, uint8_t flags, const char *script)
{
	char payload[1024] = {(char)flags, 0, 24, 0, 80, 0};
	int n = snprintf(payload + EXEC_START_BYTES, sizeof(payload) - EXEC_START_BYTES,
			 "sh%c-c%c%s", 0, 0, script);

	send_frame(a, EXEC_START, payload, EXEC_START_BYTES + (uint32_t)n + 1);
}

static bool hear_frame(struct agent *a, struct exec_header *h, uint8_t *payload)
{
	return recv(a->fd, h, sizeof(*h), MSG_WAITALL) == sizeof(*h) && h->len <= EXEC_PAYLOAD &&
	       (!h->len || recv(a->fd, payload, h->len, MSG_WAITALL) == (ssize_t)h->len);
}

static struct said *hear_all(struct agent *a)
{
	static uint8_t payload[EXEC_PAYLOAD];
	static struct said s;
	struct exec_header h;
	int status;

	memset(&s, 0, sizeof(s));
	while (!s.end && hear_frame(a, &h, payload)) {
		uint32_t number = 0;

		memcpy(&number, payload, h.len < 4 ? h.len : 4);
		if (h.type == EXEC_STDOUT && s.out_len + h.len < sizeof(s.out)) {
			memcpy(s.out + s.out_len, payload, h.len);
			s.out_len += h.len;
		} else if (h.type == EXEC_STDERR && s.errors_len + h.len < sizeof(s.errors)) {
			memcpy(s.errors + s.errors_len, payload, h.len);
			s.errors_len += h.len;
		} else if (h.type == EXEC_CREDIT) {
			s.credit += number;
		} else if (h.type == EXEC_EXITED || h.type == EXEC_SIGNALLED ||
			   h.type == EXEC_FAILED) {
			s.end = h.type;
			s.status = number;
		}
	}
	close(a->fd);
	assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
	assert_int_equal(status, 0);
	return &s;
}

static void streams_and_status_come_apart(void **state)
{
	struct agent a = start_agent();
	struct said *s;

	(void)state;
	start(&a, 0, "cat; echo out $HERE; echo err >&2; exit 9");
	s = hear_all(&a);
	assert_int_equal(s->end, EXEC_EXITED);
	assert_int_equal(s->status, 9);
	assert_string_equal(s->out, "out yes\n");
	assert_string_equal(s->errors, "err\n");
}

static void input_goes_in_and_is_acknowledged(void **state)
{
	struct agent a = start_agent();
	char data[5000];
	struct said *s;

	(void)state;
	memset(data, 'x', sizeof(data));
	start(&a, EXEC_HAS_STDIN, "cat");
	send_frame(&a, EXEC_STDIN, data, sizeof(data));
	send_frame(&a, EXEC_STDIN, NULL, 0);
	s = hear_all(&a);
	assert_int_equal(s->end, EXEC_EXITED);
	assert_int_equal(s->out_len, sizeof(data));
	assert_int_equal(s->credit, sizeof(data));
}

static void a_signal_passes_input_that_nobody_reads(void **state)
{
	struct agent a = start_agent();
	static char data[EXEC_WINDOW];
	uint32_t number = SIGTERM;
	struct said *s;

	(void)state;
	start(&a, EXEC_HAS_STDIN, "sleep 100");
	send_frame(&a, EXEC_STDIN, data, sizeof(data));
	send_frame(&a, EXEC_SIGNAL, &number, sizeof(number));
	s = hear_all(&a);
	assert_int_equal(s->end, EXEC_SIGNALLED);
	assert_int_equal(s->status, SIGTERM);
}

static void what_cannot_start_is_said(void **state)
{
	static const char missing[] = "\0\0\0\0\0\0no-such-command";
	struct agent a = start_agent();
	struct said *s;

	(void)state;
	send_frame(&a, EXEC_START, missing, sizeof(missing));
	s = hear_all(&a);
	assert_int_equal(s->end, EXEC_FAILED);
	assert_int_equal(s->status, 127);
}

static void a_terminal_is_one(void **state)
{
	struct agent a = start_agent();
	struct said *s;

	(void)state;
	start(&a, EXEC_HAS_STDIN | EXEC_HAS_TERMINAL, "test -t 0 && test -t 2 && stty size");
	s = hear_all(&a);
	assert_int_equal(s->end, EXEC_EXITED);
	assert_int_equal(s->status, 0);
	assert_string_equal(s->out, "24 80\r\n");
}

static void background_children_are_not_waited_for(void **state)
{
	struct agent a = start_agent();
	struct said *s;

	(void)state;
	start(&a, 0, "sleep 3 & echo done");
	s = hear_all(&a);
	assert_int_equal(s->end, EXEC_EXITED);
	assert_string_equal(s->out, "done\n");
}

static void a_host_that_goes_is_a_hang_up(void **state)
{
	struct agent a = start_agent();
	struct exec_header h;
	uint8_t payload[64];
	pid_t command;
	int status;

	(void)state;
	start(&a, 0, "echo $$; exec sleep 100");
	do
		assert_true(hear_frame(&a, &h, payload));
	while (h.type != EXEC_STDOUT);
	payload[h.len] = '\0';
	command = (pid_t)strtol((char *)payload, NULL, 10);
	close(a.fd);
	assert_int_equal(waitpid(a.pid, &status, 0), a.pid);
	for (unsigned i = 0; i < 2000 && kill(command, 0) == 0; i++)
		usleep(1000);
	/* Nobody of this test's reaps it: it may stay as a zombie, but has ended. */
	if (kill(command, 0) == 0) {
		char path[64], text[256] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/stat", (int)command);
		file = fopen(path, "r");
		assert_non_null(file);
		assert_non_null(fgets(text, sizeof(text), file));
		fclose(file);
		assert_non_null(strstr(text, ") Z "));
	}
}

static void nonsense_ends_it(void **state)
{
	static const struct {
		uint8_t type;
		uint32_t len, claimed;
	} bad[] = {{EXEC_START, 6, 6},	 {EXEC_START, 3, 3},	      {EXEC_STDIN, 1, 1},
		   {EXEC_START, 64, 64}, {EXEC_START, 0, UINT32_MAX}, {0, 0, 0}};
	char payload[64];

	(void)state;
	memset(payload, 'x', sizeof(payload));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct agent a = start_agent();
		struct exec_header h = {.type = bad[i].type, .len = bad[i].claimed};

		assert_int_equal(send(a.fd, &h, sizeof(h), MSG_NOSIGNAL), sizeof(h));
		(void)!send(a.fd, payload, bad[i].len, MSG_NOSIGNAL);
		assert_int_equal(hear_all(&a)->end, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_and_status_come_apart),
		cmocka_unit_test(input_goes_in_and_is_acknowledged),
		cmocka_unit_test(a_signal_passes_input_that_nobody_reads),
		cmocka_unit_test(what_cannot_start_is_said),
		cmocka_unit_test(a_terminal_is_one),
		cmocka_unit_test(background_children_are_not_waited_for),
		cmocka_unit_test(a_host_that_goes_is_a_hang_up),
		cmocka_unit_test(nonsense_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
