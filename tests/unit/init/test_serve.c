/* serve: whole sessions, with this test as the host and a child as init. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "host.h"

#define SH(text) ((const char *const[]){"sh", "-c", text, NULL})
#define NS_PER_S 1000000000u

static struct host h;
static char text[65536];

static void begin(const char *const *argv)
{
	host_start(&h, argv);
	assert_string_equal(host_line(&h), "hello 2");
	host_say(&h, "go");
	assert_string_equal(host_line(&h), "started");
}

static void end(const char *how)
{
	assert_string_equal(host_line(&h), how);
	assert_string_equal(host_line(&h), "done");
	assert_true(host_end(&h));
}

static const char *output(enum serve_stream stream)
{
	text[host_read(&h, stream, text, sizeof(text) - 1)] = '\0';
	return text;
}

static void test_streams_and_status(void **state)
{
	(void)state;
	begin(SH("echo out; echo err >&2; exit 7"));
	assert_string_equal(output(SERVE_STDOUT), "out\n");
	assert_string_equal(output(SERVE_STDERR), "err\n");
	end("exited 7");
}

static void test_stdin_ends(void **state)
{
	(void)state;
	begin(SH("cat; echo end"));
	assert_int_equal(write(h.port[SERVE_STDIN], "abc", 3), 3);
	shutdown(h.port[SERVE_STDIN], SHUT_WR);
	assert_string_equal(output(SERVE_STDOUT), "abcend\n");
	end("exited 0");
}

struct feeder {
	int fd;
	size_t total;
};

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 131 + (i >> 12) * 7 + (i >> 20));
}

static void *feed(void *arg)
{
	struct feeder *f = arg;
	uint8_t block[65536];

	for (size_t at = 0; at < f->total; at += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = byte_at(at + i);
		assert_int_equal(fd_write_all(f->fd, block, sizeof(block)), 0);
	}
	shutdown(f->fd, SHUT_WR);
	return NULL;
}

/* 100 MiB through cat: the same bytes, and at the speed of copies, not of polls. */
static void test_bulk(void **state)
{
	static uint8_t block[65536];
	struct feeder f = {.total = 100u << 20};
	uint64_t start_ns = now_ns();
	pthread_t thread;

	(void)state;
	begin(SH("exec cat"));
	f.fd = h.port[SERVE_STDIN];
	assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
	for (size_t at = 0; at < f.total; at += sizeof(block)) {
		assert_int_equal(host_read(&h, SERVE_STDOUT, block, sizeof(block)), sizeof(block));
		for (size_t i = 0; i < sizeof(block); i++)
			if (block[i] != byte_at(at + i))
				fail_msg("byte %zu differs", at + i);
	}
	pthread_join(thread, NULL);
	end("exited 0");
	/* Even with a sanitizer on a loaded machine; poll per byte or page would take minutes. */
	assert_true(now_ns() - start_ns < 30u * (uint64_t)NS_PER_S);
}

/* A reader that doesn't read stops its own stream only. */
static void test_streams_are_independent(void **state)
{
	(void)state;
	begin(SH("yes & yes=$!; echo first >&2; read line; echo $line >&2; kill $yes; exit 4"));
	assert_int_equal(host_read(&h, SERVE_STDERR, text, 6), 6);
	usleep(200000); /* stdout is full to the brim by now */
	assert_int_equal(write(h.port[SERVE_STDIN], "second\n", 7), 7);
	assert_int_equal(host_read(&h, SERVE_STDERR, text, 7), 7);
	assert_memory_equal(text, "second\n", 7);
	/* Nothing is lost, nothing is said before it is sent. */
	while (host_read(&h, SERVE_STDOUT, text, 4096) == 4096)
		assert_memory_equal(text, "y\ny\ny\ny\n", 8);
	end("exited 4");
}

static void test_signals(void **state)
{
	(void)state;
	begin(SH("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"));
	assert_int_equal(host_read(&h, SERVE_STDOUT, text, 6), 6);
	host_say(&h, "signal 0");
	host_say(&h, "signal 999");
	host_say(&h, "signal -9");
	host_say(&h, "signal");
	host_say(&h, "signal 15");
	assert_string_equal(output(SERVE_STDOUT), "got\n");
	end("exited 3");

	begin(SH("kill -9 $$"));
	end("signalled 9");

	/* The whole group gets it, not its leader alone. */
	begin(SH("(trap 'echo child; exit' INT; while :; do sleep 0.05; done) & echo r; wait"));
	assert_int_equal(host_read(&h, SERVE_STDOUT, text, 2), 2);
	host_say(&h, "signal 9");
	end("signalled 9");
}

/* A background child keeps the pipes open for a minute; the end doesn't wait for it. */
static void test_background_child(void **state)
{
	uint64_t start_ns = now_ns();

	(void)state;
	begin(SH("sleep 60 & echo x; exit 0"));
	assert_string_equal(output(SERVE_STDOUT), "x\n");
	end("exited 0");
	/* … nor for one that never stops writing. */
	begin(SH("yes & exit 5"));
	while (host_read(&h, SERVE_STDOUT, text, sizeof(text)) == sizeof(text))
		;
	end("exited 5");
	assert_true(now_ns() - start_ns < 20u * (uint64_t)NS_PER_S);
}

static void test_closed_stdout(void **state)
{
	(void)state;
	begin(SH("trap '' TERM; yes; kill -l $? >&2"));
	assert_int_equal(host_read(&h, SERVE_STDOUT, text, 64), 64);
	host_say(&h, "closed stdout");
	assert_string_equal(output(SERVE_STDERR), "PIPE\n");
	end("exited 0");

	/* The port's other end gone altogether does the same. */
	begin(SH("yes; kill -l $? >&2"));
	assert_int_equal(host_read(&h, SERVE_STDOUT, text, 64), 64);
	host_close(&h, SERVE_STDOUT);
	assert_string_equal(output(SERVE_STDERR), "PIPE\n");
	end("exited 0");
}

static void test_closed_stdin(void **state)
{
	(void)state;
	begin(SH("exec <&-; exec sleep 100"));
	assert_string_equal(host_any_line(&h), "closed stdin");
	host_say(&h, "signal 15");
	end("signalled 15");

	/* A host that goes on writing harms nobody. */
	begin(SH("exec head -c 3"));
	assert_int_equal(write(h.port[SERVE_STDIN], "abcdef", 6), 6);
	assert_string_equal(output(SERVE_STDOUT), "abc");
	end("exited 0");
}

static void test_cannot_start(void **state)
{
	(void)state;
	host_start(&h, (const char *const[]){"/nonexistent", NULL});
	assert_string_equal(host_line(&h), "hello 2");
	host_say(&h, "go");
	assert_string_equal(host_line(&h), "failed 127 /nonexistent: No such file or directory");
	assert_string_equal(host_line(&h), "done");
	assert_true(host_end(&h));
	host_start(&h, (const char *const[]){"/etc", NULL});
	assert_string_equal(host_line(&h), "hello 2");
	host_say(&h, "go");
	assert_string_equal(host_line(&h), "failed 126 /etc: Permission denied");
	assert_string_equal(host_line(&h), "done");
	assert_true(host_end(&h));
}

/* Orphans are reaped while COMMAND runs: no zombie is init's child in the end. */
static void test_orphans(void **state)
{
	(void)state;
	begin(SH("for i in 1 2 3 4 5 6 7 8; do (sh -c 'sleep 0.01 & exit' &); done; sleep 0.4; "
		 "ps -o stat= --ppid $PPID | grep -c Z; exit 0"));
	assert_string_equal(output(SERVE_STDOUT), "0\n");
	end("exited 0");
}

/* bye, or a host that is gone, ends the session whatever COMMAND does. */
static void test_host_ends_it(void **state)
{
	(void)state;
	begin(SH("exec sleep 100"));
	host_say(&h, "nonsense words");
	host_say(&h, "bye");
	assert_string_equal(host_line(&h), "done");
	assert_false(host_end(&h));

	begin(SH("exec sleep 100"));
	shutdown(h.control, SHUT_RDWR);
	assert_false(host_end(&h));
}

static bool says_something(int timeout_ms)
{
	struct pollfd fd = {.fd = h.control, .events = POLLIN};

	return poll(&fd, 1, timeout_ms) > 0;
}

/* The host may have to arm watches first, however long that takes. */
static void test_hello_waits_for_go(void **state)
{
	(void)state;
	host_start(&h, SH("echo out; exit 2"));
	assert_string_equal(host_line(&h), "hello 2");
	assert_false(says_something(300));
	/* What else may be said meanwhile is no go. */
	host_say(&h, "signal 15");
	host_say(&h, "winsize 24 80");
	host_say(&h, "gone");
	host_say(&h, "go on");
	host_say(&h, "");
	assert_false(says_something(300));
	host_say(&h, "go");
	assert_string_equal(host_line(&h), "started");
	/* A second one starts nothing. */
	host_say(&h, "go");
	assert_string_equal(output(SERVE_STDOUT), "out\n");
	end("exited 2");
}

static void test_bye_instead_of_go(void **state)
{
	(void)state;
	host_start(&h, SH("echo out"));
	assert_string_equal(host_line(&h), "hello 2");
	host_say(&h, "bye");
	assert_string_equal(host_line(&h), "done");
	assert_true(recv(h.port[SERVE_STDOUT], text, sizeof(text), MSG_DONTWAIT) <= 0);
	assert_true(host_end(&h));

	/* Both at once: the machine is wanted off. */
	host_start(&h, SH("echo out"));
	assert_string_equal(host_line(&h), "hello 2");
	host_say(&h, "go\nbye");
	assert_string_equal(host_line(&h), "done");
	assert_true(host_end(&h));

	/* A host that is gone wants nothing started either. */
	host_start(&h, SH("echo out"));
	assert_string_equal(host_line(&h), "hello 2");
	shutdown(h.control, SHUT_WR);
	assert_null(host_line(&h));
	assert_true(host_end(&h));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams_and_status),
		cmocka_unit_test(test_stdin_ends),
		cmocka_unit_test(test_bulk),
		cmocka_unit_test(test_streams_are_independent),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_background_child),
		cmocka_unit_test(test_closed_stdout),
		cmocka_unit_test(test_closed_stdin),
		cmocka_unit_test(test_cannot_start),
		cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_host_ends_it),
		cmocka_unit_test(test_hello_waits_for_go),
		cmocka_unit_test(test_bye_instead_of_go),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
