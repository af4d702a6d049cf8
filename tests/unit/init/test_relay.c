/* relay: every byte arrives, in order, whatever the chunks; ends and broken ends. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/init/relay.h"
#include "host.h"

struct ends {
	struct relay *r;
	int in, out; /* the far ends: written to, read from */
	int port;    /* the relay's own port end, which it doesn't close */
};

static void nonblock(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void make(struct ends *e, bool from_port)
{
	int pipe_fds[2], port_fds[2];

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, port_fds), 0);
	for (int i = 0; i < 2; i++) {
		nonblock(pipe_fds[i]);
		nonblock(port_fds[i]);
	}
	e->r = malloc(sizeof(*e->r));
	assert_non_null(e->r);
	e->port = port_fds[0];
	e->in = from_port ? port_fds[1] : pipe_fds[1];
	e->out = from_port ? pipe_fds[0] : port_fds[1];
	if (from_port)
		relay_init(e->r, port_fds[0], pipe_fds[1], true);
	else
		relay_init(e->r, pipe_fds[0], port_fds[0], false);
}

static void unmake(struct ends *e)
{
	relay_stop(e->r);
	assert_true(e->r->finished);
	if (e->in >= 0)
		close(e->in);
	if (e->out >= 0)
		close(e->out);
	close(e->port);
	free(e->r);
}

/* Polls and works once, as the loop does; whether poll had anything to say. */
static bool step(struct relay *r)
{
	struct pollfd fds[2];
	int n;

	relay_poll(r, &fds[0], &fds[1]);
	n = poll(fds, 2, 0);
	relay_work(r, fds[0].revents, fds[1].revents);
	return n > 0;
}

static void random_chunks(bool from_port, uint32_t seed)
{
	enum { TOTAL = 3 << 20 };
	uint8_t *want = malloc(TOTAL), *got = malloc(TOTAL);
	size_t sent = 0, received = 0;
	struct ends e;

	assert_non_null(want);
	assert_non_null(got);
	make(&e, from_port);
	for (size_t i = 0; i < TOTAL; i++)
		want[i] = (uint8_t)host_random(&seed);
	while (received < TOTAL) {
		size_t chunk = 1 + host_random(&seed) % (host_random(&seed) % 2 ? 90000 : 100);
		ssize_t n;

		if (e.in >= 0 && host_random(&seed) % 3) {
			n = write(e.in, want + sent, chunk < TOTAL - sent ? chunk : TOTAL - sent);
			if (n > 0)
				sent += (size_t)n;
			if (sent == TOTAL) {
				close(e.in);
				e.in = -1;
			}
		}
		if (host_random(&seed) % 3)
			step(e.r);
		if (host_random(&seed) % 3 == 0 || sent == TOTAL) {
			n = read(e.out, got + received,
				 chunk < TOTAL - received ? chunk : TOTAL - received);
			if (n > 0)
				received += (size_t)n;
		}
	}
	assert_memory_equal(want, got, TOTAL);
	while (!e.r->finished)
		step(e.r);
	assert_false(e.r->broken);
	if (from_port) /* end of file went through */
		assert_int_equal(read(e.out, got, 1), 0);
	unmake(&e);
	free(want);
	free(got);
}

static void test_bytes_are_kept(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		random_chunks(false, seed);
		random_chunks(true, seed + 100);
	}
}

/* With nothing to do, poll has nothing to say: the loop must not spin. */
static void test_idle_is_quiet(void **state)
{
	uint8_t data[4096] = {1};
	struct ends e;

	(void)state;
	make(&e, false);
	assert_false(step(e.r));
	/* The port is full and nobody reads it: */
	for (int i = 0; i < 1000; i++) {
		(void)!write(e.in, data, sizeof(data));
		step(e.r);
	}
	assert_false(step(e.r));
	assert_int_equal(e.r->len > 0, true);
	/* … also when the source has hung up meanwhile, as long as there is no room. */
	while (e.r->head + e.r->len < RELAY_BYTES && write(e.in, data, 1) == 1)
		step(e.r);
	close(e.in);
	e.in = -1;
	step(e.r);
	assert_false(step(e.r));
	unmake(&e);
}

static void test_reader_goes(void **state)
{
	struct ends e;

	(void)state;
	/* COMMAND closes its standard input: seen without a byte to write. */
	make(&e, true);
	close(e.out);
	e.out = -1;
	assert_true(step(e.r));
	assert_true(e.r->finished);
	assert_true(e.r->broken);
	unmake(&e);

	/* The host closes a port: the pipe's end is closed, so COMMAND gets SIGPIPE. */
	make(&e, false);
	assert_int_equal(write(e.in, "x", 1), 1);
	close(e.out);
	e.out = -1;
	step(e.r);
	step(e.r);
	assert_true(e.r->finished);
	assert_int_equal(write(e.in, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	unmake(&e);
}

static void test_stop_drops(void **state)
{
	struct ends e;

	(void)state;
	make(&e, false);
	assert_int_equal(write(e.in, "x", 1), 1);
	relay_stop(e.r);
	relay_stop(e.r);
	relay_drain(e.r);
	assert_false(step(e.r));
	assert_int_equal(write(e.in, "x", 1), -1);
	unmake(&e);
}

/* Drain takes what is there and no more, though the writer goes on. */
static void test_drain(void **state)
{
	char got[64];
	struct ends e;

	(void)state;
	make(&e, false);
	assert_int_equal(write(e.in, "before", 6), 6);
	relay_drain(e.r);
	assert_int_equal(write(e.in, "after", 5), 5);
	for (int i = 0; i < 4; i++)
		step(e.r);
	assert_true(e.r->finished);
	assert_int_equal(read(e.out, got, sizeof(got)), 6);
	assert_memory_equal(got, "before", 6);
	assert_int_equal(read(e.out, got, sizeof(got)), -1);
	unmake(&e);

	/* Nothing there: finished at once. */
	make(&e, false);
	relay_drain(e.r);
	assert_true(e.r->finished);
	unmake(&e);

	/* Held bytes are still delivered. */
	make(&e, false);
	assert_int_equal(write(e.in, "held", 4), 4);
	relay_work(e.r, POLLIN, 0);
	relay_drain(e.r);
	step(e.r);
	assert_true(e.r->finished);
	assert_int_equal(read(e.out, got, sizeof(got)), 4);
	unmake(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_are_kept), cmocka_unit_test(test_idle_is_quiet),
		cmocka_unit_test(test_reader_goes),    cmocka_unit_test(test_stop_drops),
		cmocka_unit_test(test_drain),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
