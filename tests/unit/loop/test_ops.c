/* Every operation once, its ends, and its cancellation at every point of its life. */
#include "helper.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MANY 3000

static int temporary_file(void)
{
	char path[] = "/tmp/stasis-test-loop-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void make_pair(int pair[2], int type)
{
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
}

static void make_pipe(int ends[2])
{
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
}

static void close_both(int fd[2])
{
	fd_close(&fd[0]);
	fd_close(&fd[1]);
}

static void files_are_read_and_written(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED;
	char buf[16] = {0}, a[3] = {0}, b[5] = {0};
	struct iovec in[] = {{a, 2}, {b, 4}};
	struct iovec out[] = {{(void *)"12", 2}, {(void *)"345", 3}};
	int fd = temporary_file();

	assert_int_equal(loop_write(loop, &n.op, fd, "hello", 5, 0), 0);
	assert_true(n.op.active);
	assert_int_equal(n.ends, 0);
	turn_until(loop, &n.ends, 1);
	assert_int_equal(n.res, 5);
	assert_false(n.op.active);

	assert_int_equal(loop_read(loop, &n.op, fd, buf, sizeof(buf), 1), 0);
	turn_until(loop, &n.ends, 2);
	assert_int_equal(n.res, 4);
	assert_string_equal(buf, "ello");

	assert_int_equal(loop_writev(loop, &n.op, fd, out, 2, 1), 0);
	turn_until(loop, &n.ends, 3);
	assert_int_equal(n.res, 5);
	assert_int_equal(loop_readv(loop, &n.op, fd, in, 2, 0), 0);
	turn_until(loop, &n.ends, 4);
	assert_int_equal(n.res, 6);
	assert_string_equal(a, "h1");
	assert_string_equal(b, "2345");

	/* The file's own position, which the calls above left alone. */
	memset(buf, 0, sizeof(buf));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(loop_read(loop, &n.op, fd, buf + 3 * i, 3, (uint64_t)-1), 0);
		turn_until(loop, &n.ends, 5 + i);
		assert_int_equal(n.res, 3);
	}
	assert_string_equal(buf, "h12345");
	assert_int_equal(loop_read(loop, &n.op, fd, buf, 3, (uint64_t)-1), 0);
	turn_until(loop, &n.ends, 7);
	assert_int_equal(n.res, 0);
	fd_close(&fd);
}

static void a_pipe_is_waited_for(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED;
	char buf[4] = {0};
	int ends[2];

	make_pipe(ends);
	assert_int_equal(loop_read(loop, &n.op, ends[0], buf, sizeof(buf), (uint64_t)-1), 0);
	assert_int_equal(loop_read(loop, &n.op, ends[0], buf, sizeof(buf), (uint64_t)-1), -EBUSY);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	assert_true(n.op.active);
	assert_int_equal(write(ends[1], "ab", 2), 2);
	turn_until(loop, &n.ends, 1);
	assert_int_equal(n.res, 2);
	assert_string_equal(buf, "ab");

	/* End of file. */
	assert_int_equal(loop_read(loop, &n.op, ends[0], buf, sizeof(buf), (uint64_t)-1), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	fd_close(&ends[1]);
	turn_until(loop, &n.ends, 2);
	assert_int_equal(n.res, 0);
	close_both(ends);
}

static void sockets_accept_send_and_receive(void **state)
{
	struct loop *loop = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct noted accepted = NOTED, sent = NOTED, received = NOTED;
	int listener, client, server;
	char buf[8] = {0};

	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "stasis-test-%d", (int)getpid());
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0 && client >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 4), 0);

	assert_int_equal(loop_accept(loop, &accepted.op, listener, SOCK_CLOEXEC | SOCK_NONBLOCK),
			 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
	turn_until(loop, &accepted.ends, 1);
	server = accepted.res;
	assert_true(server >= 0);
	assert_int_equal(fcntl(server, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);

	/* A receive waits by itself; a read or write of a non-blocking one would not. */
	assert_int_equal(loop_recv(loop, &received.op, client, buf, sizeof(buf), 0), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(loop_send(loop, &sent.op, server, "hello", 5, 0), 0);
	turn_until(loop, &received.ends, 1);
	turn_until(loop, &sent.ends, 1);
	assert_int_equal(sent.res, 5);
	assert_int_equal(received.res, 5);
	assert_string_equal(buf, "hello");

	/* Peers that have gone. */
	assert_int_equal(loop_recv(loop, &received.op, client, buf, sizeof(buf), 0), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	fd_close(&server);
	turn_until(loop, &received.ends, 2);
	assert_int_equal(received.res, 0);
	assert_int_equal(loop_send(loop, &sent.op, client, "x", 1, MSG_NOSIGNAL), 0);
	turn_until(loop, &sent.ends, 2);
	assert_int_equal(sent.res, -EPIPE);
	assert_int_equal(loop_write(loop, &sent.op, client, "x", 1, 0), 0);
	turn_until(loop, &sent.ends, 3);
	assert_int_equal(sent.res, -EPIPE);
	fd_close(&client);
	fd_close(&listener);
}

static void polls_tell_what_is_ready(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED;
	int pair[2], ends[2], file = temporary_file();

	make_pair(pair, SOCK_STREAM);
	assert_int_equal(loop_poll_fd(loop, &n.op, pair[0], POLLIN | POLLOUT), 0);
	turn_until(loop, &n.ends, 1);
	assert_int_equal(n.res, POLLOUT);

	assert_int_equal(loop_poll_fd(loop, &n.op, pair[0], POLLIN), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(send(pair[1], "x", 1, 0), 1);
	turn_until(loop, &n.ends, 2);
	assert_int_equal(n.res, POLLIN);

	fd_close(&pair[1]);
	assert_int_equal(loop_poll_fd(loop, &n.op, pair[0], POLLIN), 0);
	turn_until(loop, &n.ends, 3);
	assert_true(n.res & POLLHUP);

	/* A writer without a reader. */
	make_pipe(ends);
	fd_close(&ends[0]);
	assert_int_equal(loop_poll_fd(loop, &n.op, ends[1], POLLOUT), 0);
	turn_until(loop, &n.ends, 4);
	assert_true(n.res & POLLERR);

	assert_int_equal(loop_poll_fd(loop, &n.op, file, POLLIN), 0);
	turn_until(loop, &n.ends, 5);
	assert_int_equal(n.res, POLLIN);
	close_both(ends);
	close_both(pair);
	fd_close(&file);
}

static void failures_come_to_done(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED;
	int ends[2], pair[2];
	char c;

	assert_int_equal(loop_read(loop, &n.op, -1, &c, 1, 0), 0);
	turn_until(loop, &n.ends, 1);
	assert_int_equal(n.res, -EBADF);
	make_pair(pair, SOCK_STREAM);
	assert_int_equal(loop_recv(loop, &n.op, pair[0], &c, 1, MSG_DONTWAIT), 0);
	turn_until(loop, &n.ends, 2);
	assert_int_equal(n.res, -EAGAIN);
	make_pipe(ends);
	assert_int_equal(loop_accept(loop, &n.op, ends[0], 0), 0);
	turn_until(loop, &n.ends, 3);
	assert_int_equal(n.res, -ENOTSOCK);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(loop_read(loop, &n.op, ends[0], NULL, 1, (uint64_t)-1), 0);
	turn_until(loop, &n.ends, 4);
	assert_int_equal(n.res, -EFAULT);
	close_both(pair);
	close_both(ends);
}

static void waiting_operations_are_cancelled(void **state)
{
	struct loop *loop = *state;
	struct noted n[5] = {NOTED, NOTED, NOTED, NOTED, NOTED};
	int ends[2], pair[2], listener;
	struct iovec iov;
	char buf[4];

	make_pipe(ends);
	make_pair(pair, SOCK_STREAM);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, &(struct sockaddr){.sa_family = AF_UNIX},
			      sizeof(sa_family_t)),
			 0);
	assert_int_equal(listen(listener, 1), 0);
	iov = (struct iovec){buf, sizeof(buf)};

	/* Round 0: before the submission went to the kernel; round 1: while it waits there. */
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(loop_read(loop, &n[0].op, ends[0], buf, 4, (uint64_t)-1), 0);
		assert_int_equal(loop_readv(loop, &n[1].op, ends[0], &iov, 1, (uint64_t)-1), 0);
		assert_int_equal(loop_poll_fd(loop, &n[2].op, ends[0], POLLIN), 0);
		assert_int_equal(loop_accept(loop, &n[3].op, listener, 0), 0);
		assert_int_equal(loop_recv(loop, &n[4].op, pair[0], buf, 4, 0), 0);
		if (round)
			assert_int_equal(loop_turn(loop, 0), 0);
		for (unsigned i = 0; i < 5; i++) {
			loop_cancel(loop, &n[i].op);
			loop_cancel(loop, &n[i].op);
			assert_int_equal(n[i].ends, round);
			assert_true(n[i].op.active);
		}
		for (unsigned i = 0; i < 5; i++) {
			turn_until(loop, &n[i].ends, round + 1);
			assert_int_equal(n[i].res, -ECANCELED);
			assert_false(n[i].op.active);
		}
	}
	/* What is not active is left alone, then and later. */
	for (unsigned i = 0; i < 5; i++)
		loop_cancel(loop, &n[i].op);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(loop_read(loop, &n[0].op, ends[0], buf, 4, (uint64_t)-1), 0);
	turn_until(loop, &n[0].ends, 3);
	assert_int_equal(n[0].res, 1);
	for (unsigned i = 1; i < 5; i++)
		assert_int_equal(n[i].ends, 2);
	close_both(ends);
	close_both(pair);
	fd_close(&listener);
}

static void a_cancel_that_comes_late_changes_nothing(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED;
	char buf[4];
	int ends[2];

	make_pipe(ends);
	for (unsigned i = 1; i <= 200; i++) {
		assert_int_equal(loop_read(loop, &n.op, ends[0], buf, 4, (uint64_t)-1), 0);
		if (i % 2)
			assert_int_equal(loop_turn(loop, 0), 0);
		/* Complete in the kernel, not yet dispatched. */
		assert_int_equal(write(ends[1], "x", 1), 1);
		loop_cancel(loop, &n.op);
		turn_until(loop, &n.ends, i);
		if (n.res == -ECANCELED)
			assert_int_equal(read(ends[0], buf, 1), 1);
		else
			assert_int_equal(n.res, 1);
	}
	close_both(ends);
}

static void a_cancel_is_waited_for_within_its_limit(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED;
	int fds[2];
	char byte;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(loop_cancel_wait(loop, &n.op, 5 * S)); /* nothing is under way */
	assert_int_equal(loop_read(loop, &n.op, fds[0], &byte, 1, UINT64_MAX), 0);
	assert_true(loop_cancel_wait(loop, &n.op, 5 * S));
	assert_int_equal(n.ends, 1);
	assert_int_equal(n.res, -ECANCELED);

	assert_int_equal(loop_read(loop, &n.op, fds[0], &byte, 1, UINT64_MAX), 0);
	assert_false(loop_cancel_wait(loop, &n.op, 0)); /* no turn was made */
	assert_true(n.op.active);
	turn_until(loop, &n.ends, 2);
	close(fds[0]);
	close(fds[1]);
}

/* Reads, and at its end starts again and cancels the other. */
struct chaser {
	struct loop_op op;
	struct loop *loop;
	struct chaser *other;
	unsigned ends;
	unsigned wrong;
	bool inside;
	int fd;
	char buf[1];
};

static void chase(struct loop_op *op, int res)
{
	struct chaser *c = container_of(op, struct chaser, op);

	c->ends++;
	c->wrong +=
		c->inside || c->other->inside || c->op.active || (res != 1 && res != -ECANCELED);
	c->inside = true;
	if (c->ends < 500) {
		if (loop_read(c->loop, &c->op, c->fd, c->buf, 1, (uint64_t)-1) < 0)
			c->wrong++;
		loop_cancel(c->loop, &c->other->op);
		loop_cancel(c->loop, &c->op);
	}
	c->inside = false;
}

static void done_is_never_inside_a_submission(void **state)
{
	struct loop *loop = *state;
	struct chaser a = {.op.done = chase, .loop = loop}, b = a;
	int ends[2];

	make_pipe(ends);
	a.fd = b.fd = ends[0];
	a.other = &b;
	b.other = &a;
	assert_int_equal(loop_read(loop, &a.op, a.fd, a.buf, 1, (uint64_t)-1), 0);
	assert_int_equal(loop_read(loop, &b.op, b.fd, b.buf, 1, (uint64_t)-1), 0);
	assert_int_equal(write(ends[1], "xyz", 3), 3);
	turn_until(loop, &a.ends, 500);
	turn_until(loop, &b.ends, 500);
	assert_int_equal(a.wrong + b.wrong, 0);
	close_both(ends);
}

static void thousands_at_once(void **state)
{
	struct loop *loop = *state;
	struct noted *n = calloc(MANY, sizeof(*n));
	char *buf = calloc(MANY, 1);
	unsigned cancelled = 0, read_ones = 0;
	int ends[2];

	assert_true(n && buf);
	make_pipe(ends);
	for (unsigned i = 0; i < MANY; i++) {
		n[i].op.done = note_end;
		assert_int_equal(loop_read(loop, &n[i].op, ends[0], &buf[i], 1, (uint64_t)-1), 0);
	}
	for (unsigned i = 0; i < MANY / 2; i++)
		assert_int_equal(write(ends[1], "x", 1), 1);
	/* More completions than the queue has room for: all reads, and as many cancellations. */
	for (unsigned i = 0; i < MANY; i++)
		loop_cancel(loop, &n[i].op);
	for (unsigned i = 0; i < MANY; i++) {
		turn_until(loop, &n[i].ends, 1);
		cancelled += n[i].res == -ECANCELED;
		read_ones += n[i].res == 1 && buf[i] == 'x';
	}
	assert_int_equal(cancelled + read_ones, MANY);
	assert_true(read_ones <= MANY / 2);
	close_both(ends);
	free(buf);
	free(n);
}

static void thousands_complete(void **state)
{
	struct loop *loop = *state;
	struct noted *n = calloc(2 * MANY, sizeof(*n));
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	assert_true(n && null >= 0);
	/* Inline completions beyond the completion queue's 4096. */
	for (unsigned i = 0; i < 2 * MANY; i++) {
		n[i].op.done = note_end;
		assert_int_equal(loop_write(loop, &n[i].op, null, "x", 1, 0), 0);
	}
	/* Full submission queues were handed over on the way; no done() ran. */
	for (unsigned i = 0; i < 2 * MANY; i++)
		assert_int_equal(n[i].ends, 0);
	for (unsigned i = 0; i < 2 * MANY; i++) {
		turn_until(loop, &n[i].ends, 1);
		assert_int_equal(n[i].res, 1);
	}
	fd_close(&null);
	free(n);
}

struct reuser {
	struct loop_op op;
	struct loop *loop;
	int left;
	unsigned over;
};

static void use_again(struct loop_op *op, int res)
{
	struct reuser *r = container_of(op, struct reuser, op);

	(void)res;
	if (r->left-- > 0)
		(void)!loop_poll_fd(r->loop, &r->op, STDIN_FILENO, POLLOUT | POLLIN);
	else
		r->over = 1;
}

static void one_turn_does_not_chase_its_own_tail(void **state)
{
	struct loop *loop = *state;
	struct reuser r = {.op.done = use_again, .loop = loop, .left = 1000};
	int turns = 0;

	use_again(&r.op, 0);
	while (!r.over) {
		int n = loop_turn(loop, S);

		assert_in_range(n, 0, 1);
		turns++;
	}
	assert_true(turns >= 1000);
}

/* Frees itself. */
static void *freed;
static void free_self(struct loop_op *op, int res)
{
	(void)res;
	freed = op;
	free(op);
}

static void memory_is_the_submitters_at_done(void **state)
{
	struct loop *loop = *state;
	struct loop_op *op = calloc(1, sizeof(*op));
	int ends[2];

	assert_non_null(op);
	make_pipe(ends);
	op->done = free_self;
	assert_int_equal(loop_poll_fd(loop, op, ends[0], POLLIN), 0);
	loop_cancel(loop, op);
	while (!freed)
		assert_true(loop_turn(loop, S) >= 0);
	assert_ptr_equal(freed, op);
	close_both(ends);
}

/* done() turns the loop itself, as tear-down code may. */
struct turner {
	struct loop_op op;
	struct loop *loop;
	struct noted *awaited;
	unsigned ends;
};

static void turn_inside(struct loop_op *op, int res)
{
	struct turner *t = container_of(op, struct turner, op);

	(void)res;
	while (t->awaited && t->awaited->op.active)
		loop_turn(t->loop, S);
	t->ends++;
}

static void turns_nest(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED, after[10];
	struct turner t = {.op.done = turn_inside, .loop = loop, .awaited = &n};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), ends[2];
	char c;

	make_pipe(ends);
	assert_int_equal(loop_read(loop, &n.op, ends[0], &c, 1, (uint64_t)-1), 0);
	assert_int_equal(loop_write(loop, &t.op, null, "x", 1, 0), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(after); i++) {
		after[i] = (struct noted)NOTED;
		assert_int_equal(loop_write(loop, &after[i].op, null, "x", 1, 0), 0);
	}
	loop_cancel(loop, &n.op);
	turn_until(loop, &t.ends, 1);
	assert_int_equal(n.ends, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(after); i++)
		turn_until(loop, &after[i].ends, 1);
	close_both(ends);
	fd_close(&null);
}

static void freeing_ends_what_is_active(void **state)
{
	struct noted n[40];
	struct error err = {0};
	struct loop *loop;
	struct reuser again;
	char buf[ARRAY_SIZE(n)];
	int ends[2];

	(void)state;
	assert_int_equal(loop_new(&loop, &err), 0);
	make_pipe(ends);
	for (unsigned i = 0; i < ARRAY_SIZE(n); i++) {
		n[i] = (struct noted)NOTED;
		assert_int_equal(loop_read(loop, &n[i].op, ends[0], &buf[i], 1, (uint64_t)-1), 0);
		if (i == ARRAY_SIZE(n) / 2)
			assert_int_equal(loop_turn(loop, 0), 0);
	}
	/* Wants to go on for ever, and is refused. */
	again = (struct reuser){.op.done = use_again, .loop = loop, .left = 1 << 30};
	assert_int_equal(loop_poll_fd(loop, &again.op, ends[0], POLLIN), 0);
	loop_free(loop);
	for (unsigned i = 0; i < ARRAY_SIZE(n); i++) {
		assert_int_equal(n[i].ends, 1);
		assert_int_equal(n[i].res, -ECANCELED);
	}
	assert_int_equal(again.left, (1 << 30) - 1);
	assert_false(again.op.active);
	loop_free(NULL);
	close_both(ends);
}

static void stop_loop(struct loop_op *op, int res)
{
	(void)res;
	loop_stop(container_of(op, struct reuser, op)->loop);
}

static void a_run_lasts_until_it_is_stopped(void **state)
{
	struct loop *loop = *state;
	struct reuser r = {.op.done = stop_loop, .loop = loop};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(loop_write(loop, &r.op, null, "x", 1, 0), 0);
		assert_int_equal(loop_run(loop), 0);
		assert_false(r.op.active);
	}
	/* A stop that comes first is not lost. */
	loop_stop(loop);
	assert_int_equal(loop_run(loop), 0);
	fd_close(&null);
}

static void turns_keep_their_time(void **state)
{
	struct loop *loop = *state;
	uint64_t start = now_ns();

	assert_int_equal(loop_turn(loop, 0), 0);
	assert_true(now_ns() - start < S);
	start = now_ns();
	assert_int_equal(loop_turn(loop, 20 * MS), 0);
	assert_true(now_ns() - start >= 20 * MS);
	assert_true(now_ns() - start < 2 * S);
}

/* A thread of its own, which has made no io_uring and so no workers yet. */
static void *spin_ahead_of_all(void *arg)
{
	const struct sched_param ahead = {.sched_priority = 2};
	struct noted n = NOTED;
	struct error err = {0};
	struct loop *loop = NULL;
	cpu_set_t all, one, rest;
	uint64_t end_ns;
	int *ends = arg, cpu = 0, fd = temporary_file();

	if (sched_getaffinity(0, sizeof(all), &all) < 0 || CPU_COUNT(&all) < 2)
		goto out;
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	CPU_XOR(&rest, &all, &one);
	if (loop_new(&loop, &err) < 0 || sched_setaffinity(0, sizeof(one), &one) < 0 ||
	    sched_setscheduler(0, SCHED_FIFO, &ahead) < 0)
		goto out;
	*ends = 0;
	if (loop_set_worker_cpus(loop, &rest, sizeof(rest)) == 0 &&
	    loop_fdatasync(loop, &n.op, fd) == 0) {
		loop_set_spin(loop, UINT64_MAX);
		end_ns = now_ns() + 5000000000;
		while (n.ends < 1 && now_ns() < end_ns && loop_turn(loop, 1000000000) >= 0)
			;
		*ends = (int)n.ends;
	}
out:
	loop_free(loop);
	close(fd);
	return NULL;
}

/* A thread that spins ahead of all else, bound to a host CPU: what the kernel does for it there
 * would never be done. */
static void workers_run_elsewhere(void **state)
{
	pthread_t thread;
	int ends = -1;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, spin_ahead_of_all, &ends), 0);
	pthread_join(thread, NULL);
	if (ends < 0) {
		print_message("skipped: one CPU, or no real-time priority\n");
		skip();
	}
	assert_int_equal(ends, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(files_are_read_and_written),
		LOOP_TEST(workers_run_elsewhere),
		LOOP_TEST(a_pipe_is_waited_for),
		LOOP_TEST(sockets_accept_send_and_receive),
		LOOP_TEST(polls_tell_what_is_ready),
		LOOP_TEST(failures_come_to_done),
		LOOP_TEST(waiting_operations_are_cancelled),
		LOOP_TEST(a_cancel_that_comes_late_changes_nothing),
		LOOP_TEST(a_cancel_is_waited_for_within_its_limit),
		LOOP_TEST(done_is_never_inside_a_submission),
		LOOP_TEST(thousands_at_once),
		LOOP_TEST(thousands_complete),
		LOOP_TEST(one_turn_does_not_chase_its_own_tail),
		LOOP_TEST(memory_is_the_submitters_at_done),
		LOOP_TEST(turns_nest),
		cmocka_unit_test(freeing_ends_what_is_active),
		LOOP_TEST(a_run_lasts_until_it_is_stopped),
		LOOP_TEST(turns_keep_their_time),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
