/* BTF lookups. libbpf checks sizes and that strings end; ids and cycles are checked here. */
#include "inspect/types.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_MAX   32	  /* typedefs and qualifiers in a row; a longer chain is a cycle */
#define NESTING_MAX 16	  /* members without a name inside one another */
#define SEARCH_MAX  65536 /* members looked at in one search, nesting and all */

struct types {
	struct btf *btf;
	/* What is asked for by name, by kind, name and number: libbpf would look at every type. */
	uint32_t *named;
	size_t named_count;
};

/* ---- by name, all of them -------------------------------------------------------------- */

/* More than any kernel has (with all its modules some 200,000), and longer than its names: a
 * hostile guest's may be 64 MiB of either. */
#define TYPES_MAX     (1u << 20)
#define TYPE_NAME_MAX 128

static bool is_asked_for(const struct types *t, const struct btf_type *type)
{
	const char *name = btf__name_by_offset(t->btf, type->name_off);

	if (!name || !name[0] || strnlen(name, TYPE_NAME_MAX) == TYPE_NAME_MAX)
		return false;
	return (btf_is_struct(type) || btf_is_union(type) || btf_is_var(type) ||
		btf_kind(type) == BTF_KIND_ENUM);
}

static int compare_name(const struct types *t, const struct btf_type *type, unsigned kind,
			const char *name)
{
	const char *own = btf__name_by_offset(t->btf, type->name_off);

	if (btf_kind(type) != kind)
		return btf_kind(type) < kind ? -1 : 1;
	return strcmp(own ? own : "", name);
}

static int by_name(const void *a, const void *b, void *arg)
{
	const struct types *t = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	const struct btf_type *type = btf__type_by_id(t->btf, y);
	const char *name = btf__name_by_offset(t->btf, type->name_off);
	int order = compare_name(t, btf__type_by_id(t->btf, x), btf_kind(type), name ? name : "");

	return order ? order : x < y ? -1 : x > y;
}

static bool sort_names(struct types *t)
{
	uint32_t count = MIN(btf__type_cnt(t->btf), TYPES_MAX);

	t->named = calloc((size_t)count + 1, sizeof(*t->named));
	if (!t->named)
		return false;
	for (uint32_t id = 1; id < count; id++)
		if (is_asked_for(t, btf__type_by_id(t->btf, id)))
			t->named[t->named_count++] = id;
	qsort_r(t->named, t->named_count, sizeof(*t->named), by_name, t);
	return true;
}

/* The first of that kind and name; 0: none. */
static uint32_t find_named(const struct types *t, const char *name, unsigned kind)
{
	size_t low = 0, high = t->named_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (compare_name(t, btf__type_by_id(t->btf, t->named[mid]), kind, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < t->named_count && *name &&
			       compare_name(t, btf__type_by_id(t->btf, t->named[low]), kind,
					    name) == 0
		       ? t->named[low]
		       : 0;
}

/* ---- loading --------------------------------------------------------------------------- */

int types_new(const void *blob, size_t len, struct types **ret_t, struct error *err)
{
	struct btf_header head;
	struct types *t;

	if (len < sizeof(head) || len > TYPES_BLOB_MAX)
		return error_set(err, -EBADMSG, "the guest's BTF has %zu bytes", len);
	memcpy(&head, blob, sizeof(head));
	/* libbpf would also take a foreign byte order, and a head that misaligns the types. */
	if (head.magic != BTF_MAGIC || head.hdr_len % 4 || head.type_off % 4)
		return error_set(err, -EBADMSG, "reading the head of the guest's BTF");
	t = calloc(1, sizeof(*t));
	if (!t)
		return error_set_shortage(err, -ENOMEM, "reading the guest's BTF");
	/* It would print its opinion of a hostile blob. */
	libbpf_set_print(NULL);
	t->btf = btf__new(blob, (__u32)len);
	if (!t->btf) {
		int rc = errno == ENOMEM ? -ENOMEM : -EBADMSG;

		free(t);
		return error_set_shortage(err, rc, "reading the guest's BTF");
	}
	if (!sort_names(t)) {
		types_free(t);
		return error_set_shortage(err, -ENOMEM, "reading the guest's BTF");
	}
	*ret_t = t;
	return 0;
}

void types_free(struct types *t)
{
	if (!t)
		return;
	btf__free(t->btf);
	free(t->named);
	free(t);
}

/* ---- one type -------------------------------------------------------------------------- */

/* NULL for void, an unknown id, or a chain without an end. */
static const struct btf_type *resolve(const struct types *t, uint32_t *id)
{
	for (unsigned i = 0; i < CHAIN_MAX; i++) {
		const struct btf_type *type = *id ? btf__type_by_id(t->btf, *id) : NULL;

		if (!type)
			break;
		if (!btf_is_mod(type) && !btf_is_typedef(type) && !btf_is_type_tag(type))
			return type;
		*id = type->type;
	}
	return NULL;
}

static bool is_array(const struct btf_type *type)
{
	return type && btf_is_array(type);
}

/* Bytes of a type; 0: unknown. Arrays of arrays multiply, at most CHAIN_MAX deep. */
static uint64_t size_of(const struct types *t, uint32_t id)
{
	uint64_t count = 1;

	for (unsigned i = 0; i < CHAIN_MAX; i++) {
		const struct btf_type *type = resolve(t, &id);
		uint64_t size;

		if (is_array(type)) {
			if (__builtin_mul_overflow(count, btf_array(type)->nelems, &count))
				return 0;
			id = btf_array(type)->type;
			continue;
		}
		if (!type)
			return 0;
		if (btf_is_ptr(type))
			size = 8;
		else if (btf_is_int(type) || btf_is_any_enum(type) || btf_is_composite(type) ||
			 btf_is_float(type))
			size = type->size;
		else
			return 0;
		return __builtin_mul_overflow(size, count, &size) ? 0 : size;
	}
	return 0;
}

static struct types_value value_of(const struct types *t, uint32_t id, uint64_t offset)
{
	const struct btf_type *type = resolve(t, &id);
	struct types_value v = {.offset = offset, .size = size_of(t, id)};

	if (!type)
		return v; /* void, or as good as */
	v.type = id;
	v.is_pointer = btf_is_ptr(type);
	if (btf_is_int(type)) {
		v.is_signed = btf_int_encoding(type) & BTF_INT_SIGNED;
		unsigned bits = btf_int_bits(type), first = btf_int_offset(type);

		/* Before kind_flag, bit fields had an integer type of their own. */
		if (bits && bits < 8 * v.size && v.size <= 8 && first + bits <= 8 * v.size) {
			v.bit_offset = (uint8_t)first;
			v.bit_size = (uint8_t)bits;
		}
	} else if (btf_is_any_enum(type)) {
		v.is_signed = btf_kflag(type);
	}
	return v;
}

static const char *name_at(const struct types *t, uint32_t name_off)
{
	const char *name = btf__name_by_offset(t->btf, name_off);

	return name && strnlen(name, TYPES_NAME_MAX) < TYPES_NAME_MAX ? name : "";
}

const char *types_name(const struct types *t, const struct types_value *v)
{
	const struct btf_type *type = v->type ? btf__type_by_id(t->btf, v->type) : NULL;

	return type ? name_at(t, type->name_off) : "";
}

/* ---- by name --------------------------------------------------------------------------- */

int types_struct(const struct types *t, const char *tag, struct types_value *ret_v)
{
	uint32_t id = find_named(t, tag, BTF_KIND_STRUCT);

	if (!id)
		id = find_named(t, tag, BTF_KIND_UNION);
	if (!id)
		return -ENOENT;
	*ret_v = value_of(t, id, 0);
	return 0;
}

int types_variable(const struct types *t, const char *name, struct types_value *ret_v)
{
	uint32_t id = find_named(t, name, BTF_KIND_VAR);
	const struct btf_type *type = id ? btf__type_by_id(t->btf, id) : NULL;

	if (!type)
		return -ENOENT;
	*ret_v = value_of(t, type->type, 0);
	return 0;
}

/* -1: value is in no 32-bit enumeration. */
static int32_t find_enumerator(const struct btf_type *type, int64_t value)
{
	const struct btf_enum *e = btf_enum(type);

	for (uint32_t i = 0; i < btf_vlen(type); i++)
		if (btf_kflag(type) ? e[i].val == value : (uint32_t)e[i].val == value)
			return (int32_t)e[i].name_off;
	return -1;
}

/* Those of 64 bits are for flags; a kernel's kinds and states are none. */
const char *types_enumerator(const struct types *t, const char *tag, int64_t value)
{
	uint32_t id = find_named(t, tag, BTF_KIND_ENUM);
	const struct btf_type *type = id ? btf__type_by_id(t->btf, id) : NULL;
	int32_t name = type ? find_enumerator(type, value) : -1;

	return name < 0 ? NULL : name_at(t, (uint32_t)name);
}

/* ---- members --------------------------------------------------------------------------- */

/* visit returns true to stop. member's place: bits from the start of the outermost. */
struct walk {
	bool (*visit)(struct walk *w, const char *name, const struct btf_type *in, uint32_t index,
		      uint64_t bits);
	const struct types *types;
	unsigned left; /* members that may still be looked at */
	const char *name;
	struct types_value found;
	bool (*each)(const char *name, const struct types_value *v, void *arg);
	void *arg;
};

static bool walk_members(struct walk *w, const struct btf_type *in, uint64_t bits, unsigned depth)
{
	const struct btf_member *m = btf_members(in);

	for (uint32_t i = 0; i < btf_vlen(in); i++) {
		const char *name = name_at(w->types, m[i].name_off);
		uint64_t at = bits + btf_member_bit_offset(in, i);
		uint32_t id = m[i].type;
		const struct btf_type *type;

		if (!w->left)
			return false;
		w->left--;
		if (name[0]) {
			if (w->visit(w, name, in, i, at))
				return true;
			continue;
		}
		type = resolve(w->types, &id);
		if (type && btf_is_composite(type) && depth < NESTING_MAX &&
		    walk_members(w, type, at, depth + 1))
			return true;
	}
	return false;
}

static const struct btf_type *composite(const struct types *t, uint32_t id)
{
	const struct btf_type *type = resolve(t, &id);

	return type && btf_is_composite(type) ? type : NULL;
}

/* A member's value; false: it can't be one of C's. */
static bool member_value(const struct types *t, const struct btf_type *in, uint32_t index,
			 uint64_t bits, struct types_value *ret_v)
{
	uint32_t bit_size = btf_member_bitfield_size(in, index);
	struct types_value v = value_of(t, btf_members(in)[index].type, bits / 8);

	if (bit_size || bits % 8) {
		uint64_t unit = 8 * MIN(v.size, 8u);

		/* Counted from the unit of the member's type that it lies in. */
		if (!unit || v.size > 8)
			return false;
		v.offset = bits / unit * (unit / 8);
		v.bit_offset = (uint8_t)(bits % unit);
		if (bit_size)
			v.bit_size = (uint8_t)bit_size;
		/* Over the end of its unit it is no bit field of C. */
		if (v.bit_size && v.bit_offset + v.bit_size > unit)
			return false;
	}
	*ret_v = v;
	return true;
}

static bool visit_find(struct walk *w, const char *name, const struct btf_type *in, uint32_t index,
		       uint64_t bits)
{
	return !strcmp(name, w->name) && member_value(w->types, in, index, bits, &w->found);
}

int types_member(const struct types *t, const struct types_value *of, const char *name,
		 struct types_value *ret_v)
{
	const struct btf_type *type = composite(t, of->type);
	struct walk w = {.visit = visit_find, .types = t, .left = SEARCH_MAX, .name = name};

	if (!type)
		return -ENOTDIR;
	if (!walk_members(&w, type, 0, 0))
		return -ENOENT;
	*ret_v = w.found;
	return 0;
}

static bool visit_each(struct walk *w, const char *name, const struct btf_type *in, uint32_t index,
		       uint64_t bits)
{
	struct types_value v;

	return member_value(w->types, in, index, bits, &v) && !w->each(name, &v, w->arg);
}

void types_members(const struct types *t, const struct types_value *of,
		   bool (*each)(const char *name, const struct types_value *v, void *arg),
		   void *arg)
{
	const struct btf_type *type = composite(t, of->type);
	struct walk w = {.visit = visit_each,
			 .types = t,
			 .left = SEARCH_MAX,
			 .each = each,
			 .arg = arg};

	if (type)
		walk_members(&w, type, 0, 0);
}

int types_struct_with(const struct types *t, const char *member, struct types_value *ret_v)
{
	uint32_t count = btf__type_cnt(t->btf), found = 0;

	for (uint32_t id = 1; id < count; id++) {
		const struct btf_type *type = btf__type_by_id(t->btf, id);
		const struct btf_member *m;

		if (!type || !btf_is_struct(type) || !name_at(t, type->name_off)[0])
			continue;
		m = btf_members(type);
		for (uint32_t i = 0; i < btf_vlen(type); i++) {
			if (strcmp(name_at(t, m[i].name_off), member))
				continue;
			if (found)
				return -ENOTUNIQ;
			found = id;
			break;
		}
	}
	if (!found)
		return -ENOENT;
	*ret_v = value_of(t, found, 0);
	return 0;
}

int types_element(const struct types *t, const struct types_value *of, uint64_t index,
		  struct types_value *ret_v)
{
	uint32_t id = of->type;
	const struct btf_type *type = resolve(t, &id);
	struct types_value v;

	if (!is_array(type))
		return -ENOTDIR;
	if (index >= btf_array(type)->nelems)
		return -ERANGE;
	v = value_of(t, btf_array(type)->type, 0);
	/* Elements of unknown size have no places but the first. */
	if ((!v.size && index) || __builtin_mul_overflow(v.size, index, &v.offset))
		return -ERANGE;
	*ret_v = v;
	return 0;
}

int types_pointee(const struct types *t, const struct types_value *of, struct types_value *ret_v)
{
	uint32_t id = of->type;
	const struct btf_type *type = resolve(t, &id);

	if (!type || !btf_is_ptr(type))
		return -ENOTDIR;
	*ret_v = value_of(t, type->type, 0);
	return 0;
}
