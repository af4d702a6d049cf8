/* The server on a real loop and real sockets: clients that vanish, that never read, that come in
 * crowds; and the files of its sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "machine_fake.h"
#include "vm/qmp/server.h"
#include "vm/qmp/socket.h"

#define MS	 1000000ull
#define PATIENCE (5000 * MS)

static char base[] = "/tmp/stasis-test-XXXXXX";

struct scene {
	struct loop *loop;
	struct machine_fake m;
	struct qmp_server *server;
	struct qmp_socket socket;
	char path[64];
};

static struct qmp_ops ops; /* the fake machine's, with events */
static struct qmp_server *event_server;

static int thaw_with_event(void *arg, struct error *err)
{
	qmp_server_event(event_server, "RESUME", NULL);
	return machine_fake_ops.thaw(arg, err);
}

static void open_scene(struct scene *s, uint64_t stall_ns)
{
	const struct qmp_server_config config = {&ops, &s->m, stall_ns};
	struct error err = {0};

	ops = machine_fake_ops;
	ops.thaw = thaw_with_event;
	machine_fake_init(&s->m);
	snprintf(s->path, sizeof(s->path), "%s/qmp", base);
	assert_int_equal(loop_new(&s->loop, &err), 0);
	assert_int_equal(qmp_socket_listen(s->path, &s->socket, &err), 0);
	assert_int_equal(qmp_server_new(s->loop, &config, &s->server, &err), 0);
	assert_int_equal(qmp_server_listen(s->server, s->socket.fd, &err), 0);
	event_server = s->server;
}

static void close_scene(struct scene *s)
{
	event_server = NULL;
	qmp_server_free(s->server, 200 * MS);
	qmp_socket_done(&s->socket);
	loop_free(s->loop);
}

static int dial(struct scene *s)
{
	struct error err = {0};
	int fd;

	assert_int_equal(qmp_socket_connect(s->path, PATIENCE, &fd, &err), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static void turn(struct scene *s)
{
	assert_true(loop_turn(s->loop, 2 * MS) >= 0);
}

/* Turns until want has come; what came is in buf. */
static bool hear(struct scene *s, int fd, const char *want, char *buf, size_t room)
{
	uint64_t end_ns = now_ns() + PATIENCE;
	size_t len = 0;

	buf[0] = 0;
	while (!strstr(buf, want) && now_ns() < end_ns) {
		ssize_t n = recv(fd, buf + len, room - 1 - len, 0);

		if (n == 0)
			return false;
		if (n > 0)
			len += (size_t)n;
		buf[len] = 0;
		turn(s);
	}
	return strstr(buf, want);
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static int dial_and_negotiate(struct scene *s)
{
	char buf[4096];
	int fd = dial(s);

	assert_true(hear(s, fd, "QMP", buf, sizeof(buf)));
	say(fd, "{\"execute\":\"qmp_capabilities\"}");
	assert_true(hear(s, fd, "return", buf, sizeof(buf)));
	return fd;
}

static void wait_clients(struct scene *s, unsigned n)
{
	uint64_t end_ns = now_ns() + PATIENCE;

	while (qmp_server_clients(s->server) != n && now_ns() < end_ns)
		turn(s);
	assert_int_equal(qmp_server_clients(s->server), n);
}

static void test_two_clients(void **state UNUSED)
{
	struct scene s;
	char buf[4096];
	int a, b, c;

	open_scene(&s, 0);
	a = dial_and_negotiate(&s);
	b = dial_and_negotiate(&s);
	c = dial(&s); /* not negotiated: gets no event */
	assert_true(hear(&s, c, "QMP", buf, sizeof(buf)));
	assert_int_equal(qmp_server_clients(s.server), 3);
	say(a, "{\"execute\":\"stop\",\"id\":1}");
	assert_true(hear(&s, a, "\"id\":1", buf, sizeof(buf)));
	say(b, "{\"execute\":\"cont\",\"id\":2}");
	assert_true(hear(&s, b, "\"id\":2", buf, sizeof(buf)));
	assert_non_null(strstr(buf, "RESUME"));
	assert_true(hear(&s, a, "RESUME", buf, sizeof(buf)));
	assert_true(recv(c, buf, sizeof(buf), 0) < 0 && errno == EAGAIN);
	close(a);
	wait_clients(&s, 2);
	say(b, "{\"execute\":\"query-name\"}");
	assert_true(hear(&s, b, "fake", buf, sizeof(buf)));
	close(b);
	close(c);
	wait_clients(&s, 0);
	close_scene(&s);
}

/* All at once, as through a pipe: every answer comes, then the end. */
static void test_a_client_that_ends_its_side(void **state UNUSED)
{
	struct scene s;
	char buf[4096];
	int fd;

	open_scene(&s, 0);
	fd = dial(&s);
	say(fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-name\",\"id\":9}");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_true(hear(&s, fd, "\"id\":9", buf, sizeof(buf)));
	wait_clients(&s, 0);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 0);
	close(fd);
	close_scene(&s);
}

/* Gone at every stage of a slow answer; the machine never notices. */
static void test_clients_that_vanish(void **state UNUSED)
{
	struct scene s;
	char buf[4096];
	int fd;

	open_scene(&s, 0);
	for (unsigned i = 0; i < 50; i++) {
		fd = dial(&s);
		for (unsigned n = i % 4; n > 0; n--)
			turn(&s);
		close(fd);
		turn(&s);
	}
	wait_clients(&s, 0);
	s.m.slow = true;
	fd = dial_and_negotiate(&s);
	say(fd, "{\"execute\":\"stop\"}{\"execute\":\"query-name\"}");
	for (int i = 0; i < 5; i++)
		turn(&s);
	assert_non_null(s.m.wait);
	close(fd);
	for (int i = 0; i < 5; i++)
		turn(&s);
	machine_fake_finish(&s.m, NULL);
	wait_clients(&s, 0);
	assert_int_equal(s.m.freezes, 1);
	/* In the midst of a long answer. */
	s.m.slow = false;
	s.m.cpus = 4000;
	fd = dial_and_negotiate(&s);
	say(fd, "{\"execute\":\"query-cpus-fast\"}");
	turn(&s);
	assert_true(recv(fd, buf, 100, 0) != 0);
	close(fd);
	wait_clients(&s, 0);
	close_scene(&s);
}

static void wait_begun(struct scene *s)
{
	uint64_t end_ns = now_ns() + PATIENCE;

	while (!s->m.wait && now_ns() < end_ns)
		turn(s);
	assert_non_null(s->m.wait);
}

/* What can end early ends with whom it is for; one that has only ended its side still listens. */
static void test_a_profile_ends_with_its_client(void **state UNUSED)
{
	const char *profile =
		"{\"execute\":\"x-stasis-profile\",\"arguments\":{\"duration-ns\":5}}";
	uint64_t end_ns = now_ns() + PATIENCE;
	struct scene s;
	char buf[4096];
	int fd;

	open_scene(&s, 0);
	s.m.slow = true;
	fd = dial_and_negotiate(&s);
	say(fd, profile);
	wait_begun(&s);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	for (int i = 0; i < 10; i++)
		turn(&s);
	assert_int_equal(s.m.cancels, 0);
	machine_fake_finish(&s.m, NULL);
	assert_true(hear(&s, fd, "\"profile\"", buf, sizeof(buf)));
	wait_clients(&s, 0);
	close(fd);

	fd = dial_and_negotiate(&s);
	say(fd, profile);
	say(fd, "{\"execute\":\"cont\"}"); /* still done */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	wait_begun(&s);
	for (int i = 0; i < 5; i++)
		turn(&s);
	assert_int_equal(s.m.cancels, 0);
	close(fd);
	while (s.m.cancels == 0 && now_ns() < end_ns)
		turn(&s);
	assert_int_equal(s.m.cancels, 1);
	assert_null(s.m.wait);
	wait_clients(&s, 0);
	fd = dial_and_negotiate(&s);
	say(fd, profile);
	wait_begun(&s);
	close(fd);
	while (s.m.cancels == 1 && now_ns() < end_ns)
		turn(&s);
	assert_int_equal(s.m.cancels, 2);
	wait_clients(&s, 0);
	assert_int_equal(s.m.thaws, 1);
	close_scene(&s);
}

static void test_an_answer_to_come_at_the_end(void **state UNUSED)
{
	struct scene s;
	int fd;

	open_scene(&s, 0);
	s.m.slow = true;
	fd = dial_and_negotiate(&s);
	say(fd, "{\"execute\":\"stop\"}");
	for (int i = 0; i < 5; i++)
		turn(&s);
	assert_non_null(s.m.wait);
	close_scene(&s);
	machine_fake_finish(&s.m, NULL); /* finds nobody, and frees what it held */
	close(fd);
}

/* Floods it with questions and reads no answer: first it is made to wait, then it is dropped, and
 * all the while another one is served. */
static void test_a_client_that_never_reads(void **state UNUSED)
{
	static const char question[] = "{\"execute\":\"query-cpus-fast\"}";
	uint64_t end_ns = now_ns() + PATIENCE;
	struct scene s;
	char buf[65536];
	int deaf, good;

	open_scene(&s, 300 * MS);
	s.m.cpus = 64;
	deaf = dial_and_negotiate(&s);
	good = dial_and_negotiate(&s);
	while (qmp_server_clients(s.server) == 2 && now_ns() < end_ns) {
		(void)!send(deaf, question, sizeof(question) - 1, MSG_NOSIGNAL);
		say(good, "{\"execute\":\"query-name\"}");
		assert_true(hear(&s, good, "fake", buf, sizeof(buf)));
	}
	assert_int_equal(qmp_server_clients(s.server), 1);
	close(deaf);
	close(good);
	close_scene(&s);
}

/* It asks for nothing, and events are all that it does not read. */
static void test_events_to_nobody(void **state UNUSED)
{
	struct scene s;
	int fd;

	open_scene(&s, 0);
	fd = dial_and_negotiate(&s);
	for (unsigned i = 0; i < 100000 && qmp_server_clients(s.server) > 0; i++) {
		qmp_server_event(s.server, "STOP", NULL);
		if (i % 1000 == 0)
			turn(&s);
	}
	wait_clients(&s, 0);
	close(fd);
	qmp_server_event(NULL, "STOP", json_object());
	qmp_server_event(s.server, "STOP", json_object());
	close_scene(&s);
}

/* Many commands in one piece, more answers than are kept unsent: a client that reads gets all. */
static void test_a_pipeline(void **state UNUSED)
{
	enum { N = 3000 };
	uint64_t end_ns = now_ns() + PATIENCE;
	char in[N * 40] = "", *at = in, buf[65536];
	unsigned answers = 0;
	struct scene s;
	size_t sent = 0;
	int fd;

	for (unsigned i = 0; i < N; i++)
		at += sprintf(at, "{\"execute\":\"query-kvm\"}");
	open_scene(&s, 0);
	fd = dial_and_negotiate(&s);
	while (answers < N && now_ns() < end_ns) {
		ssize_t n = sent < (size_t)(at - in)
				    ? send(fd, in + sent, (size_t)(at - in) - sent, MSG_NOSIGNAL)
				    : 0;

		if (n > 0)
			sent += (size_t)n;
		turn(&s);
		n = recv(fd, buf, sizeof(buf), 0);
		for (ssize_t i = 0; i < n; i++)
			answers += buf[i] == '\n';
	}
	assert_int_equal(answers, N);
	close(fd);
	close_scene(&s);
}

static void test_a_crowd_is_turned_away(void **state UNUSED)
{
	struct scene s;
	int fd[QMP_CLIENTS + 3];
	char buf[16];

	open_scene(&s, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = dial(&s);
		turn(&s);
		turn(&s);
	}
	wait_clients(&s, QMP_CLIENTS);
	for (unsigned i = 0; i < 10; i++)
		turn(&s);
	assert_int_equal(recv(fd[QMP_CLIENTS], buf, sizeof(buf), 0), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	wait_clients(&s, 0);
	close(dial_and_negotiate(&s));
	close_scene(&s);
}

/* ---- sockets' files ------------------------------------------------------------------------ */

static void test_the_file(void **state UNUSED)
{
	char path[64], deep[512];
	struct qmp_socket a, b = {.fd = -1, .dir_fd = -1};
	struct error err = {0};
	struct stat st;
	mode_t mask = umask(0);
	int fd;

	snprintf(path, sizeof(path), "%s/s", base);
	assert_int_equal(qmp_socket_connect(path, PATIENCE, &fd, &err), -ENOENT);
	assert_int_equal(qmp_socket_listen(path, &a, &err), 0);
	umask(mask);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);

	/* In use. */
	assert_int_equal(qmp_socket_listen(path, &b, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_int_equal(strncmp(err.what, path, strlen(path)), 0);

	/* Taken away beneath it: the new one is not the old one's to remove. */
	err = (struct error){0};
	assert_int_equal(unlink(path), 0);
	assert_int_equal(qmp_socket_listen(path, &b, &err), 0);
	qmp_socket_done(&a);
	assert_int_equal(qmp_socket_connect(path, PATIENCE, &fd, &err), 0);
	close(fd);

	/* Left over: replaced. */
	fd_close(&b.fd);
	assert_int_equal(qmp_socket_connect(path, PATIENCE, &fd, &err), -ECONNREFUSED);
	assert_int_equal(qmp_socket_listen(path, &a, &err), 0);
	b.ino = 0;
	qmp_socket_done(&b);
	assert_int_equal(qmp_socket_connect(path, PATIENCE, &fd, &err), 0);
	close(fd);
	qmp_socket_done(&a);
	assert_true(lstat(path, &st) < 0);

	/* No socket at all. */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(qmp_socket_listen(path, &b, &err), -EINVAL);
	assert_int_equal(unlink(path), 0);

	/* A path of more bytes than a socket's name has. */
	snprintf(deep, sizeof(deep), "%s", base);
	for (int i = 0; i < 3; i++) {
		snprintf(deep + strlen(deep), sizeof(deep) - strlen(deep), "/%070d", i);
		assert_int_equal(mkdir(deep, 0700), 0);
	}
	snprintf(deep + strlen(deep), sizeof(deep) - strlen(deep), "/qmp");
	err = (struct error){0};
	assert_int_equal(qmp_socket_listen(deep, &b, &err), 0);
	assert_int_equal(qmp_socket_connect(deep, PATIENCE, &fd, &err), 0);
	close(fd);
	qmp_socket_done(&b);
	for (int i = 0; i < 3; i++) {
		*strrchr(deep, '/') = 0;
		assert_int_equal(rmdir(deep), 0);
	}
	assert_int_equal(qmp_socket_listen("/nowhere/at/all", &b, &err), -EINVAL);
}

static int make_base(void **state UNUSED)
{
	struct error err = {0};
	struct loop *loop;

	if (loop_new(&loop, &err) < 0) {
		print_message("%s\n", err.what);
		exit(77);
	}
	loop_free(loop);
	return mkdtemp(base) ? 0 : -1;
}

static int remove_base(void **state UNUSED)
{
	return rmdir(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_clients),
		cmocka_unit_test(test_a_client_that_ends_its_side),
		cmocka_unit_test(test_clients_that_vanish),
		cmocka_unit_test(test_a_profile_ends_with_its_client),
		cmocka_unit_test(test_an_answer_to_come_at_the_end),
		cmocka_unit_test(test_a_client_that_never_reads),
		cmocka_unit_test(test_events_to_nobody),
		cmocka_unit_test(test_a_pipeline),
		cmocka_unit_test(test_a_crowd_is_turned_away),
		cmocka_unit_test(test_the_file),
	};

	return cmocka_run_group_tests(tests, make_base, remove_base);
}
