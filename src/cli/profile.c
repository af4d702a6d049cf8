/* stasis profile: where a running VM's time goes, for a while. */
#include <errno.h>
#include <stdio.h>

#include "base/beside.h"
#include "base/parse.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/find_vm.h"
#include "cli/options.h"
#include "cli/profile_option.h"
#include "vm/profile_out.h"

#define NS_PER_S      UINT64_C(1000000000)
#define SECONDS_MAX   3600u
#define SECONDS_USUAL 10u

struct request {
	bool json, help;
	unsigned hz; /* 0: the default */
	uint64_t duration_ns;
	const char *out;
};

int profile_hz_parse(const char *value, unsigned *ret_hz, struct error *err)
{
	uint64_t hz;

	if (parse_uint(value, 1, SAMPLE_HZ_MAX, &hz) < 0)
		return error_usage(err, "%s: 1 to %u samples a second are accepted", value,
				   SAMPLE_HZ_MAX);
	*ret_hz = (unsigned)hz;
	return 0;
}

static int set_hz(void *target, const char *value, struct error *err)
{
	return profile_hz_parse(value, &((struct request *)target)->hz, err);
}

static int set_seconds(void *target, const char *value, struct error *err)
{
	uint64_t s;

	if (parse_uint(value, 1, SECONDS_MAX, &s) < 0)
		return error_usage(err, "%s: 1 to %u seconds are accepted", value, SECONDS_MAX);
	((struct request *)target)->duration_ns = s * NS_PER_S;
	return 0;
}

static int set_out(void *target, const char *value, struct error *err)
{
	((struct request *)target)->out = value;
	return profile_path_check(value, err);
}

static const struct cli_option options[] = {
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	{"seconds", 's', "S", set_seconds, "for so long (default: 10)"},
	{"hz", 0, "HZ", set_hz, "samples of each vCPU in a second (default: 997)"},
	{"output", 'o', "FILE", set_out,
	 "the stacks: NAME.folded, NAME.speedscope.json or NAME.pb.gz (pprof)"},
	OPTION_FLAG("json", 0, struct request, json, "the summary as JSON"),
};

static int ask(const char *name, const struct request *q, json_t **ret_answer, struct error *err)
{
	json_t *arguments = json_pack("{s:I}", "duration-ns", (json_int_t)q->duration_ns);
	struct qmp_client client;
	int r = find_vm_open(name, q->duration_ns + FIND_VM_LIMIT_NS, &client, err);

	if (r < 0) {
		json_decref(arguments);
		return r;
	}
	if (q->hz)
		json_object_set_new(arguments, "hz", json_integer(q->hz));
	r = qmp_client_execute(&client, "x-stasis-profile", arguments, ret_answer, err);
	qmp_client_close(&client);
	return r;
}

static int show(const struct request *q, json_t *answer, struct error *err)
{
	json_t *profile = json_object_get(answer, "profile");
	int r = 0;

	if (!q->json)
		profile_print(profile, stdout);
	else if (json_dumpf(profile, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF)
		r = error_set(err, -EIO, "writing to standard output");
	if (r == 0 && q->out)
		r = profile_write(json_incref(json_object_get(answer, "speedscope")), q->out, err);
	return r;
}

int command_profile(int argc, char **argv)
{
	struct request q = {.duration_ns = SECONDS_USUAL * NS_PER_S};
	struct error err = {0};
	const char *name;
	json_t *answer = NULL;
	int r;

	r = options_parse_words(options, ARRAY_SIZE(options), argc, argv, &q, &name, 1, &err);
	if (r >= 0 && q.help) {
		printf("usage: stasis profile [OPTIONS] NAME\n\n"
		       "Samples each vCPU at random times, from outside the guest.\n\n");
		options_print(options, ARRAY_SIZE(options));
		return 0;
	}
	if (r >= 0 && r != 1)
		r = error_usage(&err, "stasis profile takes the name of one VM; stasis list shows "
				      "them");
	/* Now, and not after an hour of samples. */
	if (r >= 0 && q.out) {
		r = beside_check(q.out);
		if (r < 0)
			error_set(&err, r, "writing %s", q.out);
	}
	if (r >= 0)
		r = ask(name, &q, &answer, &err);
	if (r == 0)
		r = show(&q, answer, &err);
	json_decref(answer);
	return r < 0 ? command_failed(&err) : 0;
}
