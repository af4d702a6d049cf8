/* The host's side of the conversation with init: states, statuses, hostile lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/util.h"
#include "vm/session.h"

struct fixture {
	struct session session;
	unsigned changes;
	char sent[256];
	size_t sent_len;
};

static void on_change(struct session *s)
{
	((struct fixture *)s->arg)->changes++;
}

static void on_send(struct session *s, const char *line, size_t len)
{
	struct fixture *f = s->arg;

	assert_true(f->sent_len + len < sizeof(f->sent));
	memcpy(f->sent + f->sent_len, line, len);
	f->sent_len += len;
}

static void begin(struct fixture *f)
{
	*f = (struct fixture){0};
	session_init(&f->session);
	f->session.changed = on_change;
	f->session.send = on_send;
	f->session.arg = f;
}

static void hear(struct fixture *f, const char *text)
{
	session_input(&f->session, (const uint8_t *)text, strlen(text));
}

static void test_a_clean_run(void **state UNUSED)
{
	struct fixture f;

	begin(&f);
	hear(&f, "hello 1\n");
	assert_int_equal(f.session.state, SESSION_HELLO);
	hear(&f, "started\nexi");
	assert_int_equal(f.session.state, SESSION_STARTED);
	hear(&f, "ted 7\n");
	assert_int_equal(f.session.state, SESSION_ENDED);
	assert_int_equal(f.session.status, 7);
	assert_false(f.session.signalled);
	hear(&f, "done\n");
	assert_int_equal(f.session.state, SESSION_DONE);
	assert_int_equal(f.changes, 4);
}

static void test_every_split_is_the_same(void **state UNUSED)
{
	static const char text[] = "hello 1\nstarted\nsignalled 15\ndone\n";

	for (size_t cut = 0; cut < sizeof(text); cut++) {
		struct fixture f;

		begin(&f);
		session_input(&f.session, (const uint8_t *)text, cut);
		session_input(&f.session, (const uint8_t *)text + cut,
			      sizeof(text) - 1 - MIN(cut, sizeof(text) - 1));
		assert_int_equal(f.session.state, SESSION_DONE);
		assert_true(f.session.signalled);
		assert_int_equal(f.session.status, 15);
	}
}

static void test_failed_has_its_text(void **state UNUSED)
{
	struct fixture f;

	begin(&f);
	hear(&f, "hello 1\nfailed 127 nosuch: No such file or directory\n");
	assert_int_equal(f.session.state, SESSION_ENDED);
	assert_true(f.session.failed);
	assert_int_equal(f.session.status, 127);
	assert_string_equal(f.session.text, "nosuch: No such file or directory");
}

static void test_order_only_goes_forward(void **state UNUSED)
{
	struct fixture f;

	begin(&f);
	hear(&f, "done\nexited 3\n"); /* before hello: nothing to end */
	assert_int_equal(f.session.state, SESSION_WAITING);
	hear(&f, "hello 1\nexited 3\nexited 4\nsignalled 9\nhello 1\nstarted\n");
	assert_int_equal(f.session.state, SESSION_ENDED);
	assert_int_equal(f.session.status, 3);
	assert_false(f.session.signalled);
}

static void test_hostile_lines(void **state UNUSED)
{
	static const char *const bad[] =
		{"exited\n",	   "exited 256\n",	   "exited -1\n", "exited 1x\n",
		 "signalled 65\n", "exited 99999999999\n", "\n",	  " \n",
		 "exited  3\n"};
	struct fixture f;
	uint8_t long_line[SESSION_LINE_MAX * 3];

	begin(&f);
	hear(&f, "hello 1\n");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		hear(&f, bad[i]);
		assert_int_equal(f.session.state, SESSION_HELLO);
	}
	/* A line without end, then one of good length: the first is dropped whole. */
	memset(long_line, 'e', sizeof(long_line));
	session_input(&f.session, long_line, sizeof(long_line));
	hear(&f, "\nexited 5\n");
	assert_int_equal(f.session.status, 5);
}

static void test_orders(void **state UNUSED)
{
	struct fixture f;

	begin(&f);
	session_send_go(&f.session);
	session_send_signal(&f.session, 2);
	session_send_closed(&f.session, "stdout");
	session_send_size(&f.session, 24, 80);
	session_send_bye(&f.session);
	assert_string_equal(f.sent, "go\nsignal 2\nclosed stdout\nwinsize 24 80\nbye\n");
}

/* Into a fresh one; -EINVAL: refused, and it is as it was. */
static int move_to(struct session *to, const uint8_t *bytes, size_t len)
{
	struct state_io io;

	state_restore(&io, bytes, len);
	session_state(to, &io);
	return state_result(&io, NULL);
}

static void test_goes_on_from_a_snapshot(void **state UNUSED)
{
	static const char *const heard[] = {"", "hello 2\n", "hello 2\nstarted\nexit",
					    "hello 2\nfailed 127 no such thing\n",
					    "hello 2\nstarted\nsignalled 9\ndone\n"};

	for (size_t i = 0; i < ARRAY_SIZE(heard); i++) {
		struct fixture a, b;
		struct state_io io;

		begin(&a);
		begin(&b);
		hear(&a, heard[i]);
		state_save(&io);
		session_state(&a.session, &io);
		assert_int_equal(state_result(&io, NULL), 0);
		assert_int_equal(move_to(&b.session, io.bytes, io.len), 0);
		assert_int_equal(b.changes, 0);
		assert_int_equal(b.session.state, a.session.state);
		assert_int_equal(b.session.status, a.session.status);
		assert_int_equal(b.session.signalled, a.session.signalled);
		assert_int_equal(b.session.failed, a.session.failed);
		assert_string_equal(b.session.text, a.session.text);
		assert_int_equal(b.session.line_len, a.session.line_len);
		/* A line whose beginning was heard before. */
		hear(&a, "ed 7\n");
		hear(&b, "ed 7\n");
		assert_int_equal(b.session.state, a.session.state);
		assert_int_equal(b.session.status, a.session.status);
		state_free(&io);
	}
}

static void test_states_that_can_not_be(void **state UNUSED)
{
	struct fixture a, b;
	struct state_io io;
	unsigned refused = 0;

	begin(&a);
	hear(&a, "hello 2\nstarted\nfailed 127 no such thing\nhal");
	state_save(&io);
	session_state(&a.session, &io);
	assert_int_equal(state_result(&io, NULL), 0);
	for (size_t i = 0; i < io.len; i++) {
		begin(&b);
		assert_int_equal(move_to(&b.session, io.bytes, i), -EINVAL);
		assert_int_equal(b.session.state, SESSION_WAITING);
		io.bytes[i] ^= 0xff;
		refused += move_to(&b.session, io.bytes, io.len) < 0;
		assert_true(b.session.state <= SESSION_DONE);
		assert_true(b.session.line_len < SESSION_LINE_MAX);
		assert_true(strnlen(b.session.text, SESSION_LINE_MAX) < SESSION_LINE_MAX);
		hear(&b, "exited 3\n");
		io.bytes[i] ^= 0xff;
	}
	/* All but what may as well be so: a status, letters. */
	assert_true(refused > io.len / 2);
	state_free(&io);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_clean_run),
		cmocka_unit_test(test_every_split_is_the_same),
		cmocka_unit_test(test_failed_has_its_text),
		cmocka_unit_test(test_order_only_goes_forward),
		cmocka_unit_test(test_hostile_lines),
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_goes_on_from_a_snapshot),
		cmocka_unit_test(test_states_that_can_not_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
