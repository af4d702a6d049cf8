/* The control socket's conversation with any bytes, cut anywhere, with answers that come late, in
 * time or never. What must hold: bounded memory, one JSON object a line out, a machine that is told
 * nothing before the negotiation, and both sides in step again after 0xff and a line end. */
#include "fuzz.h"
#include "machine_fake.h"
#include "vm/qmp/dialogue.h"

static struct qmp_dialogue d;
static struct machine_fake m;
static unsigned lines;

static void on_send(struct qmp_dialogue *dialogue, const char *text, size_t len)
{
	json_t *json = json_loadb(text, len, 0, NULL);

	FUZZ_CHECK(dialogue == &d && len > 2 && !memcmp(text + len - 2, "\r\n", 2));
	FUZZ_CHECK(json_object_get(json, "return") || json_object_get(json, "error") ||
		   (lines == 0 && json_object_get(json, "QMP")));
	json_decref(json);
	lines++;
}

static void on_resume(struct qmp_dialogue *dialogue)
{
	FUZZ_CHECK(dialogue == &d && !qmp_dialogue_waits(&d));
}

static void say(const char *text, size_t len)
{
	while (len > 0) {
		unsigned before = lines;
		size_t used = qmp_dialogue_input(&d, text, len);

		FUZZ_CHECK(used <= len && lines <= before + 1);
		FUZZ_CHECK(used == len || lines == before + 1 || qmp_dialogue_waits(&d));
		FUZZ_CHECK(d.split.cap <= QMP_COMMAND_MAX);
		if (qmp_dialogue_waits(&d))
			machine_fake_finish(&m, len % 2 ? "no" : NULL);
		text += used;
		len -= used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char hello[] = "\xff\n{\"execute\":\"qmp_capabilities\"}";
	static const char status[] = "{\"execute\":\"query-status\"}";
	struct fuzz_input in = {data, size};
	uint8_t how = fuzz_u8(&in);
	unsigned before;

	machine_fake_init(&m);
	m.slow = how & 1;
	m.refuse = how & 2;
	lines = 0;
	d = (struct qmp_dialogue){.ops = how & 4 ? &machine_fake_bare_ops : &machine_fake_ops,
				  .arg = &m,
				  .send = on_send,
				  .resume = on_resume};
	qmp_dialogue_init(&d);
	if (how & 8)
		say(hello + 2, sizeof(hello) - 3);
	for (size_t at = 0, step = (size_t)(how >> 4) * 7 + 1; at < in.left; at += step)
		say((const char *)in.data + at, MIN(step, in.left - at));
	FUZZ_CHECK(d.negotiated ||
		   m.freezes + m.thaws + m.dumps + m.nmis + m.quits + m.resets == 0);
	say(hello, sizeof(hello) - 1);
	FUZZ_CHECK(d.negotiated);
	before = lines;
	say(status, sizeof(status) - 1);
	FUZZ_CHECK(lines == before + 1);
	/* Goes while it waits: the end of what it waited for finds nobody. */
	m.slow = true;
	m.refuse = false;
	(void)qmp_dialogue_input(&d, "{\"execute\":\"stop\"}", 18);
	qmp_dialogue_done(&d);
	before = lines;
	machine_fake_finish(&m, NULL);
	FUZZ_CHECK(lines == before);
	return 0;
}
