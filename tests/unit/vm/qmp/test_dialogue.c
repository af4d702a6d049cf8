/* The conversation, without a socket: negotiation, every command, errors, answers that come late,
 * and thousands of broken dialogues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "machine_fake.h"
#include "vm/qmp/dialogue.h"

#define OUT_MAX (1u << 20)

struct talk {
	struct qmp_dialogue d;
	struct machine_fake m;
	char *out;
	size_t out_len;
	unsigned resumed;
};

static void on_send(struct qmp_dialogue *d, const char *text, size_t len)
{
	struct talk *t = container_of(d, struct talk, d);

	assert_true(t->out_len + len < OUT_MAX);
	memcpy(t->out + t->out_len, text, len);
	t->out_len += len;
	t->out[t->out_len] = 0;
}

static void on_resume(struct qmp_dialogue *d)
{
	container_of(d, struct talk, d)->resumed++;
}

static void begin(struct talk *t, const struct qmp_ops *ops)
{
	char *out = t->out ?: malloc(OUT_MAX);

	assert_non_null(out);
	*t = (struct talk){.out = out};
	machine_fake_init(&t->m);
	t->d = (struct qmp_dialogue){.ops = ops,
				     .arg = &t->m,
				     .send = on_send,
				     .resume = on_resume};
	qmp_dialogue_init(&t->d);
}

static void end(struct talk *t)
{
	qmp_dialogue_done(&t->d);
	free(t->out);
}

/* Gives the input step bytes at a time, as long as it is taken. Returns how much was. */
static size_t say_in_steps(struct talk *t, const char *in, size_t len, size_t step)
{
	size_t at = 0;

	while (at < len && !qmp_dialogue_waits(&t->d)) {
		size_t used = qmp_dialogue_input(&t->d, in + at, MIN(step, len - at));

		assert_true(used <= MIN(step, len - at));
		at += used;
	}
	return at;
}

static void say(struct talk *t, const char *in)
{
	t->out_len = 0;
	t->out[0] = 0;
	say_in_steps(t, in, strlen(in), strlen(in));
}

/* What is said, and the one answer to it. */
static json_t *ask(struct talk *t, const char *in)
{
	json_t *json;

	say(t, in);
	json = json_loads(t->out, 0, NULL);
	assert_non_null(json);
	return json;
}

static void expect_error(struct talk *t, const char *in, const char *class, const char *part)
{
	json_t *json = ask(t, in);
	json_t *error = json_object_get(json, "error");

	assert_string_equal(json_string_value(json_object_get(error, "class")), class);
	assert_non_null(strstr(json_string_value(json_object_get(error, "desc")), part));
	json_decref(json);
}

static void expect_ok(struct talk *t, const char *in)
{
	json_t *json = ask(t, in);

	assert_true(json_is_object(json_object_get(json, "return")));
	json_decref(json);
}

static void negotiate(struct talk *t)
{
	expect_ok(t, "{\"execute\":\"qmp_capabilities\"}");
}

static void test_greeting_and_negotiation(void **state UNUSED)
{
	struct talk t = {0};
	json_t *json, *qmp;

	begin(&t, &machine_fake_ops);
	json = json_loads(t.out, 0, NULL);
	qmp = json_object_get(json, "QMP");
	assert_true(json_is_array(json_object_get(qmp, "capabilities")));
	assert_true(json_is_integer(
		json_object_get(json_object_get(json_object_get(qmp, "version"), "qemu"),
				"major")));
	assert_string_equal(t.out + t.out_len - 2, "\r\n");
	json_decref(json);

	expect_error(&t, "{\"execute\":\"query-status\"}", "CommandNotFound", "qmp_capabilities");
	qmp_dialogue_event(&t.d, "never\n", 6);
	assert_null(strstr(t.out, "never"));
	expect_error(&t, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}",
		     "GenericError", "no capabilities");
	expect_error(&t, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":1}}",
		     "GenericError", "list");
	expect_ok(&t, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}");
	expect_error(&t, "{\"execute\":\"qmp_capabilities\"}", "CommandNotFound", "already");
	qmp_dialogue_event(&t.d, "now\n", 4);
	assert_non_null(strstr(t.out, "now"));
	end(&t);
}

static void test_ids_come_back(void **state UNUSED)
{
	static const char *const ids[] = {"1", "\"x\"", "{\"a\":[1,null]}", "null", "1.5", "[]"};
	struct talk t = {0};

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		json_t *want = json_loads(ids[i], JSON_DECODE_ANY, NULL), *got;
		char in[128];

		snprintf(in, sizeof(in), "{\"id\":%s,\"execute\":\"query-name\"}", ids[i]);
		got = ask(&t, in);
		assert_true(json_equal(json_object_get(got, "id"), want));
		json_decref(got);
		snprintf(in, sizeof(in), "{\"execute\":\"none\",\"id\":%s}", ids[i]);
		got = ask(&t, in);
		assert_non_null(json_object_get(got, "error"));
		assert_true(json_equal(json_object_get(got, "id"), want));
		json_decref(got);
		json_decref(want);
	}
	end(&t);
}

static void test_queries(void **state UNUSED)
{
	static const struct {
		enum qmp_state state;
		const char *status;
		bool running;
	} states[] = {
		{QMP_PRELAUNCH, "prelaunch", false},	 {QMP_RUNNING, "running", true},
		{QMP_PAUSED, "paused", false},		 {QMP_SHUTDOWN, "shutdown", false},
		{QMP_PANICKED, "guest-panicked", false},
	};
	struct talk t = {0};
	json_t *json, *ret, *row;
	size_t i;

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		t.m.state = states[i].state;
		json = ask(&t, "{\"execute\":\"query-status\"}");
		ret = json_object_get(json, "return");
		assert_string_equal(json_string_value(json_object_get(ret, "status")),
				    states[i].status);
		assert_int_equal(json_is_true(json_object_get(ret, "running")), states[i].running);
		json_decref(json);
	}
	json = ask(&t, "{\"execute\":\"query-cpus-fast\"}");
	ret = json_object_get(json, "return");
	assert_int_equal(json_array_size(ret), 4);
	json_array_foreach(ret, i, row)
	{
		assert_int_equal(json_integer_value(json_object_get(row, "thread-id")), 1000 + i);
		assert_int_equal(json_integer_value(
					 json_object_get(json_object_get(row, "props"), "node-id")),
				 i / 2);
	}
	json_decref(json);
	json = ask(&t, "{\"execute\":\"query-name\"}");
	assert_string_equal(json_string_value(
				    json_object_get(json_object_get(json, "return"), "name")),
			    "fake");
	json_decref(json);
	json = ask(&t, "{\"execute\":\"x-stasis-status\"}");
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(json, "return"), "vcpus")),
			 4);
	json_decref(json);
	json = ask(&t, "{\"execute\":\"x-stasis-query-stats\"}");
	assert_non_null(json_object_get(json_object_get(json_object_get(json, "return"), "exits"),
					"total"));
	json_decref(json);
	expect_ok(&t, "{\"execute\":\"query-version\"}");
	expect_ok(&t, "{\"execute\":\"query-kvm\",\"arguments\":{}}");
	end(&t);
}

/* Every command that query-commands lists is one that can be found. */
static void test_the_list_is_true(void **state UNUSED)
{
	struct talk t = {0};
	json_t *json, *ret, *row;
	size_t i;

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	json = ask(&t, "{\"execute\":\"query-commands\"}");
	ret = json_object_get(json, "return");
	assert_true(json_array_size(ret) > 10);
	json_array_foreach(ret, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		char in[128];

		snprintf(in, sizeof(in), "{\"execute\":\"%s\"}", name);
		say(&t, in);
		if (strcmp(name, "qmp_capabilities"))
			assert_null(strstr(t.out, "CommandNotFound"));
	}
	json_decref(json);
	end(&t);
}

static void test_doing(void **state UNUSED)
{
	struct talk t = {0};

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	expect_ok(&t, "{\"execute\":\"stop\"}");
	assert_int_equal(t.m.freezes, 1);
	assert_int_equal(t.resumed, 0); /* it was done at once */
	expect_ok(&t, "{\"execute\":\"cont\"}");
	assert_int_equal(t.m.thaws, 1);
	expect_ok(&t, "{\"execute\":\"inject-nmi\"}");
	assert_int_equal(t.m.nmis, 1);
	expect_ok(&t, "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,"
		      "\"protocol\":\"file:/x/y\",\"format\":\"elf\"}}");
	assert_string_equal(t.m.dump_path, "/x/y");
	expect_ok(&t, "{\"execute\":\"x-stasis-vmcore\",\"arguments\":{\"path\":\"/x/z\"}}");
	assert_string_equal(t.m.dump_path, "/x/z");
	expect_ok(&t, "{\"execute\":\"x-stasis-snapshot\",\"arguments\":{\"path\":\"/x/s\"}}");
	assert_string_equal(t.m.dump_path, "/x/s");
	assert_int_equal(t.m.kept, 0);
	expect_ok(&t, "{\"execute\":\"x-stasis-snapshot\",\"arguments\":{\"path\":\"/x/k\","
		      "\"keep-running\":true}}");
	assert_int_equal(t.m.kept, 1);
	assert_string_equal(t.m.base_path, "");
	assert_int_equal(t.m.packed, 0);
	expect_ok(&t, "{\"execute\":\"x-stasis-snapshot\",\"arguments\":{\"path\":\"/x/d\","
		      "\"diff-of\":\"/x/k\",\"lz4\":true}}");
	assert_string_equal(t.m.base_path, "/x/k");
	assert_int_equal(t.m.packed, 1);
	expect_ok(&t, "{\"execute\":\"x-stasis-profile\",\"arguments\":{\"duration-ns\":5,"
		      "\"hz\":100}}");
	/* Detached, the answer doesn't wait for the end. */
	t.m.slow = true;
	expect_ok(&t, "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,"
		      "\"protocol\":\"file:/x/d\",\"detach\":true}}");
	assert_false(qmp_dialogue_waits(&t.d));
	machine_fake_finish(&t.m, "a full disk");
	t.m.slow = false;
	expect_ok(&t, "{\"execute\":\"query-dump\"}");
	expect_ok(&t, "{\"execute\":\"query-dump-guest-memory-capability\"}");
	expect_ok(&t, "{\"execute\":\"x-stasis-dump\"}");
	expect_ok(&t, "{\"execute\":\"system_reset\"}");
	assert_int_equal(t.m.resets, 1);
	expect_ok(&t, "{\"execute\":\"quit\"}");
	assert_int_equal(t.m.quits, 1);
	t.m.refuse = true;
	expect_error(&t, "{\"execute\":\"stop\"}", "GenericError", "not now");
	assert_false(qmp_dialogue_waits(&t.d));
	end(&t);
}

static void test_what_is_not_built(void **state UNUSED)
{
	static const char *const commands[] = {"stop",		"cont",
					       "quit",		"inject-nmi",
					       "system_reset",	"query-dump",
					       "x-stasis-dump", "x-stasis-query-stats"};
	struct talk t = {0};

	begin(&t, &machine_fake_bare_ops);
	negotiate(&t);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		char in[64];

		snprintf(in, sizeof(in), "{\"execute\":\"%s\"}", commands[i]);
		expect_error(&t, in, "GenericError", "not built yet");
	}
	expect_error(&t,
		     "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,"
		     "\"protocol\":\"file:/x\"}}",
		     "GenericError", "not built yet");
	expect_error(&t, "{\"execute\":\"x-stasis-snapshot\",\"arguments\":{\"path\":\"/x\"}}",
		     "GenericError", "not built yet");
	expect_error(&t, "{\"execute\":\"x-stasis-profile\",\"arguments\":{\"duration-ns\":1}}",
		     "GenericError", "not built yet");
	end(&t);
}

static void test_bad_commands(void **state UNUSED)
{
	static const struct {
		const char *in, *class, *part;
	} bad[] = {
		{"[]", "GenericError", "object"},
		{"17 ", "GenericError", "object"},
		{"\"quit\"", "GenericError", "object"},
		{"quit\n", "GenericError", "not JSON"},
		{"{}", "GenericError", "execute"},
		{"{\"execute\":1}", "GenericError", "string"},
		{"{\"execute\":\"stop\",\"arguments\":[]}", "GenericError", "arguments"},
		{"{\"execute\":\"stop\",\"when\":1}", "GenericError", "when"},
		{"{\"execute\":\"stop\",\"execute\":\"quit\"}", "GenericError", "duplicate"},
		{"{\"execute\":\"stop\",\"arguments\":{\"a\":1}}", "GenericError", "a: stop"},
		{"{\"execute\":\"nothing\"}", "CommandNotFound", "nothing"},
		{"{\"execute\":\"\"}", "CommandNotFound", "command"},
		{"{\"exec-oob\":\"stop\"}", "GenericError", "exec-oob"},
		{"{\"execute\":\"stop\",}", "GenericError", "not JSON"},
		{"{\"execute\":\"dump-guest-memory\"}", "GenericError", "paging"},
		{"{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":1,\"protocol\":"
		 "\"file:/x\"}}",
		 "GenericError", "true or false"},
		{"{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":true,\"protocol\":"
		 "\"file:/x\"}}",
		 "GenericError", "paging"},
		{"{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":"
		 "\"fd:x\"}}",
		 "GenericError", "protocol"},
		{"{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":"
		 "\"file:x\"}}",
		 "GenericError", "absolute"},
		{"{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":"
		 "\"file:/x\",\"begin\":0,\"length\":1}}",
		 "GenericError", "part"},
		{"{\"execute\":\"x-stasis-vmcore\"}", "GenericError", "path"},
		{"{\"execute\":\"x-stasis-snapshot\"}", "GenericError", "path"},
		{"{\"execute\":\"x-stasis-profile\"}", "GenericError", "duration-ns"},
		{"{\"execute\":\"x-stasis-profile\",\"arguments\":{\"duration-ns\":0}}",
		 "GenericError", "up to an hour"},
		{"{\"execute\":\"x-stasis-profile\",\"arguments\":{\"duration-ns\":1,"
		 "\"hz\":10001}}",
		 "GenericError", "1 to 10000"},
		{"{\"execute\":\"x-stasis-profile\",\"arguments\":{\"duration-ns\":1,"
		 "\"hz\":-1}}",
		 "GenericError", "1 to 10000"},
		{"{\"execute\":\"x-stasis-snapshot\",\"arguments\":{\"path\":\"x\"}}",
		 "GenericError", "absolute"},
		{"{\"execute\":\"x-stasis-snapshot\",\"arguments\":{\"path\":\"/"
		 "x\",\"keep-running\":1}}",
		 "GenericError", "keep-running"},
		{"{\"execute\":\"x-stasis-vmcore\",\"arguments\":{\"path\":\"x\"}}", "GenericError",
		 "absolute"},
	};
	struct talk t = {0};

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_error(&t, bad[i].in, bad[i].class, bad[i].part);
	assert_int_equal(t.m.freezes + t.m.quits + t.m.dumps + t.m.snapshots, 0);
	end(&t);
}

static void test_a_command_too_long(void **state UNUSED)
{
	size_t len = 2 * QMP_COMMAND_MAX;
	char *in = malloc(len + 1);
	struct talk t = {0};

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	memset(in, 'x', len);
	memcpy(in, "{\"execute\":\"", 12);
	memcpy(in + len - 2, "\"}", 3);
	expect_error(&t, in, "GenericError", "64 KiB");
	expect_ok(&t, "{\"execute\":\"query-name\"}");
	assert_true(t.d.split.cap <= QMP_COMMAND_MAX);
	end(&t);
	free(in);
}

static void test_an_answer_that_comes_late(void **state UNUSED)
{
	const char *in = "{\"execute\":\"stop\",\"id\":7}{\"execute\":\"cont\"}";
	struct talk t = {0};
	json_t *json;
	size_t used;

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	t.m.slow = true;
	t.out_len = 0;
	used = say_in_steps(&t, in, strlen(in), strlen(in));
	assert_true(qmp_dialogue_waits(&t.d));
	assert_int_equal(t.out_len, 0);
	assert_int_equal(used, strlen("{\"execute\":\"stop\",\"id\":7}"));
	machine_fake_finish(&t.m, NULL);
	assert_int_equal(t.resumed, 1);
	json = json_loads(t.out, 0, NULL);
	assert_int_equal(json_integer_value(json_object_get(json, "id")), 7);
	assert_non_null(json_object_get(json, "return"));
	json_decref(json);
	say(&t, in + used);
	assert_int_equal(t.m.thaws, 1);

	/* One that fails. */
	say(&t, "{\"execute\":\"stop\"}");
	t.out_len = 0;
	machine_fake_finish(&t.m, "vCPU 3 did not park");
	assert_non_null(strstr(t.out, "vCPU 3 did not park"));
	assert_non_null(strstr(t.out, "GenericError"));

	/* Nobody waits for it any more. */
	say(&t, "{\"execute\":\"stop\"}");
	qmp_dialogue_done(&t.d);
	t.out_len = 0;
	machine_fake_finish(&t.m, NULL);
	assert_int_equal(t.out_len, 0);
	end(&t);
}

static void test_what_ends_with_its_client(void **state UNUSED)
{
	const char *profile =
		"{\"execute\":\"x-stasis-profile\",\"arguments\":{\"duration-ns\":5}}";
	struct talk t = {0};

	begin(&t, &machine_fake_ops);
	negotiate(&t);
	t.m.slow = true;
	/* A freeze can't, and is answered as ever. */
	say(&t, "{\"execute\":\"stop\"}");
	assert_false(qmp_dialogue_can_end(&t.d));
	qmp_dialogue_hung_up(&t.d);
	assert_true(qmp_dialogue_waits(&t.d));
	machine_fake_finish(&t.m, NULL);
	/* A profile does, with its answer. */
	say(&t, profile);
	assert_true(qmp_dialogue_can_end(&t.d));
	assert_int_equal(t.m.cancels, 0);
	qmp_dialogue_hung_up(&t.d);
	assert_int_equal(t.m.cancels, 1);
	assert_false(qmp_dialogue_waits(&t.d));
	assert_non_null(strstr(t.out, "\"profile\""));
	qmp_dialogue_hung_up(&t.d);
	assert_int_equal(t.m.cancels, 1);
	/* So does one whose dialogue is over, to nobody. */
	say(&t, profile);
	qmp_dialogue_done(&t.d);
	assert_int_equal(t.m.cancels, 2);
	assert_null(t.m.wait);
	assert_int_equal(t.out_len, 0);
	end(&t);
}

static void test_event_text(void **state UNUSED)
{
	char *text = qmp_event_text("SHUTDOWN", json_pack("{s:b}", "guest", 1));
	json_t *json = json_loads(text, 0, NULL);
	json_t *stamp = json_object_get(json, "timestamp");

	assert_string_equal(json_string_value(json_object_get(json, "event")), "SHUTDOWN");
	assert_true(json_is_true(json_object_get(json_object_get(json, "data"), "guest")));
	assert_true(json_integer_value(json_object_get(stamp, "seconds")) > 1600000000);
	assert_true(json_integer_value(json_object_get(stamp, "microseconds")) < 1000000);
	json_decref(json);
	free(text);
}

static const char whole_dialogue[] =
	"{\"execute\":\"qmp_capabilities\"}\r\n"
	"{\"execute\":\"query-status\",\"id\":\"a\\\"}{\"}"
	"{'execute':'query-cpus-fast'}\n"
	"{\"execute\":\"stop\"} {\"execute\":\"cont\",\"id\":[1,{\"b\":null}]}"
	"{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":"
	"\"file:/core\"}}"
	"{\"execute\":\"inject-nmi\"}{\"execute\":\"quit\"}\n";

static void test_split_at_every_byte(void **state UNUSED)
{
	size_t len = sizeof(whole_dialogue) - 1, want;
	struct talk t = {0};
	char *first;

	begin(&t, &machine_fake_ops);
	say_in_steps(&t, whole_dialogue, len, len);
	first = strdup(t.out);
	want = t.out_len;
	assert_int_equal(t.m.quits, 1);
	qmp_dialogue_done(&t.d);
	for (size_t cut = 1; cut < len; cut++) {
		begin(&t, &machine_fake_ops);
		say_in_steps(&t, whole_dialogue, cut, cut);
		say_in_steps(&t, whole_dialogue + cut, len - cut, len - cut);
		assert_int_equal(t.out_len, want);
		assert_string_equal(t.out, first);
		qmp_dialogue_done(&t.d);
	}
	begin(&t, &machine_fake_ops);
	say_in_steps(&t, whole_dialogue, len, 1);
	assert_string_equal(t.out, first);
	end(&t);
	free(first);
}

/* Every line of the output is JSON: an answer, an error or the greeting. */
static void check_lines(char *out)
{
	for (char *line = strtok(out, "\r\n"); line; line = strtok(NULL, "\r\n")) {
		json_t *json = json_loads(line, 0, NULL);

		assert_non_null(json);
		assert_true(json_object_get(json, "QMP") || json_object_get(json, "return") ||
			    json_object_get(json, "error"));
		json_decref(json);
	}
}

/* Whatever was said, 0xff and a line end bring both sides in step. */
static void test_ten_thousand_mutations(void **state UNUSED)
{
	static const char alphabet[] = "{}[]:,\"'\\ \n\xff\x01\xc0 0e-tfn";
	struct talk t = {0};
	unsigned seed = 1;

	for (unsigned round = 0; round < 10000; round++) {
		char in[sizeof(whole_dialogue)];
		size_t len = sizeof(whole_dialogue) - 1;

		memcpy(in, whole_dialogue, sizeof(in));
		for (int i = rand_r(&seed) % 8; i >= 0; i--) {
			size_t at = (size_t)rand_r(&seed) % len;

			switch (rand_r(&seed) % 4) {
			case 0:
				in[at] = (char)rand_r(&seed);
				break;
			case 1:
				in[at] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
				break;
			case 2: /* lost bytes */
				len = at + 1;
				break;
			default: /* a piece of it elsewhere */
				memmove(in + at, in + len / 2, MIN(len - at, len - len / 2));
				break;
			}
		}
		begin(&t, &machine_fake_ops);
		t.m.slow = round % 5 == 0;
		for (size_t at = 0; at < len;) {
			at += say_in_steps(&t, in + at, len - at, 1 + (size_t)rand_r(&seed) % 40);
			machine_fake_finish(&t.m, round % 2 ? NULL : "no");
		}
		check_lines(t.out);
		say(&t, "\xff\n");
		if (!t.d.negotiated)
			negotiate(&t);
		expect_ok(&t, "{\"execute\":\"query-status\"}");
		qmp_dialogue_done(&t.d);
		machine_fake_finish(&t.m, NULL);
	}
	free(t.out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greeting_and_negotiation),
		cmocka_unit_test(test_ids_come_back),
		cmocka_unit_test(test_queries),
		cmocka_unit_test(test_the_list_is_true),
		cmocka_unit_test(test_doing),
		cmocka_unit_test(test_what_is_not_built),
		cmocka_unit_test(test_bad_commands),
		cmocka_unit_test(test_a_command_too_long),
		cmocka_unit_test(test_an_answer_that_comes_late),
		cmocka_unit_test(test_what_ends_with_its_client),
		cmocka_unit_test(test_event_text),
		cmocka_unit_test(test_split_at_every_byte),
		cmocka_unit_test(test_ten_thousand_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
