/* Makes a failure dump. Control thread. Numbers that may have 64 bits are texts in hexadecimal,
 * which no reader of JSON rounds; times and counts are numbers. */
#include "freeze/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

static json_t *hex(uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	return json_string(text);
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

static json_t *vcpu_json(const struct dump_config *c, const struct vcpu *vcpu)
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
	if (c->inspect && arch_vcpu_in_kernel(vcpu->state)) {
		char symbol[KALLSYMS_NAME_MAX];

		inspect_format(c->inspect, arch_vcpu_pc(vcpu->state), symbol, sizeof(symbol));
		json_object_set_new(json, "symbol", json_string(symbol));
	}
	return json;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

json_t *dump_make(const struct dump_config *c)
{
	const struct freeze *f = c->freeze;
	json_t *dump = json_object(), *vcpus = json_array(), *late = json_array();
	const char *release =
		c->inspect && c->inspect->release[0] ? c->inspect->release : c->release;

	for (unsigned i = 0; i < vcpu_pool_count(c->pool); i++) {
		struct vcpu *vcpu = vcpu_pool_get(c->pool, i);

		if (vcpu_has_parked(vcpu))
			json_array_append_new(vcpus, vcpu_json(c, vcpu));
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
	if (!c->inspect)
		json_object_set_new(dump, "kernel_unknown", json_string(c->inspect_lack ?: ""));
	json_object_set_new(dump, "vcpus", vcpus);
	return dump;
}
