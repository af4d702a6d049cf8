/* The lab's frames, and its agent with this program in the place of the inner stasis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "vm/lab/frame.h"
#include "vm/lab/lab.h"
#include "vm/lab/paths.h"

#define HASH "0123456789abcdef0123456789abcdef"

/* ---- frames ------------------------------------------------------------------------------------
 */

static void make_pair(struct lab_conn *a, struct lab_conn *b)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(lab_conn_init(a, fd[0], fd[0]), 0);
	assert_int_equal(lab_conn_init(b, fd[1], fd[1]), 0);
}

static void test_every_split_is_the_same(void **state UNUSED)
{
	static uint8_t payload[300];
	struct lab_conn a, b;
	struct lab_frame f;

	make_pair(&a, &b);
	for (size_t len = 0; len < sizeof(payload); len += 97) {
		memset(payload, (int)len, sizeof(payload));
		assert_int_equal(lab_conn_send(&a, 7, LAB_DATA, 2, payload, len), 0);
		/* Byte by byte: whole only at the last. */
		for (size_t at = 0; at < a.out.len; at++) {
			assert_int_equal(lab_conn_next(&b, &f), 0);
			assert_int_equal(write(a.out_fd, a.out.data + a.out.at + at, 1), 1);
			assert_int_equal(lab_conn_read(&b), 0);
		}
		a.out.at = a.out.len = 0;
		assert_int_equal(lab_conn_next(&b, &f), 1);
		assert_int_equal(f.session, 7);
		assert_int_equal(f.type, LAB_DATA);
		assert_int_equal(f.channel, 2);
		assert_int_equal(f.len, len);
		assert_memory_equal(f.payload, payload, len);
	}
	lab_conn_done(&a);
	assert_int_equal(lab_conn_read(&b), -ECONNRESET);
	lab_conn_done(&b);
}

static void test_largest_frames_through_a_full_socket(void **state UNUSED)
{
	static uint8_t payload[LAB_PAYLOAD];
	enum { FRAMES = 64 };
	struct lab_conn a, b;
	unsigned seen = 0;

	make_pair(&a, &b);
	for (unsigned i = 0; i < FRAMES; i++) {
		memset(payload, (int)i, sizeof(payload));
		assert_int_equal(lab_conn_send(&a, i, LAB_DATA, 1, payload, sizeof(payload)), 0);
	}
	while (seen < FRAMES) {
		struct lab_frame f;

		assert_int_equal(lab_conn_flush(&a), 0);
		assert_int_equal(lab_conn_read(&b), 0);
		while (lab_conn_next(&b, &f) == 1) {
			assert_int_equal(f.session, seen);
			assert_int_equal(f.len, LAB_PAYLOAD);
			assert_int_equal(f.payload[0], (uint8_t)seen);
			assert_int_equal(f.payload[LAB_PAYLOAD - 1], (uint8_t)seen);
			seen++;
		}
	}
	assert_int_equal(a.out.len, 0);
	lab_conn_done(&a);
	lab_conn_done(&b);
}

static void test_hostile_headers(void **state UNUSED)
{
	static const uint8_t bad[][12] = {
		{1, 0, 1, 0, 0, 0, 0, 0, LAB_DATA}, /* longer than a payload */
		{255, 255, 255, 255, 0, 0, 0, 0, LAB_DATA},
		{0, 0, 0, 0, 0, 0, 0, 0, 0}, /* no type */
		{0, 0, 0, 0, 0, 0, 0, 0, LAB_TYPES},
		{0, 0, 0, 0, 0, 0, 0, 0, 255},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct lab_conn a, b;
		struct lab_frame f;

		make_pair(&a, &b);
		assert_int_equal(write(a.out_fd, bad[i], sizeof(bad[i])), sizeof(bad[i]));
		assert_int_equal(lab_conn_read(&b), 0);
		assert_int_equal(lab_conn_next(&b, &f), -EPROTO);
		lab_conn_done(&a);
		lab_conn_done(&b);
	}
}

/* ---- the agent
 * ----------------------------------------------------------------------------------- */

struct rig {
	struct lab_conn conn;
	pid_t pid;
	uint8_t got[3][1 << 16]; /* by channel, what came; longer streams are only counted */
	size_t got_len[3], in_flight;
	uint8_t output[256];
	size_t output_len;
	int status;
	bool ended, failed, have;
};

static void begin(struct rig *r)
{
	int fd[2];

	*r = (struct rig){.status = -1};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	r->pid = fork();
	if (r->pid == 0) {
		dup2(fd[1], 0);
		dup2(fd[1], 1);
		close(fd[0]);
		close(fd[1]);
		_exit(lab_agent());
	}
	close(fd[1]);
	assert_int_equal(lab_conn_init(&r->conn, fd[0], fd[0]), 0);
}

/* Hangs up; the agent ends cleanly whatever it was told. */
static void end(struct rig *r)
{
	int status;

	lab_conn_done(&r->conn);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	assert_true(WIFEXITED(status));
}

static void take(struct rig *r, const struct lab_frame *f)
{
	switch (f->type) {
	case LAB_DATA:
		if (f->channel >= 3) {
			assert_true(r->output_len + f->len <= sizeof(r->output));
			memcpy(r->output + r->output_len, f->payload, f->len);
			r->output_len += f->len;
			break;
		}
		if (r->got_len[f->channel] + f->len <= sizeof(r->got[0]))
			memcpy(r->got[f->channel] + r->got_len[f->channel], f->payload, f->len);
		r->got_len[f->channel] += f->len;
		r->in_flight += f->len;
		assert_true(r->in_flight <= LAB_WINDOW);
		break;
	case LAB_HAVE:
		r->have = f->payload[0];
		r->ended = true; /* of this question */
		break;
	case LAB_EXIT:
		memcpy(&r->status, f->payload, sizeof(r->status));
		r->ended = true;
		break;
	case LAB_ERROR:
		r->failed = r->ended = true;
		break;
	}
}

/* Until the session ends; gives credit for output as it comes, if it is to. Else until the window
 * is full, and nothing comes for a while. */
static void run(struct rig *r, bool credit)
{
	uint64_t limit = now_ns() + 20000000000u;

	while (!r->ended && now_ns() < limit) {
		bool is_full = !credit && r->in_flight >= LAB_WINDOW;
		struct pollfd fd = {.fd = r->conn.in_fd, .events = POLLIN};
		struct lab_frame f;
		int n;

		assert_int_equal(lab_conn_flush(&r->conn), 0);
		if (poll(&fd, 1, is_full ? 300 : 1000) == 0) {
			if (is_full)
				return;
			continue;
		}
		n = lab_conn_read(&r->conn);
		assert_true(n == 0 || n == -EAGAIN);
		while (!r->ended && lab_conn_next(&r->conn, &f) == 1)
			take(r, &f);
		if (credit && r->in_flight > 0) {
			assert_int_equal(lab_conn_send_u32(&r->conn, 1, LAB_CREDIT, 1,
							   (uint32_t)r->in_flight),
					 0);
			r->in_flight = 0;
		}
	}
	assert_true(r->ended || !credit);
}

static void send_text(struct rig *r, enum lab_type type, const char *text)
{
	assert_int_equal(lab_conn_send(&r->conn, 1, type, 0, text, strlen(text)), 0);
}

static void test_streams_status_and_outputs(void **state UNUSED)
{
	static struct rig r;

	begin(&r);
	send_text(&r, LAB_OPEN, "{\"argv\": [\"inner\", \"echo\"], \"outputs\": [\"report\"]}");
	send_text(&r, LAB_DATA, "hello");
	assert_int_equal(lab_conn_send(&r.conn, 1, LAB_EOF, 0, NULL, 0), 0);
	run(&r, true);
	assert_int_equal(r.status, 7);
	assert_int_equal(r.got_len[1], 5);
	assert_memory_equal(r.got[1], "hello", 5);
	assert_int_equal(r.got_len[2], 4);
	assert_memory_equal(r.got[2], "err\n", 4);
	assert_int_equal(r.output_len, 6);
	assert_memory_equal(r.output, "report", 6);
	end(&r);
}

/* Output stops at the window, and all of it comes when credit does. */
static void test_credit_bounds_output(void **state UNUSED)
{
	static struct rig r;

	begin(&r);
	send_text(&r, LAB_OPEN, "{\"argv\": [\"inner\", \"flood\"], \"outputs\": []}");
	run(&r, false);
	assert_int_equal(r.in_flight, LAB_WINDOW);
	assert_int_equal(lab_conn_send_u32(&r.conn, 1, LAB_CREDIT, 1, LAB_WINDOW), 0);
	r.in_flight = 0;
	run(&r, true);
	assert_int_equal(r.status, 0);
	assert_int_equal(r.got_len[1], 4 << 20);
	end(&r);
}

static void test_signal_and_hang_up(void **state UNUSED)
{
	static struct rig r;

	begin(&r);
	send_text(&r, LAB_OPEN, "{\"argv\": [\"inner\", \"sleep\"], \"outputs\": []}");
	assert_int_equal(lab_conn_send_u32(&r.conn, 1, LAB_SIGNAL, 0, SIGTERM), 0);
	run(&r, true);
	assert_int_equal(r.status, 128 + SIGTERM);
	end(&r);
}

static void test_files_by_hash(void **state UNUSED)
{
	static struct rig r;

	begin(&r);
	send_text(&r, LAB_ASK, HASH);
	run(&r, true);
	assert_false(r.have);
	send_text(&r, LAB_FILE, HASH "con");
	send_text(&r, LAB_FILE, HASH "tents");
	send_text(&r, LAB_FILE, HASH);
	r.ended = false;
	send_text(&r, LAB_ASK, HASH);
	run(&r, true);
	assert_true(r.have);
	end(&r);
	assert_int_equal(unlink(LAB_FILES "/" HASH), 0);
}

static void test_malformed_sessions(void **state UNUSED)
{
	static const struct {
		enum lab_type type;
		const char *text;
	} bad[] = {
		{LAB_OPEN, ""},
		{LAB_OPEN, "{}x"},
		{LAB_OPEN, "{\"argv\": [1], \"outputs\": []}"},
		{LAB_OPEN, "{\"argv\": [\"a\"], \"outputs\": [\"../x\"]}"},
		{LAB_OPEN, "{\"argv\": [\"a\"], \"outputs\": [\"a/b\"]}"},
		{LAB_ASK, "short"},
		{LAB_ASK, "../../../../etc/passwd0123456789"},
		{LAB_FILE, "../../../../etc/passwd0123456789x"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		static struct rig r;

		begin(&r);
		send_text(&r, bad[i].type, bad[i].text);
		run(&r, true);
		assert_true(r.failed);
		end(&r);
	}
}

/* Any frames in any order: the agent goes on, or ends by itself; it never dies of a signal. */
static void test_random_frames(void **state UNUSED)
{
	srandom(1);
	for (unsigned round = 0; round < 30; round++) {
		static struct rig r;

		begin(&r);
		for (unsigned i = 0; i < 200; i++) {
			uint8_t payload[64];
			size_t len = (size_t)random() % sizeof(payload);

			for (size_t at = 0; at < len; at++)
				payload[at] = (uint8_t)random();
			/* No LAB_OPEN: it would have to be JSON to say anything. */
			enum lab_type type = 1 + (enum lab_type)(random() % (LAB_TYPES - 1));

			assert_int_equal(lab_conn_send(&r.conn, (uint32_t)random() % 4,
						       type == LAB_OPEN ? LAB_EOF : type,
						       (uint8_t)(random() % 5), payload, len),
					 0);
		}
		(void)!lab_conn_flush(&r.conn);
		end(&r);
	}
}

/* The inner program: what an agent's session runs. */
static int inner(const char *what)
{
	static char block[1 << 16];
	ssize_t n;

	if (!strcmp(what, "sleep"))
		return pause();
	if (!strcmp(what, "flood")) {
		for (unsigned i = 0; i < (4u << 20) / sizeof(block); i++)
			if (fd_write_all(1, block, sizeof(block)) < 0)
				return 1;
		return 0;
	}
	while ((n = read(0, block, sizeof(block))) > 0)
		if (fd_write_all(1, block, (size_t)n) < 0)
			return 1;
	if (fd_write_all(2, "err\n", 4) < 0)
		return 1;
	FILE *report = fopen("report", "w");

	if (!report || fputs("report", report) < 0 || fclose(report) < 0)
		return 1;
	return 7;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_split_is_the_same),
		cmocka_unit_test(test_largest_frames_through_a_full_socket),
		cmocka_unit_test(test_hostile_headers),
		cmocka_unit_test(test_streams_status_and_outputs),
		cmocka_unit_test(test_credit_bounds_output),
		cmocka_unit_test(test_signal_and_hang_up),
		cmocka_unit_test(test_files_by_hash),
		cmocka_unit_test(test_malformed_sessions),
		cmocka_unit_test(test_random_frames),
	};

	if (argc == 3 && !strcmp(argv[1], "inner"))
		return inner(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	if (dir_make(LAB_FILES, 0700) < 0 || access(LAB_FILES, W_OK) < 0) {
		printf("skipped: %s can't be written by this user\n", LAB_FILES);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
