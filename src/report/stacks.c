/* A profile's stacks as a tree, for a flame graph. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "report/parts.h"

#define NO_NODE UINT32_MAX
/* A frame of less than so much of all is narrower than a tenth of a pixel. */
#define LEAST_PART 10000u

struct stack {
	const json_t *frames;
	uint32_t depth;
	uint64_t weight;
};

struct node {
	uint64_t total, self;
	uint32_t frame, parent;
	uint32_t number; /* in the page; NO_NODE: not there */
};

struct tree {
	struct stack *stack;
	struct node *node;
	uint32_t *number; /* of each frame in the page; NO_NODE: none yet */
	size_t stacks, nodes, names;
	uint64_t total;
};

static uint32_t frame_at(const struct stack *s, uint32_t i)
{
	return (uint32_t)json_integer_value(json_array_get(s->frames, i));
}

/* Stacks that begin alike lie side by side, and no stack before one that it goes on from. */
static int by_frames(const void *a, const void *b)
{
	const struct stack *x = a, *y = b;

	for (uint32_t i = 0; i < x->depth && i < y->depth; i++) {
		uint32_t p = frame_at(x, i), q = frame_at(y, i);

		if (p != q)
			return p < q ? -1 : 1;
	}
	return x->depth < y->depth ? -1 : x->depth > y->depth;
}

/* NULL, or what is wrong. */
static const char *read_stack(struct tree *t, const json_t *frames, const json_t *weight)
{
	struct stack *s = &t->stack[t->stacks];

	if (!json_is_array(frames) || !json_is_integer(weight) || json_integer_value(weight) < 0)
		return "a stack is no list of frames with a weight";
	*s = (struct stack){frames, (uint32_t)MIN(json_array_size(frames), REPORT_DEPTH),
			    (uint64_t)json_integer_value(weight)};
	for (uint32_t i = 0; i < s->depth; i++) {
		const json_t *frame = json_array_get(frames, i);

		if (!json_is_integer(frame) || json_integer_value(frame) < 0 ||
		    (uint64_t)json_integer_value(frame) >= t->names)
			return "a stack has a frame that is not there";
	}
	/* Sums stay within JSON's integers. */
	if (s->weight > INT64_MAX - t->total)
		return "its weights are beyond measure";
	t->total += s->weight;
	t->stacks += s->depth && s->weight;
	return NULL;
}

static const char *read_stacks(struct tree *t, const json_t *samples, const json_t *weights)
{
	for (size_t i = 0; i < json_array_size(samples); i++) {
		const char *why =
			read_stack(t, json_array_get(samples, i), json_array_get(weights, i));

		if (why)
			return why;
	}
	return t->stacks ? NULL : "it has no stacks";
}

static int add_node(struct tree *t, size_t *room, uint32_t frame, uint32_t parent)
{
	if (t->nodes == *room) {
		size_t more = *room ? 2 * *room : 1024;
		struct node *node =
			more < NO_NODE ? reallocarray(t->node, more, sizeof(*node)) : NULL;

		if (!node)
			return -1;
		t->node = node;
		*room = more;
	}
	t->node[t->nodes++] = (struct node){.frame = frame, .parent = parent, .number = NO_NODE};
	return 0;
}

/* Of stacks in order: what a stack shares with the one before it is there. */
static const char *build(struct tree *t)
{
	uint32_t path[REPORT_DEPTH], depth = 0;
	size_t room = 0;

	qsort(t->stack, t->stacks, sizeof(*t->stack), by_frames);
	for (size_t i = 0; i < t->stacks; i++) {
		const struct stack *s = &t->stack[i];
		uint32_t shared = 0;

		while (shared < depth && shared < s->depth &&
		       t->node[path[shared]].frame == frame_at(s, shared))
			shared++;
		for (depth = shared; depth < s->depth; depth++) {
			if (add_node(t, &room, frame_at(s, depth),
				     depth ? path[depth - 1] : NO_NODE) < 0)
				return "out of memory";
			path[depth] = (uint32_t)(t->nodes - 1);
		}
		for (uint32_t k = 0; k < depth; k++)
			t->node[path[k]].total += s->weight;
		t->node[path[depth - 1]].self += s->weight;
	}
	return NULL;
}

/* From how much on a node is in the page, so that there are not too many. */
static uint64_t least(const struct tree *t)
{
	uint64_t least = MAX(t->total / LEAST_PART, 1u);
	size_t n;

	for (;; least *= 2) {
		n = 0;
		for (size_t i = 0; i < t->nodes; i++)
			n += t->node[i].total >= least;
		if (n <= REPORT_NODES || least > INT64_MAX / 2)
			return least;
	}
}

static void append(json_t *list, int64_t n)
{
	json_array_append_new(list, json_integer(n));
}

/* Where the frame has none, or a foreign program wrote the file: "". */
static json_t *class_of(const json_t *frame)
{
	json_t *class = json_object_get(frame, "stasisClass");

	return json_is_string(class) ? report_string(class, REPORT_NAME) : json_string("");
}

static void put_nodes(struct tree *t, uint64_t least, const json_t *frames, json_t *names,
		      json_t *classes, json_t *nodes)
{
	uint32_t count = 0;

	for (size_t i = 0; i < t->nodes; i++) {
		struct node *node = &t->node[i];

		if (node->total < least)
			continue;
		if (t->number[node->frame] == NO_NODE) {
			json_t *name = json_object_get(json_array_get(frames, node->frame), "name");

			t->number[node->frame] = (uint32_t)json_array_size(names);
			json_array_append_new(names, json_is_string(name)
							     ? report_string(name, REPORT_NAME)
							     : json_string("?"));
			json_array_append_new(classes,
					      class_of(json_array_get(frames, node->frame)));
		}
		node->number = count++;
		append(nodes, t->number[node->frame]);
		append(nodes, node->parent == NO_NODE ? -1 : (int64_t)t->node[node->parent].number);
		append(nodes, (int64_t)node->total);
		append(nodes, (int64_t)node->self);
	}
}

static json_t *stacks_json(struct tree *t, const json_t *frames)
{
	uint64_t from = least(t);
	json_t *names = json_array(), *classes = json_array(), *nodes = json_array();

	put_nodes(t, from, frames, names, classes, nodes);
	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:I}", "total_ns", (json_int_t)t->total,
			 "stacks", (json_int_t)t->stacks, "frames", names, "classes", classes,
			 "nodes", nodes, "least_ns", (json_int_t)from);
}

json_t *report_stacks(const json_t *speedscope, const char **ret_why)
{
	const json_t *frames = json_object_get(json_object_get(speedscope, "shared"), "frames");
	const json_t *profile = json_array_get(json_object_get(speedscope, "profiles"), 0);
	const json_t *samples = json_object_get(profile, "samples");
	const json_t *weights = json_object_get(profile, "weights");
	const char *unit = json_string_value(json_object_get(profile, "unit"));
	struct tree t = {.names = json_array_size(frames)};
	json_t *json = NULL;

	if (!json_is_array(samples) || !json_is_array(weights) ||
	    json_array_size(samples) != json_array_size(weights)) {
		*ret_why = "it is no sampled profile";
		return NULL;
	}
	if (!unit || strcmp(unit, "nanoseconds") != 0) {
		*ret_why = "it is not in nanoseconds";
		return NULL;
	}
	*ret_why = "out of memory";
	t.stack = calloc(json_array_size(samples) + 1, sizeof(*t.stack));
	t.number = malloc((t.names + 1) * sizeof(*t.number));
	if (t.stack && t.number) {
		memset(t.number, 0xff, (t.names + 1) * sizeof(*t.number));
		*ret_why = read_stacks(&t, samples, weights);
		if (!*ret_why)
			*ret_why = build(&t);
		if (!*ret_why)
			json = stacks_json(&t, frames);
	}
	free(t.stack);
	free(t.number);
	free(t.node);
	return json;
}
