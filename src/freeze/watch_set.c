/* What is watched, and what it stands for now. Control thread. */
#include "freeze/watch_set.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

/* ---- finding -----------------------------------------------------------------------------------
 */

/* The machine's kernel, however it can be reached. */
struct ground {
	const struct guest_memory *mem;
	const struct inspect *in; /* or NULL */
	struct space space;
	struct guest_reader reader;
};

static const uint8_t *host_of(const struct ground *g, uint64_t gva, unsigned bytes)
{
	uint64_t gpa;

	return space_translate(&g->space, gva, &gpa) == 0 ? guest_ptr(g->mem, gpa, bytes) : NULL;
}

/* slot watches [gva, gva + bytes) from now on. -EFAULT: nothing is there. */
static int settle(struct watch_slot *slot, const struct ground *g, enum watch_state state,
		  uint64_t gva, unsigned bytes)
{
	const uint8_t *host = host_of(g, gva, bytes);

	if (!host || (gva & (bytes - 1)) || !arch_kernel_address(gva))
		return -EFAULT;
	slot->state = state;
	/* What was stored since it was looked at last is not forgotten. */
	if (slot->gva != gva || slot->host != host || slot->bytes != bytes)
		slot->last = watch_load(host, bytes);
	slot->gva = gva;
	slot->bytes = bytes;
	slot->host = host;
	return 0;
}

static int check_value(const struct watch_expr *e, uint64_t gva, const struct types_value *v,
		       unsigned *ret_bytes, struct error *err)
{
	uint64_t bytes = e->bytes ? e->bytes : v->size;

	if (!bytes)
		return error_usage(err, "--watch %s: its type is not known; say its size: %s:BYTES",
				   e->text, e->place);
	if (v->bit_size)
		return error_usage(err, "--watch %s: a bit field; watch %s:BYTES with &", e->text,
				   e->place);
	if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
		return error_usage(err,
				   "--watch %s: has %llu bytes; 1, 2, 4 or 8 can be watched: name "
				   "a field of it, or %s:BYTES",
				   e->text, (unsigned long long)bytes, e->place);
	if (gva % bytes)
		return error_usage(err, "--watch %s: at 0x%llx, which is not aligned to %llu bytes",
				   e->text, (unsigned long long)gva, (unsigned long long)bytes);
	if (!arch_kernel_address(gva))
		return error_usage(err,
				   "--watch %s: leads to user memory (0x%llx); only the kernel's "
				   "can be watched",
				   e->text, (unsigned long long)gva);
	if (!watch_expr_can_pass(e, (unsigned)bytes))
		return error_usage(err, "--watch %s: a value of %llu bytes never passes this",
				   e->text, (unsigned long long)bytes);
	*ret_bytes = (unsigned)bytes;
	return 0;
}

/* The pointers on the way, which are looked at now and then. */
static void settle_via(struct watch_slot *slot, const struct ground *g)
{
	for (unsigned i = 0; i < slot->place.pointers; i++)
		slot->via[i] = slot->place.pointer_gva[i] % 8
				       ? NULL
				       : host_of(g, slot->place.pointer_gva[i], 8);
}

/* A pointer on the way leads nowhere: that pointer is watched. */
static int settle_on_pointer(struct watch_slot *slot, const struct ground *g, struct error *err)
{
	const struct inspect_place *p = &slot->place;

	if (p->pointers && settle(slot, g, WATCH_POINTER, p->pointer_gva[p->pointers - 1], 8) == 0)
		return 0;
	return error_usage(err, "--watch %s: nothing is mapped there", slot->expr->text);
}

/* A scheduler that is gone leaves its kind behind, in memory that is freed soon. */
static bool is_over(const struct watch_set *set, const struct watch_slot *slot)
{
	return slot == &set->slot[WATCH_SLOT_SCX] && slot->place.pointers &&
	       watch_load(slot->host, slot->bytes) == SCX_KIND_DONE;
}

static int resolve_place(struct watch_set *set, struct watch_slot *slot, const struct ground *g,
			 struct error *err)
{
	const struct watch_expr *e = slot->expr;
	struct error inner = {0};
	unsigned bytes = 0;
	int r = inspect_place(g->in, e->place, 0, &slot->place, &inner);

	settle_via(slot, g);
	if (r == -EFAULT)
		return settle_on_pointer(slot, g, err);
	if (r < 0) {
		error_usage(err, "--watch %s: %s", e->text, inner.what);
		if (inner.hint[0])
			error_hint(err, "%s", inner.hint);
		return -EINVAL;
	}
	r = check_value(e, slot->place.gva, &slot->place.value, &bytes, err);
	if (r < 0)
		return r;
	if (settle(slot, g, WATCH_VALUE, slot->place.gva, bytes) < 0)
		return error_usage(err, "--watch %s: not in RAM", e->text);
	return is_over(set, slot) ? settle_on_pointer(slot, g, err) : 0;
}

static int resolve_one(struct watch_set *set, struct watch_slot *slot, const struct ground *g,
		       struct error *err)
{
	const struct watch_expr *e = slot->expr;

	slot->place = (struct inspect_place){0};
	if (!e->place)
		return settle(slot, g, WATCH_VALUE, e->gva, e->bytes) < 0
			       ? error_usage(err, "--watch %s: nothing is mapped there", e->text)
			       : 0;
	if (!g->in)
		return error_usage(err, "--watch %s: no kernel was found that says its symbols",
				   e->text);
	return resolve_place(set, slot, g, err);
}

/* Until 6.15 one scheduler's exit kind was a global; since then each scheduler has its own. */
static int find_scx(struct watch_set *set, const struct inspect *in, struct error *err)
{
	static const char *const places[][2] = {{"scx_exit_kind", "scx_exit_kind:4>=1024"},
						{"scx_root", "scx_root->exit_kind:4>=1024"}};
	uint64_t gva;

	for (size_t i = 0; in && i < ARRAY_SIZE(places); i++)
		if (inspect_symbol(in, places[i][0], &gva, NULL) == 0)
			return watch_expr_parse(places[i][1], &set->scx, err);
	return error_usage(err, "--watch-scx: %s",
			   in ? "the guest's kernel has no sched_ext (CONFIG_SCHED_CLASS_EXT)"
			      : "no kernel was found that says its symbols");
}

int watch_set_resolve(struct watch_set *set, const struct inspect *in,
		      const struct arch_paging *paging, struct error *err)
{
	struct ground g = {.mem = set->config.mem, .in = in};
	int r = 0;

	guest_reader_init(&g.reader, set->config.mem);
	if (in)
		g.space = in->space;
	else
		g.space = (struct space){.mem = &g.reader, .paging = *paging};
	set->dirty = false;
	if (set->wants_scx && !set->slot[WATCH_SLOT_SCX].expr) {
		r = find_scx(set, in, err);
		if (r == 0)
			set->slot[WATCH_SLOT_SCX].expr = &set->scx;
	}
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		struct watch_slot *slot = &set->slot[n];
		uint64_t before = slot->gva;
		int one;

		if (!slot->expr || slot->state == WATCH_SPENT)
			continue;
		one = resolve_one(set, slot, &g, err);
		slot->rebinds += before && before != slot->gva;
		if (one < 0)
			slot->state = WATCH_SPENT;
		r = r < 0 ? r : one;
	}
	return r;
}

/* ---- arming --------------------------------------------------------------------------- */

static bool is_live(const struct watch_slot *slot)
{
	return slot->state == WATCH_VALUE || slot->state == WATCH_POINTER;
}

static bool has_pointers(const struct watch_set *set)
{
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (is_live(&set->slot[n]) && set->slot[n].place.pointers)
			return true;
	return false;
}

static void look_again(struct watch_set *set)
{
	bool any = has_pointers(set);
	uint64_t after_ns = set->config.polls ? WATCH_POLL_NS : WATCH_LOOK_NS;

	for (unsigned n = 0; set->config.polls && n < ARCH_WATCHES; n++)
		any = any || is_live(&set->slot[n]);
	/* Without a slot in the timers, pointers are not followed until the next freeze. */
	if (any)
		(void)!loop_timer_set(set->config.loop, &set->look, now_ns() + after_ns);
}

void watch_set_apply(struct watch_set *set)
{
	struct vcpu_pool *pool = set->config.pool;
	static const struct watch_test any = {.op = WATCH_ANY};

	for (unsigned n = 0; !set->config.polls && n < ARCH_WATCHES; n++) {
		struct watch_slot *slot = &set->slot[n];
		bool value = slot->state == WATCH_VALUE;

		vcpu_watch_withdraw(pool, n);
		if (!slot->expr || !is_live(slot))
			continue;
		vcpu_watch_publish(pool, n,
				   &(struct vcpu_watch){
					   .gva = slot->gva,
					   .bytes = slot->bytes,
					   .host = slot->host,
					   .test = value ? slot->expr->test : any,
					   /* The end of a scheduler is told of as well. */
					   .tell_all = n == WATCH_SLOT_SCX && slot->place.pointers,
				   });
	}
	look_again(set);
}

/* ---- what happens --------------------------------------------------------------------- */

static void now_stale(struct watch_set *set)
{
	if (set->dirty)
		return;
	set->dirty = true;
	set->config.stale(set);
}

void watch_set_exit(struct watch_set *set, uint32_t slots)
{
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		struct watch_slot *slot = &set->slot[n];
		const struct vcpu_watch_hit *hit =
			slots & 1u << n ? vcpu_watch_hit(set->config.pool, n) : NULL;

		if (!hit || !is_live(slot))
			continue;
		if (slot->state == WATCH_VALUE && hit->passed) {
			slot->hits++;
			set->config.hit(set, n, hit->before, hit->after, (int)hit->vcpu);
			continue;
		}
		if (slot->state == WATCH_POINTER || hit->after == SCX_KIND_DONE)
			now_stale(set);
		watch_set_go_on(set, n);
	}
}

void watch_set_go_on(struct watch_set *set, unsigned slot)
{
	vcpu_watch_unlatch(set->config.pool, slot);
}

void watch_set_spend(struct watch_set *set, unsigned slot)
{
	set->slot[slot].state = WATCH_SPENT;
}

/* ---- looking now and then ------------------------------------------------------------- */

static bool pointers_moved(const struct watch_slot *slot)
{
	for (unsigned i = 0; i < slot->place.pointers; i++)
		if (slot->via[i] && watch_load(slot->via[i], 8) != slot->place.pointer[i])
			return true;
	return false;
}

static void poll_one(struct watch_set *set, unsigned n)
{
	struct watch_slot *slot = &set->slot[n];
	uint64_t before = slot->last, after = watch_load(slot->host, slot->bytes);

	if (before == after)
		return;
	slot->last = after;
	if (slot->state == WATCH_POINTER || is_over(set, slot)) {
		now_stale(set);
	} else if (watch_test_passes(&slot->expr->test, after, slot->bytes)) {
		slot->hits++;
		set->config.hit(set, n, before, after, -1);
	}
}

static void on_look(struct loop_timer *t)
{
	struct watch_set *set = container_of(t, struct watch_set, look);

	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		struct watch_slot *slot = &set->slot[n];

		if (!slot->expr || !is_live(slot))
			continue;
		if (pointers_moved(slot))
			now_stale(set);
		else if (set->config.polls)
			poll_one(set, n);
	}
	look_again(set);
}

/* ---- life ----------------------------------------------------------------------------- */

int watch_set_init(struct watch_set *set, const struct watch_set_config *config, bool scx,
		   const struct watch_expr *user, unsigned user_count, struct error *err)
{
	if (user_count > WATCH_USER_MAX)
		return error_usage(err, "--watch: %d at most", WATCH_USER_MAX);
	if (!config->polls && user_count + scx > config->slots)
		return error_contention(err, "this host's CPUs have %u watchpoints, not %u",
					config->slots, user_count + scx);
	*set = (struct watch_set){
		.config = *config,
		.wants_scx = scx,
		.look = {.fire = on_look},
	};
	for (unsigned n = 0; n < user_count; n++)
		set->slot[WATCH_SLOT_SCX + 1 + n].expr = &user[n];
	return 0;
}

void watch_set_done(struct watch_set *set)
{
	if (!set->config.loop)
		return;
	loop_timer_clear(set->config.loop, &set->look);
	watch_expr_done(&set->scx);
	*set = (struct watch_set){0};
}
