/* The operations of a machine that is none. */
#include "machine_fake.h"

#include <errno.h>
#include <stdio.h>

static const char *name(void *arg)
{
	(void)arg;
	return "fake";
}

static enum qmp_state state(void *arg)
{
	return ((struct machine_fake *)arg)->state;
}

static unsigned cpu_count(void *arg)
{
	return ((struct machine_fake *)arg)->cpus;
}

static void cpu(void *arg, unsigned index, struct qmp_cpu *ret_cpu)
{
	(void)arg;
	*ret_cpu = (struct qmp_cpu){.thread_id = 1000 + (int)index, .node = index / 2};
}

static json_t *status(void *arg)
{
	struct machine_fake *m = arg;

	return json_pack("{s:s, s:i}", "name", "fake", "vcpus", (int)m->cpus);
}

void machine_fake_finish(struct machine_fake *m, const char *failure)
{
	struct qmp_wait *wait = m->wait;
	struct error err = {0};

	if (!wait)
		return;
	m->wait = NULL;
	if (failure)
		error_usage(&err, "%s", failure);
	else
		m->state = QMP_PAUSED;
	wait->done(wait, failure ? &err : NULL);
}

static int begin(struct machine_fake *m, struct qmp_wait *wait, struct error *err)
{
	if (m->refuse || m->wait)
		return error_usage(err, "not now");
	m->wait = wait;
	if (!m->slow)
		machine_fake_finish(m, NULL);
	return 0;
}

static int freeze(void *arg, struct qmp_wait *wait, struct error *err)
{
	struct machine_fake *m = arg;

	m->freezes++;
	return begin(m, wait, err);
}

static int thaw(void *arg, struct error *err)
{
	struct machine_fake *m = arg;

	(void)err;
	m->thaws++;
	m->state = QMP_RUNNING;
	return 0;
}

static int dump(void *arg, const char *path, struct qmp_wait *wait, struct error *err)
{
	struct machine_fake *m = arg;

	m->dumps++;
	snprintf(m->dump_path, sizeof(m->dump_path), "%s", path);
	return begin(m, wait, err);
}

static void dump_state(void *arg, struct qmp_dump *ret_dump)
{
	struct machine_fake *m = arg;

	*ret_dump = (struct qmp_dump){m->dumps ? "completed" : "none", m->dumps, m->dumps};
}

static int report(void *arg, struct qmp_wait *wait, struct error *err)
{
	wait->ret = json_pack("{s:[]}", "vcpus");
	return begin(arg, wait, err);
}

static json_t *stats(void *arg)
{
	return json_pack("{s:{s:i}}", "exits", "total", (int)((struct machine_fake *)arg)->nmis);
}

static int snapshot(void *arg, const struct qmp_snapshot *request, struct qmp_wait *wait,
		    struct error *err)
{
	struct machine_fake *m = arg;

	m->snapshots++;
	m->kept += request->keep_running;
	m->packed += request->lz4;
	snprintf(m->dump_path, sizeof(m->dump_path), "%s", request->path);
	snprintf(m->base_path, sizeof(m->base_path), "%s", request->base ?: "");
	return begin(m, wait, err);
}

static void cancel(struct qmp_wait *wait)
{
	struct machine_fake *m = wait->arg;

	m->cancels++;
	machine_fake_finish(m, NULL);
}

static int profile(void *arg, unsigned hz, uint64_t duration_ns, struct qmp_wait *wait,
		   struct error *err)
{
	wait->ret = json_pack("{s:{s:i, s:I}}", "profile", "hz", (int)hz, "duration_ns",
			      (json_int_t)duration_ns);
	wait->cancel = cancel;
	wait->arg = arg;
	return begin(arg, wait, err);
}

static int nmi(void *arg, struct error *err)
{
	(void)err;
	((struct machine_fake *)arg)->nmis++;
	return 0;
}

static int quit(void *arg, struct error *err)
{
	(void)err;
	((struct machine_fake *)arg)->quits++;
	return 0;
}

static int reset(void *arg, struct error *err)
{
	(void)err;
	((struct machine_fake *)arg)->resets++;
	return 0;
}

#define ASKING .name = name, .state = state, .cpu_count = cpu_count, .cpu = cpu, .status = status

const struct qmp_ops machine_fake_ops = {
	ASKING,
	.freeze = freeze,
	.thaw = thaw,
	.dump = dump,
	.dump_state = dump_state,
	.stats = stats,
	.report = report,
	.nmi = nmi,
	.quit = quit,
	.reset = reset,
	.snapshot = snapshot,
	.profile = profile,
};
const struct qmp_ops machine_fake_bare_ops = {ASKING};

void machine_fake_init(struct machine_fake *m)
{
	*m = (struct machine_fake){.state = QMP_RUNNING, .cpus = 4};
}
