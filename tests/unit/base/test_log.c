/* Log lines: levels, one write each, and the limit on what a guest can make us say. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"

/* Standard error is a datagram socket meanwhile: each write is a message of its own. */
static int kept_stderr = -1;
static int log_end = -1;

static void capture(void)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	kept_stderr = dup(STDERR_FILENO);
	assert_true(kept_stderr >= 0);
	assert_int_equal(dup2(pair[1], STDERR_FILENO), STDERR_FILENO);
	close(pair[1]);
	log_end = pair[0];
}

static void release(void)
{
	assert_int_equal(dup2(kept_stderr, STDERR_FILENO), STDERR_FILENO);
	fd_close(&kept_stderr);
	fd_close(&log_end);
}

/* The next message, or NULL. */
static const char *next_line(void)
{
	static char line[4096];
	ssize_t n = recv(log_end, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n < 0)
		return NULL;
	line[n] = '\0';
	return line;
}

#define EXPECT(text)                                                                               \
	do {                                                                                       \
		const char *line_ = next_line();                                                   \
		if (!line_ || strcmp(line_, text)) {                                               \
			release();                                                                 \
			fail_msg("got \"%s\", not \"%s\"", line_ ? line_ : "nothing", text);       \
		}                                                                                  \
	} while (0)
#define EXPECT_NOTHING                                                                             \
	do {                                                                                       \
		const char *line_ = next_line();                                                   \
		if (line_) {                                                                       \
			release();                                                                 \
			fail_msg("got \"%s\", not nothing", line_);                                \
		}                                                                                  \
	} while (0)

static void levels_hold_back(void **state)
{
	(void)state;
	capture();
	log_error("e %d", 1);
	log_warn("w");
	log_info("i");
	log_debug("d");
	EXPECT("stasis: e 1\n");
	EXPECT("stasis: w\n");
	EXPECT_NOTHING;
	log_set_level(LOG_ERROR);
	log_warn("w");
	log_error("e");
	EXPECT("stasis: e\n");
	EXPECT_NOTHING;
	log_set_level(LOG_DEBUG);
	log_debug("d");
	EXPECT("stasis: d\n");
	log_set_level(LOG_WARN);
	release();
}

static void a_failure_is_one_line_with_its_hint(void **state)
{
	struct error err = {0};

	(void)state;
	capture();
	error_set(&err, -EACCES, "opening /dev/kvm");
	log_failure(&err);
	EXPECT("stasis: opening /dev/kvm: Permission denied\n");
	error_hint(&err, "modprobe kvm");
	log_failure(&err);
	EXPECT("stasis: opening /dev/kvm: Permission denied (try: modprobe kvm)\n");
	EXPECT_NOTHING;
	release();
}

static void the_longest_failure_is_whole(void **state)
{
	struct error err = {.code = -EIO};
	const char *line;
	size_t len;

	(void)state;
	memset(err.what, 'w', sizeof(err.what) - 1);
	memset(err.hint, 'h', sizeof(err.hint) - 1);
	capture();
	log_failure(&err);
	line = next_line();
	len = line ? strlen(line) : 0;
	release();
	assert_int_equal(len, strlen("stasis:  (try: )\n") + sizeof(err.what) - 1 +
				      sizeof(err.hint) - 1);
}

static void lines_are_cut_and_cleaned_but_end(void **state)
{
	char text[5000];
	const char *line;
	size_t len;
	char last;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	capture();
	log_error("%s", text);
	line = next_line();
	len = line ? strlen(line) : 0;
	last = len ? line[len - 1] : '\0';
	log_error("a\nstasis: forged\x1b]0;t\a");
	EXPECT("stasis: a?stasis: forged?]0;t?\n");
	release();
	assert_int_equal(last, '\n');
	assert_in_range(len, 500, 1024);
}

static void guests_are_limited(void **state)
{
	struct log_limit one = {0}, other = {0};

	(void)state;
	capture();
	for (int i = 0; i < 100; i++)
		log_guest(&one, "fault %d", i);
	EXPECT("stasis: fault 0\n");
	EXPECT_NOTHING;
	log_guest(&other, "another's");
	EXPECT("stasis: another's\n");
	/* A second goes by. */
	one.next_ns = now_ns() - 1;
	log_guest(&one, "fault");
	EXPECT("stasis: fault (99 more since the last line)\n");
	one.next_ns = 0;
	log_guest(&one, "fault");
	EXPECT("stasis: fault\n");
	assert_true(one.next_ns > now_ns());
	release();
}

static void errno_is_kept_and_a_closed_end_is_survived(void **state)
{
	int result;

	(void)state;
	capture();
	fd_close(&log_end);
	errno = ENOTTY;
	log_error("nobody reads");
	result = errno;
	release();
	assert_int_equal(result, ENOTTY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_hold_back),
		cmocka_unit_test(a_failure_is_one_line_with_its_hint),
		cmocka_unit_test(the_longest_failure_is_whole),
		cmocka_unit_test(lines_are_cut_and_cleaned_but_end),
		cmocka_unit_test(guests_are_limited),
		cmocka_unit_test(errno_is_kept_and_a_closed_end_is_survived),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
