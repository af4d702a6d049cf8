/* control: lines whole whatever the pieces, hostile lengths, a host that takes nothing or goes. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/init/control.h"

static struct control control;
static int host;
static char heard_text[8192];

static int set_up(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	control_init(&control, ends[0]);
	host = ends[1];
	heard_text[0] = '\0';
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(control.fd);
	if (host >= 0)
		close(host);
	return 0;
}

static void heard(void *arg, char *line)
{
	size_t len = strlen(heard_text);

	(void)arg;
	(void)snprintf(heard_text + len, sizeof(heard_text) - len, "[%s]", line);
}

static void test_lines_in_pieces(void **state)
{
	static const char text[] = "signal 15\n\nwinsize 24 80\nby";

	(void)state;
	for (const char *c = text; *c; c++) {
		assert_int_equal(write(host, c, 1), 1);
		control_read(&control, heard, NULL);
	}
	assert_string_equal(heard_text, "[signal 15][][winsize 24 80]");
	assert_int_equal(write(host, "e\n", 2), 2);
	control_read(&control, heard, NULL);
	assert_string_equal(heard_text, "[signal 15][][winsize 24 80][bye]");
	assert_false(control.gone);
}

static void test_overlong_is_dropped(void **state)
{
	char data[3 * SESSION_LINE_MAX];

	(void)state;
	memset(data, 'x', sizeof(data));
	assert_int_equal(write(host, data, sizeof(data)), sizeof(data));
	assert_int_equal(write(host, "\nbye\n", 5), 5);
	control_read(&control, heard, NULL);
	assert_string_equal(heard_text, "[bye]");
}

static void test_sent_lines_are_bounded(void **state)
{
	char text[2 * SESSION_LINE_MAX + 1], got[4 * SESSION_LINE_MAX];

	(void)state;
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	text[3] = '\n';
	control_send(&control, "failed 126 %s", text);
	assert_int_equal(read(host, got, sizeof(got)), SESSION_LINE_MAX);
	assert_int_equal(got[SESSION_LINE_MAX - 1], '\n');
	assert_null(memchr(got, '\n', SESSION_LINE_MAX - 1));
}

/* The newest lines are lost; the others are whole and in order. */
static void test_host_takes_nothing(void **state)
{
	char got[65536], line[32];
	size_t len = 0, at = 0;
	int small = 1, sent = 0, lines = 0;

	(void)state;
	assert_int_equal(setsockopt(control.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	while (control.out_len + 32 < sizeof(control.out) && sent < 100000)
		control_send(&control, "line %d", sent++);
	assert_true(sent < 100000);
	for (int i = 0; i < 50; i++)
		control_send(&control, "line %d", sent++);
	assert_int_equal(fcntl(host, F_SETFL, O_NONBLOCK), 0);
	for (;;) {
		ssize_t n = read(host, got + len, sizeof(got) - len);

		if (n <= 0)
			break;
		len += (size_t)n;
		control_flush(&control);
	}
	while (at < len) {
		int n = snprintf(line, sizeof(line), "line %d\n", lines++);

		assert_true((size_t)n <= len - at);
		assert_memory_equal(got + at, line, n);
		at += (size_t)n;
	}
	assert_true(lines > 0 && lines < sent);
	assert_int_equal(control.out_len, 0);
}

static void test_host_goes(void **state)
{
	(void)state;
	close(host);
	host = -1;
	control_read(&control, heard, NULL);
	assert_true(control.gone);
	control_send(&control, "exited 0");
	control_flush(&control);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines_in_pieces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_overlong_is_dropped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sent_lines_are_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_host_takes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_host_goes, set_up, tear_down),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
