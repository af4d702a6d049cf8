/* Expressions over the guest's kernel: SYMBOL[[N]] and .FIELD or ->FIELD after it. Any thread. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "base/parse.h"
#include "inspect/inspect.h"

#define STEPS_MAX   16
#define NAME_ROOM   128
#define SUGGEST_MAX 4096 /* members that are looked at for the nearest name */

/* ---- the text -------------------------------------------------------------------------- */

struct step {
	char name[NAME_ROOM];
	bool follows; /* "->" stands before it */
	bool indexed;
	uint64_t index;
};

struct path {
	struct step step[STEPS_MAX]; /* the first is the symbol's or the struct's */
	unsigned count;
};

static bool name_char(char c)
{
	/* The dots of GCC's clones (foo.isra.0) can't be told from a field's: no such symbol. */
	return isalnum((unsigned char)c) || c == '_' || c == '$';
}

/* One name and its index; returns what follows, NULL if it is written wrong. */
static const char *parse_step(const char *at, struct step *s)
{
	size_t len = 0;
	char *end;

	while (name_char(at[len]))
		len++;
	if (!len || len >= sizeof(s->name) || isdigit((unsigned char)at[0]))
		return NULL;
	memcpy(s->name, at, len);
	s->name[len] = '\0';
	at += len;
	if (*at != '[')
		return at;
	if (!isdigit((unsigned char)at[1]))
		return NULL;
	errno = 0;
	s->index = strtoull(at + 1, &end, 0);
	s->indexed = true;
	return errno || *end != ']' ? NULL : end + 1;
}

static int parse_path(const char *text, struct path *p, struct error *err)
{
	const char *at = text;

	*p = (struct path){0};
	for (;;) {
		struct step *s = &p->step[p->count];

		if (p->count == STEPS_MAX)
			return error_usage(err, "%s has more than %d steps", text, STEPS_MAX);
		if (p->count) {
			s->follows = *at == '-';
			at += s->follows ? 2 : 1;
		}
		at = parse_step(at, s);
		if (!at)
			break;
		p->count++;
		if (!*at)
			return 0;
		if (*at != '.' && !(at[0] == '-' && at[1] == '>'))
			break;
	}
	return error_usage(err, "\"%s\" is not SYMBOL[.FIELD|->FIELD|[N]]...", text);
}

/* ---- suggestions ----------------------------------------------------------------------- */

struct words {
	const char *word[SUGGEST_MAX];
	size_t count;
};

static bool add_word(const char *name, const struct types_value *v UNUSED, void *arg)
{
	struct words *w = arg;

	w->word[w->count++] = name;
	return w->count < SUGGEST_MAX;
}

static int no_member(const struct inspect *in, const struct types_value *of, const char *name,
		     struct error *err)
{
	struct words *w = err ? calloc(1, sizeof(*w)) : NULL;
	const char *nearest = NULL;
	int rc = error_usage(err, "%s has no member %s", types_name(in->types, of), name);

	if (w) {
		types_members(in->types, of, add_word, w);
		nearest = parse_nearest(name, w->word, w->count);
	}
	if (nearest)
		error_hint(err, "did you mean %s?", nearest);
	free(w);
	return rc;
}

/* ---- steps over types ------------------------------------------------------------------ */

/* The step's member of v, and its element, into v; offsets add up. */
static int take_member(const struct inspect *in, const struct step *s, struct types_value *v,
		       struct error *err)
{
	struct types_value m;
	int rc = types_member(in->types, v, s->name, &m);

	if (rc == -ENOENT)
		return no_member(in, v, s->name, err);
	if (rc < 0)
		return error_usage(err,
				   v->is_pointer ? "what has the field %s is a pointer: use ->"
						 : "what should have the field %s is no struct",
				   s->name);
	m.offset += v->offset;
	*v = m;
	return 0;
}

static int take_element(const struct inspect *in, const struct step *s, struct types_value *v,
			struct error *err)
{
	struct types_value e;
	int rc;

	if (!s->indexed)
		return 0;
	rc = types_element(in->types, v, s->index, &e);
	if (rc == -ERANGE)
		return error_usage(err, "%s has no element %llu", s->name,
				   (unsigned long long)s->index);
	if (rc < 0)
		return error_usage(err, "%s is no array", s->name);
	e.offset += v->offset;
	*v = e;
	return 0;
}

static int lacks_types(const struct inspect *in, struct error *err)
{
	error_usage(err, "fields need type information: %s", in->types_lack.what);
	return -EINVAL;
}

int inspect_member(const struct inspect *in, const char *path, struct types_value *ret_v,
		   struct error *err)
{
	struct types_value v;
	struct path p;
	int rc = parse_path(path, &p, err);

	if (rc < 0)
		return rc;
	if (!in->types)
		return lacks_types(in, err);
	if (types_struct(in->types, p.step[0].name, &v))
		return error_usage(err, "the guest's kernel has no struct %s", p.step[0].name);
	if (p.step[0].indexed)
		return error_usage(err, "%s is no array", p.step[0].name);
	for (unsigned i = 1; i < p.count; i++) {
		if (p.step[i].follows)
			return error_usage(err, "a place in a struct can't follow a pointer: %s",
					   path);
		rc = take_member(in, &p.step[i], &v, err);
		if (rc == 0)
			rc = take_element(in, &p.step[i], &v, err);
		if (rc < 0)
			return rc;
	}
	*ret_v = v;
	return 0;
}

/* ---- places ---------------------------------------------------------------------------- */

/* Globals that BTF says nothing of and that are asked for all the time. */
static const struct known {
	const char *symbol, *tag; /* tag NULL: a number */
	bool is_pointer;
	unsigned size;
} known[] = {
	{"init_task", "task_struct", false, 0},
	{"init_mm", "mm_struct", false, 0},
	{"scx_root", "scx_sched", true, 8},	     /* from 6.16 */
	{"scx_ops", "sched_ext_ops", false, 0},	     /* until 6.15 */
	{"scx_exit_kind", NULL, false, 4},	     /* until 6.15: atomic_t */
	{"scx_exit_info", "scx_exit_info", true, 8}, /* until 6.15 */
	{"jiffies_64", NULL, false, 8},		     /* u64 */
	{"jiffies", NULL, false, 8},		     /* unsigned long */
	{"nr_cpu_ids", NULL, false, 4},
};

/* A symbol's type. *ret_pointer: v is what the symbol points to, for which BTF has no pointer. */
static int symbol_type(const struct inspect *in, const struct path *p, struct types_value *v,
		       bool *ret_pointer, struct error *err)
{
	const char *symbol = p->step[0].name;
	const struct step *field = p->count > 1 ? &p->step[1] : NULL;
	int rc;

	*ret_pointer = false;
	*v = (struct types_value){0};
	if (in->types && !types_variable(in->types, symbol, v))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i].symbol, symbol))
			continue;
		v->size = known[i].size;
		if (!known[i].tag || !in->types || types_struct(in->types, known[i].tag, v))
			break;
		*ret_pointer = known[i].is_pointer;
		return 0;
	}
	if (!field)
		return 0;
	if (!in->types)
		return lacks_types(in, err);
	rc = types_struct_with(in->types, field->name, v);
	*ret_pointer = field->follows;
	if (rc == -ENOTUNIQ)
		return error_usage(err, "the type of %s isn't known, and several have a field %s",
				   symbol, field->name);
	if (rc < 0)
		return error_usage(err, "the type of %s isn't known, and none has a field %s",
				   symbol, field->name);
	return 0;
}

static bool is_percpu(const struct inspect *in, uint64_t gva)
{
	uint64_t start, end;

	return !kallsyms_address(&in->symbols, "__per_cpu_start", &start) &&
	       !kallsyms_address(&in->symbols, "__per_cpu_end", &end) && gva >= start && gva < end;
}

static int follow(const struct inspect *in, const char *expr, struct inspect_place *place,
		  struct error *err)
{
	uint64_t to;

	if (place->pointers == INSPECT_MAX_POINTERS)
		return error_usage(err, "%s follows more than %d pointers", expr,
				   INSPECT_MAX_POINTERS);
	if (space_read_uint(&in->space, place->gva, 8, &to))
		return error_set(err, -EFAULT, "reading a pointer of %s", expr);
	place->pointer_gva[place->pointers] = place->gva;
	place->pointer[place->pointers++] = to;
	if (!to)
		return error_set(err, -EFAULT, "following a null pointer of %s", expr);
	place->gva = to;
	return 0;
}

/* place is at what the symbol names; v is its type, or (pointed) of what it points to. */
static int walk_steps(const struct inspect *in, const char *expr, const struct path *p,
		      bool pointed, struct inspect_place *place, struct error *err)
{
	struct types_value *v = &place->value;

	for (unsigned i = 1; i < p->count; i++) {
		const struct step *s = &p->step[i];
		int rc = 0;

		if (pointed && !s->follows)
			return error_usage(err, "what has the field %s is a pointer: use ->",
					   s->name);
		if (s->follows) {
			if (!pointed && types_pointee(in->types, v, v))
				return error_usage(err,
						   "what has the field %s is no pointer: use .",
						   s->name);
			rc = follow(in, expr, place, err);
		}
		pointed = false;
		if (rc == 0)
			rc = take_member(in, s, v, err);
		if (rc == 0)
			rc = take_element(in, s, v, err);
		if (rc < 0)
			return rc;
		place->gva += v->offset;
		v->offset = 0;
	}
	return 0;
}

int inspect_place(const struct inspect *in, const char *expr, unsigned cpu,
		  struct inspect_place *ret_place, struct error *err)
{
	struct inspect_place place = {0};
	struct path p;
	bool pointed = false;
	uint64_t gpa;
	int rc = parse_path(expr, &p, err);

	if (rc == 0 && inspect_symbol(in, p.step[0].name, &place.gva, err))
		rc = -EINVAL;
	if (rc == 0)
		rc = symbol_type(in, &p, &place.value, &pointed, err);
	if (rc < 0)
		return rc;
	if (is_percpu(in, place.gva)) {
		rc = inspect_percpu(in, place.gva, cpu, &place.gva);
		if (rc < 0)
			return error_set(err, rc, "finding %s of CPU %u", p.step[0].name, cpu);
	}
	if (p.step[0].indexed) {
		if (!in->types)
			return lacks_types(in, err);
		rc = take_element(in, &p.step[0], &place.value, err);
		if (rc < 0)
			return rc;
		place.gva += place.value.offset;
		place.value.offset = 0;
	}
	rc = walk_steps(in, expr, &p, pointed, &place, err);
	if (rc == 0 && space_translate(&in->space, place.gva, &gpa))
		rc = error_set(err, -EFAULT, "finding %s", expr);
	if (rc == -EFAULT) {
		memcpy(ret_place->pointer_gva, place.pointer_gva, sizeof(place.pointer_gva));
		memcpy(ret_place->pointer, place.pointer, sizeof(place.pointer));
		ret_place->pointers = place.pointers;
	}
	if (rc < 0)
		return rc;
	if (pointed && p.count == 1) /* the pointer itself */
		place.value = (struct types_value){.size = 8, .is_pointer = true};
	*ret_place = place;
	return 0;
}
