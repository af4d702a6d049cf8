/* The blocking client against servers that answer, refuse, babble, fall silent and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "vm/qmp/client.h"
#include "vm/qmp/socket.h"

#define LIMIT_NS 5000000000u
#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n"
#define OK	 "{\"return\":{}}\r\n"

static char base[] = "/tmp/stasis-test-XXXXXX";
static char path[64];

struct peer {
	struct qmp_socket socket;
	pid_t pid;
};

/* Accepts one client, says its piece, and then waits for the client to go, or goes itself. */
static void peer_start(struct peer *p, const char *text, bool goes)
{
	struct error err = {0};

	assert_int_equal(qmp_socket_listen(path, &p->socket, &err), 0);
	p->pid = fork();
	if (p->pid == 0) {
		int fd = accept(p->socket.fd, NULL, NULL);
		char buf[256];

		alarm(20);
		if (fd_write_all(fd, text, strlen(text)) < 0)
			_exit(1);
		while (!goes && read(fd, buf, sizeof(buf)) > 0)
			;
		_exit(0);
	}
	assert_true(p->pid > 0);
}

static void peer_end(struct peer *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	qmp_socket_done(&p->socket);
}

static void test_answers(void **state UNUSED)
{
	struct qmp_client c;
	struct error err = {0};
	json_t *ret = NULL;
	struct peer p;

	peer_start(&p,
		   GREETING "{\"event\":\"STOP\"}" OK "{\"event\":\"RESUME\"}"
			    "{\"return\":{\"n\":7}}{\"error\":{\"class\":\"GenericError\","
			    "\"desc\":\"so not\"}}" OK,
		   false);
	assert_int_equal(qmp_client_open(path, LIMIT_NS, &c, &err), 0);
	assert_int_equal(qmp_client_execute(&c, "one", json_pack("{s:i}", "x", 1), &ret, &err), 0);
	assert_int_equal(json_integer_value(json_object_get(ret, "n")), 7);
	json_decref(ret);
	assert_true(qmp_client_execute(&c, "two", NULL, &ret, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_string_equal(err.what, "so not");
	err = (struct error){0};
	assert_int_equal(qmp_client_execute(&c, "three", NULL, NULL, &err), 0);
	qmp_client_close(&c);
	peer_end(&p);
}

static void test_nobody(void **state UNUSED)
{
	struct qmp_socket socket;
	struct qmp_client c;
	struct error err = {0};

	assert_int_equal(qmp_client_open(path, LIMIT_NS, &c, &err), -ENOENT);
	assert_int_equal(qmp_socket_listen(path, &socket, &err), 0);
	fd_close(&socket.fd);
	assert_int_equal(qmp_client_open(path, LIMIT_NS, &c, &err), -ECONNREFUSED);
	assert_int_equal(err.code, 0);
	qmp_socket_done(&socket);
}

static void test_bad_servers(void **state UNUSED)
{
	static const struct {
		const char *text;
		int code;
		bool goes;
	} cases[] = {
		{"", -ECONNRESET, true},
		{"hello\r\n", -EPROTO, false},
		{"@@@@\r\n", -EPROTO, false},
		{OK, -EPROTO, false},
		{GREETING, -ECONNRESET, true},
		{GREETING "{\"return\"", -ECONNRESET, true},
		{GREETING "{\"return\":}", -EPROTO, false},
		{GREETING "{\"error\":1}", -EINVAL, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct qmp_client c;
		struct error err = {0};
		struct peer p;
		int r;

		peer_start(&p, cases[i].text, cases[i].goes);
		r = qmp_client_open(path, LIMIT_NS, &c, &err);
		/* Who is gone may be noticed at the sending, too. */
		assert_true(r == cases[i].code || (r == -EPIPE && cases[i].goes));
		assert_int_equal(err.code, r);
		peer_end(&p);
	}
}

static void test_silence_is_bounded(void **state UNUSED)
{
	uint64_t begin_ns = now_ns();
	struct qmp_client c;
	struct error err = {0};
	struct peer p;

	peer_start(&p, GREETING OK "{\"event\":\"X\"}", false);
	/* The greeting has to come within it, from a process that has just begun. */
	assert_int_equal(qmp_client_open(path, 1000000000, &c, &err), 0);
	assert_int_equal(qmp_client_execute(&c, "stop", NULL, NULL, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.what, "stop"));
	assert_true(now_ns() - begin_ns < LIMIT_NS);
	qmp_client_close(&c);
	peer_end(&p);
}

static int make_base(void **state UNUSED)
{
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(base))
		return -1;
	snprintf(path, sizeof(path), "%s/qmp", base);
	return 0;
}

static int remove_base(void **state UNUSED)
{
	return rmdir(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_bad_servers),
		cmocka_unit_test(test_silence_is_bounded),
	};

	return cmocka_run_group_tests(tests, make_base, remove_base);
}
