/* Adds up looks at dispatch queues. */
#include "vm/dispatch_totals.h"

/* A queue that was here a moment ago is mostly where it was in the list. */
static struct dispatch_total *find(struct dispatch_totals *t, const struct dispatch_queue *q,
				   unsigned guess)
{
	for (unsigned i = 0; i < t->count; i++) {
		struct dispatch_total *at = &t->queue[(guess + i) % t->count];

		if (at->last.id == q->id && at->last.global == q->global)
			return at;
	}
	if (t->count == DISPATCH_TOTALS_MAX)
		return NULL;
	t->queue[t->count] = (struct dispatch_total){.last = *q};
	return &t->queue[t->count++];
}

void dispatch_totals_add(struct dispatch_totals *t, const struct dispatch_queue *queue, unsigned n,
			 bool cut)
{
	t->cut |= cut;
	for (unsigned i = 0; i < t->count; i++)
		t->queue[i].there = false;
	for (unsigned i = 0; i < n; i++) {
		struct dispatch_total *at = find(t, &queue[i], i);

		if (!at)
			t->cut = true;
		if (!at || at->there) /* twice in one look: it was moved */
			continue;
		at->there = true;
		at->last = queue[i];
		at->looks++;
		at->tasks_sum += queue[i].tasks;
		at->tasks_max = at->tasks_max > queue[i].tasks ? at->tasks_max : queue[i].tasks;
	}
}

json_t *dispatch_totals_json(const struct dispatch_totals *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->count; i++) {
		const struct dispatch_total *q = &t->queue[i];

		json_array_append_new(list,
				      json_pack("{s:s, s:I, s:I, s:I, s:f, s:I}", "kind",
						q->last.global ? "global" : "user",
						q->last.global ? "node" : "id",
						(json_int_t)q->last.id, "tasks",
						(json_int_t)(q->there ? q->last.tasks : 0),
						"tasks_max", (json_int_t)q->tasks_max, "tasks_mean",
						(double)q->tasks_sum / (double)q->looks, "looks",
						(json_int_t)q->looks));
	}
	return list;
}
