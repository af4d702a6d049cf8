/* Windows of a profile. Control thread. */
#include "vm/windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

int windows_new(unsigned vcpus, struct windows **ret_w)
{
	struct windows *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct windows){
		.vcpus = vcpus,
		.room = WINDOWS_MAX,
		.series = (unsigned)WINDOWS_VCPU + 2 * vcpus,
		.length_ns = WINDOWS_LENGTH_NS,
	};
	while (w->room > 2 && w->room * vcpus > WINDOWS_CELLS_MAX)
		w->room /= 2;
	/* Lazily backed: what stays empty costs nothing. */
	w->window = calloc(w->room, sizeof(*w->window));
	w->cell = calloc((size_t)w->room * vcpus, sizeof(*w->cell));
	w->count = calloc((size_t)w->room * w->series, sizeof(*w->count));
	if (!w->window || !w->cell || !w->count) {
		windows_free(w);
		return -ENOMEM;
	}
	*ret_w = w;
	return 0;
}

void windows_free(struct windows *w)
{
	if (!w)
		return;
	free(w->window);
	free(w->cell);
	free(w->count);
	free(w);
}

/* ---- adding up --------------------------------------------------------------------------- */

/* to[i] is from[2 i] and the one behind it, of n numbers each; the second half is empty then. */
static void merge(uint64_t *numbers, size_t n, unsigned room)
{
	for (unsigned i = 0; i < room / 2; i++)
		for (size_t k = 0; k < n; k++)
			numbers[i * n + k] = numbers[2 * i * n + k] + numbers[(2 * i + 1) * n + k];
	memset(numbers + room / 2 * n, 0, room / 2 * n * sizeof(*numbers));
}

void windows_reach(struct windows *w, uint64_t at_ns)
{
	_Static_assert(sizeof(struct window) % sizeof(uint64_t) == 0 &&
			       sizeof(struct windows_vcpu) % sizeof(uint64_t) == 0,
		       "numbers");
	while (at_ns / w->length_ns >= w->room) {
		merge(&w->window->user, sizeof(*w->window) / sizeof(uint64_t), w->room);
		merge(&w->cell->user, w->vcpus * sizeof(*w->cell) / sizeof(uint64_t), w->room);
		merge(w->count, w->series, w->room);
		w->length_ns *= 2;
		w->used = (w->used + 1) / 2;
	}
	w->used = MAX(w->used, (unsigned)(at_ns / w->length_ns) + 1);
}

void windows_add(struct windows *w, uint64_t at_ns, unsigned vcpu, enum sample_kind kind,
		 enum sched_class class, uint64_t weight)
{
	struct window *window;
	struct windows_vcpu *cell;

	windows_reach(w, at_ns);
	window = &w->window[at_ns / w->length_ns];
	cell = &w->cell[at_ns / w->length_ns * w->vcpus + vcpu];
	switch (kind) {
	case SAMPLE_IDLE:
		window->idle += weight;
		cell->idle += weight;
		break;
	case SAMPLE_USER:
		window->user += weight;
		cell->user += weight;
		break;
	case SAMPLE_KERNEL:
		window->kernel += weight;
		window->class[class] += weight;
		cell->kernel += weight;
		cell->scheduling += class == SCHED_IS_NONE ? 0 : weight;
		break;
	}
}

void windows_count(struct windows *w, unsigned series, uint64_t from_ns, uint64_t to_ns, uint64_t n)
{
	uint64_t span = to_ns - from_ns, given = 0;

	if (from_ns >= to_ns) {
		windows_reach(w, to_ns);
		w->count[to_ns / w->length_ns * w->series + series] += n;
		return;
	}
	windows_reach(w, to_ns - 1);
	for (uint64_t i = from_ns / w->length_ns; given < n; i++) {
		uint64_t end_ns = MIN((i + 1) * w->length_ns, to_ns);
		uint64_t until = (uint64_t)((unsigned __int128)n * (end_ns - from_ns) / span);

		w->count[i * w->series + series] += until - given;
		given = until;
	}
}

uint64_t windows_counted(const struct windows *w, unsigned window, unsigned series)
{
	return w->count[(size_t)window * w->series + series];
}

/* ---- what is told ------------------------------------------------------------------------ */

static json_t *ns_json(uint64_t weight, unsigned hz)
{
	return json_integer((json_int_t)sample_ns(weight, hz));
}

static json_t *classes_json(const struct window *window, unsigned hz)
{
	json_t *json = json_object();

	for (unsigned c = 0; c < SCHED_CLASSES; c++)
		json_object_set_new(json, sched_class_name(c), ns_json(window->class[c], hz));
	return json;
}

static json_t *vcpus_json(const struct windows *w, unsigned i, unsigned hz)
{
	json_t *list = json_array();

	for (unsigned vcpu = 0; vcpu < w->vcpus; vcpu++) {
		const struct windows_vcpu *v = &w->cell[(size_t)i * w->vcpus + vcpu];

		json_array_append_new(list,
				      json_pack("[o, o, o, o]", ns_json(v->user, hz),
						ns_json(v->kernel, hz), ns_json(v->scheduling, hz),
						ns_json(v->idle, hz)));
	}
	return list;
}

static json_t *window_json(const struct windows *w, unsigned i, unsigned hz, uint64_t begin_ns)
{
	const struct window *window = &w->window[i];
	json_t *json = json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "begin_ns",
				 (json_int_t)(begin_ns + i * w->length_ns), "idle_ns",
				 ns_json(window->idle, hz), "user_ns", ns_json(window->user, hz),
				 "kernel_ns", ns_json(window->kernel, hz), "classes",
				 classes_json(window, hz), "vcpus", vcpus_json(w, i, hz), "exits",
				 (json_int_t)windows_counted(w, i, WINDOWS_EXITS), "out_ns",
				 (json_int_t)windows_counted(w, i, WINDOWS_OUT_NS));

	if (json && w->has_queues)
		json_object_set_new(json, "switches",
				    json_integer(
					    (json_int_t)windows_counted(w, i, WINDOWS_SWITCHES)));
	if (json && w->has_wakeups)
		json_object_set_new(json, "wakeups",
				    json_integer(
					    (json_int_t)windows_counted(w, i, WINDOWS_WAKEUPS)));
	return json;
}

json_t *windows_json(struct windows *w, unsigned hz, uint64_t duration_ns, uint64_t begin_ns)
{
	json_t *list = json_array();

	if (duration_ns)
		windows_reach(w, duration_ns - 1);
	for (unsigned i = 0; i < w->used; i++)
		json_array_append_new(list, window_json(w, i, hz, begin_ns));
	return json_pack("{s:I, s:I, s:o}", "length_ns", (json_int_t)w->length_ns, "begin_ns",
			 (json_int_t)begin_ns, "list", list);
}
