/* Makes a failure dump. Control thread. Numbers that may have 64 bits are texts in hexadecimal,
 * which no reader of JSON rounds; times and counts are numbers. */
#include "freeze/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "inspect/dispatch.h"
#include "inspect/sched.h"
#include "inspect/stack.h"

/* The guest's kernel as one dump sees it. */
struct view {
	const struct inspect *in; /* NULL: nothing is known */
	struct code *code;
	struct sched *sched;
	struct lacks lacks;
	struct stack stack; /* scratch; large */
};

static json_t *hex(uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	return json_string(text);
}

/* A text of the guest's. What is no UTF-8 can't be in JSON. Cut to what names are. */
static json_t *guest_text(const char *text)
{
	json_t *json = json_string(text);
	char ascii[1024];
	size_t n = 0;

	if (json)
		return json;
	for (; text[n] && n < sizeof(ascii) - 1; n++)
		ascii[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
	ascii[n] = '\0';
	return json_string(ascii);
}

/* ---- what fired ----------------------------------------------------------------------------- */

static json_t *watch_json(const struct dump_cause *cause)
{
	json_t *watch = json_object();

	json_object_set_new(watch, "expression", json_string(cause->watch));
	json_object_set_new(watch, "address", hex(cause->gva));
	json_object_set_new(watch, "bytes", json_integer(cause->bytes));
	json_object_set_new(watch, "before",
			    cause->before_known ? json_integer((json_int_t)cause->before)
						: json_null());
	json_object_set_new(watch, "after", json_integer((json_int_t)cause->after));
	json_object_set_new(watch, "vcpu",
			    cause->vcpu < 0 ? json_null() : json_integer(cause->vcpu));
	json_object_set_new(watch, "polled", json_boolean(cause->polled));
	return watch;
}

/* ---- the vCPUs --------------------------------------------------------------------------------
 */

static void add_register(const char *name, uint64_t value, void *arg)
{
	json_object_set_new(arg, name, hex(value));
}

static void add_number(const char *name, int64_t value, void *arg)
{
	json_object_set_new(arg, name, json_integer(value));
}

static void add_text(const char *name, const char *value, void *arg)
{
	json_object_set_new(arg, name, guest_text(value));
}

static struct sched_sink sink_to(json_t *object)
{
	return (struct sched_sink){.number = add_number, .text = add_text, .arg = object};
}

/* The kernel stack; that of a vCPU in user mode is empty. */
static void add_stack(struct view *v, const struct vcpu *vcpu, json_t *json)
{
	json_t *frames = json_array();
	char symbol[KALLSYMS_NAME_MAX + 64];
	struct arch_unwind at;

	v->stack.count = 0;
	v->stack.complete = true;
	if (arch_vcpu_in_kernel(vcpu->state)) {
		arch_vcpu_unwind(vcpu->state, &at);
		stack_walk(v->code, v->in, &at, &v->stack);
		code_format(v->code, at.pc, false, symbol, sizeof(symbol));
		json_object_set_new(json, "symbol", guest_text(symbol));
	}
	for (unsigned i = 0; i < v->stack.count; i++) {
		const struct stack_frame *f = &v->stack.frame[i];

		code_format(v->code, f->pc, f->back, symbol, sizeof(symbol));
		json_array_append_new(frames,
				      json_pack("{s:o, s:o, s:s}", "symbol", guest_text(symbol),
						"address", hex(f->pc), "by", stack_by_name(f->by)));
	}
	json_object_set_new(json, "stack", frames);
	json_object_set_new(json, "stack_complete", json_boolean(v->stack.complete));
}

/* Takes part over: into json, or away where it has nothing. */
static void add_part(json_t *json, const char *name, json_t *part, bool is_there)
{
	json_object_set_new(json, name, is_there ? part : json_null());
	if (!is_there)
		json_decref(part);
}

/* Linux numbers its CPUs as they are in the tables, which is how vCPUs are numbered. */
static void add_sched(struct view *v, const struct vcpu *vcpu, json_t *json)
{
	json_t *task = json_object(), *queue = json_object(), *ext = json_object();
	struct sched_sink to_task = sink_to(task), to_queue = sink_to(queue), to_ext = sink_to(ext);
	uint64_t current = arch_vcpu_task(vcpu->state);

	add_part(json, "task", task, sched_task(v->sched, vcpu->index, current, &to_task));
	add_part(json, "run_queue", queue, sched_queue(v->sched, vcpu->index, &to_queue));
	add_part(json, "scx", ext, sched_queue_ext(v->sched, vcpu->index, &to_ext));
}

static json_t *vcpu_json(struct view *v, const struct vcpu *vcpu)
{
	json_t *json = json_object();

	json_object_set_new(json, "index", json_integer(vcpu->index));
	json_object_set_new(json, "id", json_integer(vcpu->id));
	if (vcpu->capture_error < 0) {
		json_object_set_new(json, "error", json_string(strerror(-vcpu->capture_error)));
		return json;
	}
	json_object_set_new(json, "mode",
			    json_string(arch_vcpu_in_kernel(vcpu->state) ? "kernel" : "user"));
	arch_vcpu_registers(vcpu->state, add_register, json);
	if (v->in) {
		add_stack(v, vcpu, json);
		add_sched(v, vcpu, json);
	}
	return json;
}

/* ---- the guest's kernel ------------------------------------------------------------------------
 */

/* NULL: out of memory. */
static struct view *view_new(const struct inspect *in)
{
	struct view *v = calloc(1, sizeof(*v));

	if (!v || !in)
		return v;
	v->in = in;
	if (code_open(in, &v->lacks, &v->code) < 0 || sched_open(in, &v->lacks, &v->sched) < 0) {
		code_free(v->code);
		free(v);
		return NULL;
	}
	return v;
}

static void view_free(struct view *v)
{
	sched_free(v->sched);
	code_free(v->code);
	free(v);
}

static void add_dispatch(struct view *v, json_t *ext)
{
	struct dispatch_queue queue[DISPATCH_QUEUES_MAX];
	struct dispatch dispatch;
	json_t *list = json_array();
	unsigned n;
	bool cut;

	dispatch_find(v->in, &v->lacks, &dispatch);
	n = dispatch_look(&dispatch, queue, ARRAY_SIZE(queue), &cut);
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "kind",
						      queue[i].global ? "global" : "user",
						      queue[i].global ? "node" : "id",
						      (json_int_t)queue[i].id, "tasks",
						      (json_int_t)queue[i].tasks));
	json_object_set_new(ext, "queues", list);
	json_object_set_new(ext, "queues_cut", json_boolean(cut));
}

static json_t *ext_json(struct view *v)
{
	json_t *ext = json_object(), *events = json_object();
	struct sched_sink to_ext = sink_to(ext), to_events = sink_to(events);

	if (!sched_ext(v->sched, &to_ext)) {
		json_decref(ext);
		json_decref(events);
		return json_null();
	}
	add_part(ext, "events", events, sched_ext_events(v->sched, &to_events));
	add_dispatch(v, ext);
	return ext;
}

static json_t *lacks_json(const struct view *v)
{
	json_t *lacks = json_array();

	if (!v->in->types)
		json_array_append_new(lacks, json_string(v->in->types_lack.what));
	for (unsigned i = 0; i < v->lacks.count; i++)
		json_array_append_new(lacks, json_string(v->lacks.what[i]));
	return lacks;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

json_t *dump_make(const struct dump_config *c)
{
	const struct freeze *f = c->freeze;
	json_t *dump = json_object(), *vcpus = json_array(), *late = json_array();
	const char *release =
		c->inspect && c->inspect->release[0] ? c->inspect->release : c->release;
	struct view *v = view_new(c->inspect);

	if (!v || !dump || !vcpus || !late)
		goto no_memory;
	for (unsigned i = 0; i < vcpu_pool_count(c->pool); i++) {
		struct vcpu *vcpu = vcpu_pool_get(c->pool, i);

		if (vcpu_has_parked(vcpu))
			json_array_append_new(vcpus, vcpu_json(v, vcpu));
		else
			json_array_append_new(late, json_integer(i));
	}
	json_object_set_new(dump, "stasis", json_string(STASIS_VERSION));
	json_object_set_new(dump, "arch", json_string(arch_name));
	json_object_set_new(dump, "cause", json_string(c->cause->name));
	json_object_set_new(dump, "watch", c->cause->watch ? watch_json(c->cause) : json_null());
	json_object_set_new(dump, "kernel", json_pack("{s:s?}", "release", release));
	json_object_set_new(dump, "guest_time_ns", json_integer((json_int_t)f->clock.guest_ns));
	json_object_set_new(dump, "rendezvous_ns",
			    json_integer((json_int_t)f->report.rendezvous_ns));
	json_object_set_new(dump, "frozen_ns",
			    json_integer(f->parked ? (json_int_t)(now_ns() - f->parked_ns) : 0));
	json_object_set_new(dump, "not_parked", late);
	if (c->inspect) {
		json_object_set_new(dump, "scx", ext_json(v));
		json_object_set_new(dump, "lacks", lacks_json(v));
	} else {
		json_object_set_new(dump, "kernel_unknown", json_string(c->inspect_lack ?: ""));
	}
	json_object_set_new(dump, "vcpus", vcpus);
	view_free(v);
	return dump;
no_memory:
	if (v)
		view_free(v);
	json_decref(dump);
	json_decref(vcpus);
	json_decref(late);
	return NULL;
}
