/* The guest kernel's types: BTF, read with libbpf from a copy. Any thread, one at a time.
 * The blob is the guest's: ids, names and sizes are checked at each step. */
#ifndef STASIS_INSPECT_TYPES_H
#define STASIS_INSPECT_TYPES_H

#include <stdbool.h>

#include "base/error.h"

#define TYPES_BLOB_MAX MIB(64)
#define TYPES_NAME_MAX 513 /* with its NUL; what has a longer name has none */

struct types;

/* A part of a type, or a type itself (offset 0). */
struct types_value {
	uint32_t type;	    /* BTF id, qualifiers and typedefs taken off; 0 is void */
	uint64_t offset;    /* from the start of what it was looked up in, bytes */
	uint64_t size;	    /* bytes; 0: unknown (void, a type of which only the name is known) */
	uint8_t bit_offset; /* of a bit field, from offset */
	uint8_t bit_size;   /* 0: no bit field */
	bool is_signed;
	bool is_pointer;
};

/* Copies the blob. On failure err says what is wrong. */
int types_new(const void *blob, size_t len, struct types **ret_t, struct error *err) MUST_CHECK;
void types_free(struct types *t); /* accepts NULL */

/* A struct or union by its tag. -ENOENT. */
int types_struct(const struct types *t, const char *tag, struct types_value *ret_v) MUST_CHECK;
/* A variable (a kernel's BTF has only the per-CPU ones). -ENOENT. */
int types_variable(const struct types *t, const char *name, struct types_value *ret_v) MUST_CHECK;
/* A member of the struct or union of; it may lie in members without a name. The offset counts
 * from of's start. -ENOENT: no such member; -ENOTDIR: of is no struct. */
int types_member(const struct types *t, const struct types_value *of, const char *name,
		 struct types_value *ret_v) MUST_CHECK;
/* Element index of an array. -ENOTDIR: of is no array; -ERANGE: past its end. */
int types_element(const struct types *t, const struct types_value *of, uint64_t index,
		  struct types_value *ret_v) MUST_CHECK;
/* What a pointer points to, at offset 0. -ENOTDIR: of is no pointer. */
int types_pointee(const struct types *t, const struct types_value *of,
		  struct types_value *ret_v) MUST_CHECK;
/* The only struct that has a member of that name by itself: for a global variable, of whose type
 * BTF says nothing. -ENOENT: none; -ENOTUNIQ: several. */
int types_struct_with(const struct types *t, const char *member,
		      struct types_value *ret_v) MUST_CHECK;
/* Calls each(name, v) for the members of of, those in members without a name too; v as types_member
 * gives it. At most 65536, and until each returns false. */
void types_members(const struct types *t, const struct types_value *of,
		   bool (*each)(const char *name, const struct types_value *v, void *arg),
		   void *arg);
/* What an enumeration calls a value; NULL: no such tag or value. Lives as long as t. */
const char *types_enumerator(const struct types *t, const char *tag, int64_t value);
/* The tag of a struct, the name of a base type; "" for what has none. Lives as long as t. */
const char *types_name(const struct types *t, const struct types_value *v);

#endif
