/* The tables of a profile. Control thread. */
#include "vm/profile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/util.h"

#define PLACES	   16384u /* a power of two */
#define NAME_BYTES 192

/* ---- making ------------------------------------------------------------------------------ */

static int index_new(struct profile_index *x, uint32_t most)
{
	uint32_t slots = 1;

	while (slots < 2 * most)
		slots *= 2;
	x->slot = calloc(slots, sizeof(*x->slot));
	x->mask = slots - 1;
	return x->slot ? 0 : -ENOMEM;
}

int profile_new(unsigned vcpus, struct profile **ret_profile)
{
	struct profile *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->vcpus = vcpus;
	p->vcpu = calloc(vcpus, sizeof(*p->vcpu));
	/* Lazily backed: what stays empty costs nothing. */
	p->function = calloc(PROFILE_FUNCTIONS_MAX, sizeof(*p->function));
	p->stack = calloc(PROFILE_STACKS_MAX, sizeof(*p->stack));
	p->task = calloc(PROFILE_TASKS_MAX, sizeof(*p->task));
	p->place = calloc(PLACES, sizeof(*p->place));
	if (windows_new(vcpus, &p->windows) < 0 || !p->vcpu || !p->function || !p->stack ||
	    !p->task || !p->place || index_new(&p->by_name, PROFILE_FUNCTIONS_MAX) ||
	    index_new(&p->by_stack, PROFILE_STACKS_MAX) ||
	    index_new(&p->by_task, PROFILE_TASKS_MAX)) {
		profile_free(p);
		return -ENOMEM;
	}
	*ret_profile = p;
	return 0;
}

void profile_free(struct profile *p)
{
	if (!p)
		return;
	for (uint32_t i = 0; i < p->functions; i++)
		free(p->function[i].name);
	free(p->vcpu);
	windows_free(p->windows);
	free(p->function);
	free(p->stack);
	free(p->task);
	free(p->frames);
	free(p->place);
	free(p->by_name.slot);
	free(p->by_stack.slot);
	free(p->by_task.slot);
	free(p);
}

/* ---- tables ------------------------------------------------------------------------------ */

/* The slot of what same() is true of, or the empty one for it. Tables are at most half full. */
static uint32_t *find(const struct profile *p, const struct profile_index *x, uint64_t hash,
		      bool (*same)(const struct profile *p, uint32_t number, const void *key),
		      const void *key)
{
	uint32_t at = (uint32_t)hash & x->mask;

	while (x->slot[at] && !same(p, x->slot[at] - 1, key))
		at = (at + 1) & x->mask;
	return &x->slot[at];
}

static bool same_name(const struct profile *p, uint32_t number, const void *key)
{
	return !strcmp(p->function[number].name, key);
}

static uint32_t *function_slot(struct profile *p, const char *name)
{
	return find(p, &p->by_name, XXH3_64bits(name, strlen(name)), same_name, name);
}

/* Whether it stands for what finds no room. */
static bool is_rest(const char *name)
{
	return !strcmp(name, PROFILE_KERNEL_REST) || !strcmp(name, PROFILE_USER_REST);
}

/* PROFILE_NONE: no memory. */
static uint32_t function_of(struct profile *p, const char *name)
{
	uint32_t *slot = function_slot(p, name);
	struct profile_function *f;

	/* The last two are for those. */
	if (!*slot && p->functions >= PROFILE_FUNCTIONS_MAX - 2 && !is_rest(name)) {
		name = PROFILE_KERNEL_REST;
		slot = function_slot(p, name);
	}
	if (*slot)
		return *slot - 1;
	f = &p->function[p->functions];
	f->name = strdup(name);
	if (!f->name)
		return PROFILE_NONE;
	f->class = (uint8_t)sched_class_of(name);
	*slot = ++p->functions;
	return *slot - 1;
}

static bool same_task(const struct profile *p, uint32_t number, const void *key)
{
	const struct profile_task *task = &p->task[number], *wanted = key;

	return task->pid == wanted->pid && !memcmp(task->comm, wanted->comm, sizeof(task->comm));
}

/* Threads that took another name meanwhile count twice, by each. */
static uint32_t task_of(struct profile *p, const struct sample *sample)
{
	struct profile_task key = {.pid = sample->pid};
	uint32_t *slot;

	if (!sample->has_task)
		return PROFILE_NONE;
	snprintf(key.comm, sizeof(key.comm), "%.*s", (int)sizeof(key.comm) - 1, sample->comm);
	slot = find(p, &p->by_task,
		    XXH3_64bits_withSeed(key.comm, sizeof(key.comm), (uint32_t)key.pid), same_task,
		    &key);
	if (*slot)
		return *slot - 1;
	if (p->tasks == PROFILE_TASKS_MAX) {
		p->lost_tasks += sample->weight;
		return PROFILE_NONE;
	}
	p->task[p->tasks] = key;
	*slot = ++p->tasks;
	return *slot - 1;
}

struct stack_key {
	uint64_t hash;
	uint32_t root, count;
	bool user;
	const uint32_t *frames;
};

static bool same_stack(const struct profile *p, uint32_t number, const void *arg)
{
	const struct profile_stack *s = &p->stack[number];
	const struct stack_key *key = arg;

	return s->hash == key->hash && s->root == key->root && s->user == key->user &&
	       s->count == key->count &&
	       !memcmp(p->frames + s->from, key->frames, key->count * sizeof(*key->frames));
}

static bool room_for(struct profile *p, uint32_t count)
{
	size_t room = p->frame_room ? p->frame_room : 4096;
	uint32_t *frames;

	while (room < p->frame_count + count)
		room *= 2;
	if (room == p->frame_room)
		return true;
	frames = reallocarray(p->frames, room, sizeof(*frames));
	if (!frames)
		return false;
	p->frames = frames;
	p->frame_room = room;
	return true;
}

static uint64_t hash_of(const struct stack_key *key)
{
	return XXH3_64bits_withSeed(key->frames, key->count * sizeof(*key->frames),
				    (uint64_t)key->root << 1 | key->user);
}

static void add_stack(struct profile *p, struct stack_key *key, enum sched_class class,
		      uint64_t weight)
{
	uint32_t *slot = find(p, &p->by_stack, key->hash, same_stack, key), rest;
	struct profile_stack *s;

	if (!*slot && key->user && p->user_stacks == PROFILE_USER_STACKS_MAX) {
		rest = function_of(p, PROFILE_USER_REST);
		key->frames = &rest;
		key->count = rest != PROFILE_NONE;
		key->hash = hash_of(key);
		slot = find(p, &p->by_stack, key->hash, same_stack, key);
	} else if (!*slot && key->user) {
		p->user_stacks++;
	}
	if (key->user && key->count == 1 &&
	    !strcmp(p->function[key->frames[0]].name, PROFILE_USER_REST))
		p->user_rest += weight;
	if (*slot) {
		p->stack[*slot - 1].weight += weight;
		return;
	}
	if (p->stacks == PROFILE_STACKS_MAX || !room_for(p, key->count)) {
		p->lost_stacks += weight;
		return;
	}
	s = &p->stack[p->stacks];
	*s = (struct profile_stack){
		.hash = key->hash,
		.weight = weight,
		.root = key->root,
		.from = (uint32_t)p->frame_count,
		.count = key->count,
		.class = (uint8_t) class,
		.user = key->user,
	};
	memcpy(p->frames + p->frame_count, key->frames, key->count * sizeof(*key->frames));
	p->frame_count += key->count;
	*slot = ++p->stacks;
}

/* ---- a sample ---------------------------------------------------------------------------- */

static uint32_t by_number(struct profile *p, uint64_t address)
{
	char name[24];

	snprintf(name, sizeof(name), "0x%" PRIx64, address);
	return function_of(p, name);
}

static uint32_t of_user(struct profile *p, uint64_t address)
{
	uint32_t before = p->functions, number;
	char name[24];

	snprintf(name, sizeof(name), "0x%" PRIx64, address);
	if (p->user_functions == PROFILE_USER_FUNCTIONS_MAX && !*function_slot(p, name))
		return function_of(p, PROFILE_USER_REST);
	number = function_of(p, name);
	if (p->functions > before) {
		p->function[number].user = true;
		p->user_functions++;
	}
	return number;
}

static uint32_t of_kernel(struct profile *p, uint32_t kernel, uint64_t gva)
{
	struct profile_place *place = &p->place[XXH3_64bits(&gva, sizeof(gva)) % PLACES];
	char name[NAME_BYTES] = "";

	if (!kernel || !p->name || !gva)
		return by_number(p, gva);
	if (place->gva == gva && place->kernel == kernel)
		return place->function;
	p->name(kernel, gva, name, sizeof(name), p->arg);
	*place = (struct profile_place){gva, kernel,
					name[0] ? function_of(p, name) : by_number(p, gva)};
	return place->function;
}

/* Those for whose names there is no memory are left out of a stack. */
static uint32_t frames_of(struct profile *p, const struct sample *sample,
			  uint32_t frames[SAMPLE_FRAMES], uint8_t class_of[SAMPLE_FRAMES])
{
	unsigned most = MIN(sample->frames, SAMPLE_FRAMES);
	uint32_t n = 0;

	for (unsigned i = 0; i < most; i++) {
		uint32_t f = sample->kind == SAMPLE_USER
				     ? of_user(p, sample->frame[i])
				     : of_kernel(p, sample->kernel, sample->frame[i]);

		if (f == PROFILE_NONE)
			continue;
		class_of[n] = p->function[f].class;
		frames[n++] = f;
	}
	return n;
}

static void add_busy(struct profile *p, struct profile_vcpu *v, const struct sample *sample,
		     const uint32_t *frames, uint32_t count, enum sched_class class)
{
	uint32_t task = task_of(p, sample);
	struct stack_key key = {
		.root = task == PROFILE_NONE ? PROFILE_NONE : function_of(p, p->task[task].comm),
		.count = count,
		.user = sample->kind == SAMPLE_USER,
		.frames = frames,
	};

	key.hash = hash_of(&key);
	if (key.user) {
		v->user += sample->weight;
	} else {
		v->kernel += sample->weight;
		if (sample->kernel && !sample->complete)
			v->cut += sample->weight;
		v->class[class] += sample->weight;
	}
	if (task != PROFILE_NONE) {
		p->task[task].busy += sample->weight;
		if (class != SCHED_IS_NONE)
			p->task[task].scheduling += sample->weight;
	}
	if (count)
		p->function[frames[0]].self += sample->weight;
	add_stack(p, &key, class, sample->weight);
}

bool profile_add(struct profile *p, unsigned vcpu, const struct sample *sample)
{
	struct profile_vcpu *v = &p->vcpu[vcpu];
	uint8_t class_of[SAMPLE_FRAMES];
	uint32_t frames[SAMPLE_FRAMES], count = 0;
	enum sched_class class = SCHED_IS_NONE, waits = SCHED_IS_NONE;
	/* One that was due before the start is of the start. */
	uint64_t at_ns = sample->at_ns - MIN(p->since_ns, sample->at_ns);

	v->samples++;
	if (sample->kind != SAMPLE_IDLE)
		count = frames_of(p, sample, frames, class_of);
	if (sample->kind == SAMPLE_KERNEL)
		waits = sched_waits_for(class_of, count);
	/* Where KVM does not say that it halted, its place does; where KVM does, its place says
	 * that it was not for want of work. */
	if (sample->kind == SAMPLE_IDLE || waits == SCHED_IS_IDLE ||
	    (sample->halted && waits != SCHED_IS_LOCK)) {
		v->idle += sample->weight;
		windows_add(p->windows, at_ns, vcpu, SAMPLE_IDLE, class, sample->weight);
		return false;
	}
	if (sample->kind == SAMPLE_KERNEL)
		class = sched_class_of_stack(class_of, count);
	if (waits == SCHED_IS_LOCK)
		v->lock += sample->weight;
	windows_add(p->windows, at_ns, vcpu, sample->kind, class, sample->weight);
	add_busy(p, v, sample, frames, count, class);
	return true;
}

/* ---- sums -------------------------------------------------------------------------------- */

void profile_sum(const struct profile *p, struct profile_vcpu *ret_sum)
{
	*ret_sum = (struct profile_vcpu){0};
	for (unsigned i = 0; i < p->vcpus; i++) {
		const struct profile_vcpu *v = &p->vcpu[i];

		ret_sum->samples += v->samples;
		ret_sum->idle += v->idle;
		ret_sum->user += v->user;
		ret_sum->kernel += v->kernel;
		ret_sum->lock += v->lock;
		ret_sum->cut += v->cut;
		for (unsigned c = 0; c < SCHED_CLASSES; c++)
			ret_sum->class[c] += v->class[c];
	}
}

uint64_t profile_scheduling(const struct profile_vcpu *v)
{
	return v->kernel - v->class[SCHED_IS_NONE];
}
