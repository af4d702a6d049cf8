/* Runs in a lab whose machine is a process: streams, windows, signals, files, ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "lab_fake.h"

#define BIG MIB(24)

static char dash_c[] = "-c";

/* A request for sh -c script; one static one is enough. */
static struct lab_request *script(const char *text)
{
	static char words[1024];
	static char *argv[] = {dash_c, words, NULL};
	static struct lab_request request;

	assert_true(strlen(text) < sizeof(words));
	strcpy(words, text);
	request = (struct lab_request){.argv = argv};
	return &request;
}

/* Runs it as the first client of a lab of its own. */
static int run_once(const struct lab_request *request, const char *input, char **ret_out,
		    char **ret_err)
{
	struct lab_fake lab;
	struct lab_client client;
	int status;

	lab_fake_start(&lab, false, LAB_FAKE_FINE);
	lab_client_start(&client, lab.fd, request);
	lab.fd = -1;
	if (input)
		assert_int_equal(fd_write_all(client.in, input, strlen(input)), 0);
	status = lab_client_end(&client, ret_out, ret_err);
	lab_fake_stop(&lab);
	return status;
}

static void test_streams_and_status(void **state UNUSED)
{
	char *out, *err;

	assert_int_equal(run_once(script("cat; echo err >&2; exit 7"), "in", &out, &err), 7);
	assert_string_equal(out, "in");
	assert_string_equal(err, "err\n");
	free(out);
	free(err);
}

static void test_a_signal_inside_is_a_failure(void **state UNUSED)
{
	char *err;

	assert_int_equal(run_once(script("kill -SEGV $$"), NULL, NULL, &err), 425);
	assert_non_null(strstr(err, "signal 11"));
	free(err);
}

/* More than all windows, through both directions, with a checksum of position. */
static void test_bulk_both_ways(void **state UNUSED)
{
	struct lab_fake lab;
	struct lab_client client;
	uint8_t *chunk = malloc(65536), *back = malloc(65536);
	uint64_t sent = 0, got = 0;
	pid_t writer;
	int status;

	lab_fake_start(&lab, false, LAB_FAKE_FINE);
	lab_client_start(&client, lab.fd, script("cat"));
	lab.fd = -1;
	writer = fork();
	assert_true(writer >= 0);
	if (writer == 0) {
		for (; sent < BIG; sent += 65536) {
			for (unsigned i = 0; i < 65536; i += 8) {
				uint64_t v = (sent + i) * 0x9e3779b97f4a7c15u;

				memcpy(chunk + i, &v, 8);
			}
			if (fd_write_all(client.in, chunk, 65536) < 0)
				_exit(1);
		}
		_exit(0);
	}
	fd_close(&client.in);
	while (got < BIG) {
		assert_int_equal(fd_read_all(client.out, back, 65536), 65536);
		for (unsigned i = 0; i < 65536; i += 8) {
			uint64_t v = (got + i) * 0x9e3779b97f4a7c15u;

			if (memcmp(back + i, &v, 8))
				fail_msg("byte %llu differs", (unsigned long long)(got + i));
		}
		got += 65536;
	}
	assert_int_equal(waitpid(writer, &status, 0), writer);
	assert_int_equal(status, 0);
	assert_int_equal(lab_client_end(&client, NULL, NULL), 0);
	lab_fake_stop(&lab);
	free(chunk);
	free(back);
}

/* Standard output that nobody reads holds up neither standard error nor another session. */
static void test_a_slow_reader_holds_up_nobody(void **state UNUSED)
{
	struct lab_client slow, other;
	struct lab_fake lab;
	char line[6] = "";
	char *out;

	lab_fake_start(&lab, true, LAB_FAKE_FINE);
	lab_client_start(&slow, lab.fd,
			 script("(head -c 4000000 /dev/zero; echo done >&2)& sleep 0.3; echo news "
				">&2; wait"));
	lab.fd = -1;
	assert_int_equal(fd_read_all(slow.err, line, 5), 5);
	assert_string_equal(line, "news\n");
	lab_client_start(&other, lab_fake_connect(&lab), script("echo quick"));
	assert_int_equal(lab_client_end(&other, &out, NULL), 0);
	assert_string_equal(out, "quick\n");
	free(out);
	assert_int_equal(lab_client_end(&slow, &out, NULL), 0);
	free(out);
	lab_fake_stop(&lab);
}

static void test_a_reader_that_goes_away(void **state UNUSED)
{
	struct lab_client client;
	struct lab_fake lab;
	char byte;

	lab_fake_start(&lab, false, LAB_FAKE_FINE);
	/* In a shell that goes on, to tell the status of what was cut off. */
	lab_client_start(&client, lab.fd, script("yes; exit $(($? - 100))"));
	lab.fd = -1;
	assert_int_equal(read(client.out, &byte, 1), 1);
	fd_close(&client.out);
	assert_int_equal(lab_client_end(&client, NULL, NULL), 41);
	lab_fake_stop(&lab);
}

/* Input that is not wanted any more stops being read: its writer is told as by a local pipe. */
static void test_input_that_nobody_reads(void **state UNUSED)
{
	struct lab_client client;
	struct lab_fake lab;
	char buf[4096] = "";
	uint64_t written = 0;
	int status;

	lab_fake_start(&lab, false, LAB_FAKE_FINE);
	lab_client_start(&client, lab.fd, script("exec <&-; sleep 0.5; exit 4"));
	lab.fd = -1;
	fcntl(client.in, F_SETFL, O_NONBLOCK);
	while (waitpid(client.pid, &status, WNOHANG) == 0 && written < MIB(4)) {
		ssize_t n = write(client.in, buf, sizeof(buf));

		written += n > 0 ? (uint64_t)n : 0;
		if (n < 0)
			usleep(1000);
	}
	assert_true(written < MIB(4));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 4);
	close(client.in);
	close(client.out);
	close(client.err);
	lab_fake_stop(&lab);
}

static void wait_for_line(int fd, const char *want)
{
	char line[64] = "";
	size_t n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	assert_string_equal(line, want);
}

static void test_signals_are_passed_on(void **state UNUSED)
{
	struct lab_client client;
	struct lab_fake lab;

	lab_fake_start(&lab, false, LAB_FAKE_FINE);
	lab_client_start(&client, lab.fd,
			 script("trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"));
	lab.fd = -1;
	wait_for_line(client.out, "up");
	kill(client.pid, SIGTERM);
	assert_int_equal(lab_client_end(&client, NULL, NULL), 9);
	lab_fake_stop(&lab);
}

/* One that doesn't end is given up, and killed in the lab. */
static void test_a_signal_that_does_nothing(void **state UNUSED)
{
	struct lab_client client;
	struct lab_fake lab;
	uint64_t begun;
	char pid[16] = "";

	lab_fake_start(&lab, true, LAB_FAKE_FINE);
	lab_client_start(&client, lab.fd, script("trap '' INT; echo $$; exec sleep 60"));
	lab.fd = -1;
	for (size_t n = 0; n < sizeof(pid) - 1 && read(client.out, pid + n, 1) == 1; n++)
		if (pid[n] == '\n')
			break;
	assert_true(atoi(pid) > 1);
	begun = now_ns();
	kill(client.pid, SIGINT);
	assert_int_equal(lab_client_end(&client, NULL, NULL), 128 + SIGINT);
	assert_true(now_ns() - begun < 3000000000u);
	for (int i = 0; kill(atoi(pid), 0) == 0; i++) {
		assert_true(i < 300);
		usleep(10000);
	}
	lab_fake_stop(&lab);
}

static void test_a_client_that_is_killed(void **state UNUSED)
{
	struct lab_client client;
	struct lab_fake lab;
	char pid[16] = "";

	lab_fake_start(&lab, true, LAB_FAKE_FINE);
	lab_client_start(&client, lab.fd, script("echo $$; exec sleep 60"));
	lab.fd = -1;
	for (size_t n = 0; n < sizeof(pid) - 1 && read(client.out, pid + n, 1) == 1; n++)
		if (pid[n] == '\n')
			break;
	assert_true(atoi(pid) > 1);
	kill(client.pid, SIGKILL);
	assert_int_equal(lab_client_end(&client, NULL, NULL), 1000 + SIGKILL);
	for (int i = 0; kill(atoi(pid), 0) == 0; i++) {
		assert_true(i < 300);
		usleep(10000);
	}
	/* The lab goes on. */
	lab_client_start(&client, lab_fake_connect(&lab), script("exit 5"));
	assert_int_equal(lab_client_end(&client, NULL, NULL), 5);
	lab_fake_stop(&lab);
}

/* The keeper of one client ends with it, and with it the machine. */
static void test_an_own_keeper_ends_with_its_client(void **state UNUSED)
{
	struct lab_fake lab;
	int status;

	lab_fake_start(&lab, false, LAB_FAKE_FINE);
	fd_close(&lab.fd);
	for (int i = 0; waitpid(lab.keeper, &status, WNOHANG | WNOWAIT) == 0; i++) {
		siginfo_t info = {0};

		assert_true(i < 300);
		assert_int_equal(waitid(P_PID, (id_t)lab.keeper, &info,
					WEXITED | WNOHANG | WNOWAIT),
				 0);
		if (info.si_pid)
			break;
		usleep(10000);
	}
	lab_fake_stop(&lab);
}

static int file_with(size_t len, int seed)
{
	int fd = memfd_create("lab", MFD_CLOEXEC);
	char *data = malloc(len + 1);

	assert_true(fd >= 0 && data);
	for (size_t i = 0; i < len; i++)
		data[i] = (char)(i * 7 + (size_t)seed);
	assert_int_equal(fd_write_all(fd, data, len), 0);
	free(data);
	return fd;
}

/* Files arrive, are kept for the next session, and output files come back. */
static void test_files_both_ways(void **state UNUSED)
{
	struct lab_file files[3];
	struct lab_output outputs[2];
	struct lab_request *request;
	struct lab_client client;
	struct error err = {0};
	struct lab_fake lab;
	char text[800], *out;
	struct stat st;

	files[0].fd = file_with(MIB(1) + 13, 1);
	files[1].fd = file_with(0, 2);
	files[2].fd = file_with(5, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(lab_file_hash(&files[i], &err), 0);
	outputs[0] = (struct lab_output){.name = "missing", .fd = file_with(0, 0)};
	outputs[1] = (struct lab_output){.name = "report", .fd = file_with(0, 0)};
	lab_fake_start(&lab, true, LAB_FAKE_FINE);
	for (unsigned round = 0; round < 2; round++) {
		snprintf(text, sizeof(text),
			 "wc -c <%s/files/%s; wc -c <%s/files/%s; cat %s/files/%s >report", lab.dir,
			 files[0].hash, lab.dir, files[1].hash, lab.dir, files[0].hash);
		request = script(text);
		request->files = files;
		request->file_count = 3;
		request->outputs = outputs;
		request->output_count = 2;
		if (round == 0) {
			lab_client_start(&client, lab.fd, request);
			lab.fd = -1;
		} else {
			/* Now it must come from the cache. */
			struct lab_file gone[3];

			memcpy(gone, files, sizeof(gone));
			gone[0].fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
			request->files = gone;
			lab_client_start(&client, lab_fake_connect(&lab), request);
			close(gone[0].fd);
		}
		assert_int_equal(lab_client_end(&client, &out, NULL), 0);
		assert_string_equal(out, "1048589\n0\n");
		free(out);
		assert_int_equal(fstat(outputs[0].fd, &st), 0);
		assert_int_equal(st.st_size, 0);
		files[2].fd = outputs[1].fd;
		assert_int_equal(lab_file_hash(&files[2], &err), 0);
		assert_string_equal(files[2].hash, files[0].hash);
		assert_int_equal(ftruncate(outputs[1].fd, 0), 0);
		lseek(outputs[1].fd, 0, SEEK_SET);
		files[2].fd = file_with(5, 3);
		assert_int_equal(lab_file_hash(&files[2], &err), 0);
	}
	lab_fake_stop(&lab);
}

static void test_a_file_that_changes(void **state UNUSED)
{
	struct lab_file file = {.fd = file_with(1000, 1)};
	struct lab_request *request;
	struct error failure = {0};
	char *err;

	assert_int_equal(lab_file_hash(&file, &failure), 0);
	assert_int_equal(pwrite(file.fd, "x", 1, 500), 1);
	request = script("echo never");
	request->files = &file;
	request->file_count = 1;
	assert_int_equal(run_once(request, NULL, NULL, &err), 425);
	assert_non_null(strstr(err, "changed"));
	free(err);
	close(file.fd);
}

/* More than the cache keeps: contention, and the lab goes on. Old files make room. */
static void test_the_cache_has_a_limit(void **state UNUSED)
{
	struct lab_request *request;
	struct lab_client client;
	struct lab_fake lab;
	char *err;

	lab_fake_start(&lab, true, LAB_FAKE_FINE);
	for (int i = 0; i < 6; i++) {
		struct lab_file file = {.fd = file_with(i == 3 ? MIB(9) : MIB(3), i)};
		struct error failure = {0};

		assert_int_equal(lab_file_hash(&file, &failure), 0);
		request = script("exit 0");
		request->files = &file;
		request->file_count = 1;
		lab_client_start(&client, i ? lab_fake_connect(&lab) : lab.fd, request);
		lab.fd = -1;
		assert_int_equal(lab_client_end(&client, NULL, &err), i == 3 ? 377 : 0);
		assert_int_equal(strstr(err, "no room") != NULL, i == 3);
		free(err);
		close(file.fd);
	}
	lab_fake_stop(&lab);
}

static void test_a_terminal(void **state UNUSED)
{
	struct lab_request *request =
		script("test -t 0 && test -t 1 && tty >/dev/null && read x && "
		       "echo got $x && exit 6");
	char *out;

	request->terminal = true;
	assert_int_equal(run_once(request, "word\n", &out, NULL), 6);
	assert_non_null(strstr(out, "got word\r\n"));
	free(out);
}

static void test_a_lab_that_does_not_come(void **state UNUSED)
{
	static const struct {
		enum lab_fake_trouble trouble;
		int status;
		const char *says, *says_too;
	} cases[] = {
		{LAB_FAKE_NO_MACHINE, 377, "starting a machine", ""},
		{LAB_FAKE_DIES, 377, "status 3", "a console's words"},
		{LAB_FAKE_NO_AGENT, 377, "no agent", "a console's words"},
		{LAB_FAKE_NOISE, 377, "not understood", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lab_client client;
		struct lab_fake lab;
		char *err;

		lab_fake_start(&lab, false, cases[i].trouble);
		lab_client_start(&client, lab.fd, script("echo never"));
		lab.fd = -1;
		assert_int_equal(lab_client_end(&client, NULL, &err), cases[i].status);
		assert_non_null(strstr(err, cases[i].says));
		assert_non_null(strstr(err, cases[i].says_too));
		free(err);
		lab_fake_stop(&lab);
	}
}

static void test_many_at_once(void **state UNUSED)
{
	struct lab_client client[20];
	struct lab_fake lab;

	lab_fake_start(&lab, true, LAB_FAKE_FINE);
	for (unsigned i = 0; i < ARRAY_SIZE(client); i++) {
		char text[64];

		snprintf(text, sizeof(text), "head -c 300000 /dev/zero; exit %u", i);
		lab_client_start(&client[i], i ? lab_fake_connect(&lab) : lab.fd, script(text));
	}
	lab.fd = -1;
	for (unsigned i = 0; i < ARRAY_SIZE(client); i++)
		assert_int_equal(lab_client_end(&client[i], NULL, NULL), i);
	lab_fake_stop(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams_and_status),
		cmocka_unit_test(test_a_signal_inside_is_a_failure),
		cmocka_unit_test(test_bulk_both_ways),
		cmocka_unit_test(test_a_slow_reader_holds_up_nobody),
		cmocka_unit_test(test_a_reader_that_goes_away),
		cmocka_unit_test(test_input_that_nobody_reads),
		cmocka_unit_test(test_signals_are_passed_on),
		cmocka_unit_test(test_a_signal_that_does_nothing),
		cmocka_unit_test(test_a_client_that_is_killed),
		cmocka_unit_test(test_an_own_keeper_ends_with_its_client),
		cmocka_unit_test(test_files_both_ways),
		cmocka_unit_test(test_a_file_that_changes),
		cmocka_unit_test(test_the_cache_has_a_limit),
		cmocka_unit_test(test_a_terminal),
		cmocka_unit_test(test_a_lab_that_does_not_come),
		cmocka_unit_test(test_many_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
