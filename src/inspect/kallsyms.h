/* The guest kernel's own symbol table, copied out of its memory once. Any thread; afterwards
 * nothing of it depends on the guest. The layout (scripts/kallsyms.c of Linux 6.12):
 *
 *   kallsyms_num_syms       u32
 *   kallsyms_names          for each symbol, by address: length (1 byte, or 2: 7 bits + rest), then
 *                           as many bytes, each a token's number. Its first character is the type.
 *   kallsyms_token_table    256 NUL-terminated texts; kallsyms_token_index: u16[256], their places
 *   kallsyms_offsets        s32 for each symbol; kallsyms_relative_base: u64
 */
#ifndef STASIS_INSPECT_KALLSYMS_H
#define STASIS_INSPECT_KALLSYMS_H

#include "inspect/space.h"
#include "inspect/vmcoreinfo.h"

/* Far above what any kernel has; a table that says more is not one. */
#define KALLSYMS_MAX_SYMBOLS (1u << 20)
#define KALLSYMS_NAME_MAX    512 /* with its NUL; longer ones are cut, as the kernel does */

struct kallsyms_entry {
	uint64_t address; /* of a per-CPU variable: its offset, where per-CPU data starts at 0 */
	uint32_t name;	  /* place in names */
	char type;	  /* as nm prints it */
	bool absolute;	  /* no place in the kernel's image */
};

struct kallsyms {
	struct kallsyms_entry *entry; /* ascending addresses */
	unsigned count;
	uint32_t *by_name; /* numbers of entries; ascending by name, then by number */
	char *names;	   /* count NUL-terminated texts; printable */
};

struct kallsyms_hit {
	const char *name; /* lives as long as the table */
	uint64_t offset;  /* from the symbol, bytes */
	uint64_t size;	  /* to the next symbol; 0: unknown */
};

/* On failure err says what is wrong, and nothing is left. -ENODATA: the kernel does not say where
 * its tables are (before 6.0, or built without); -EBADMSG: they make no sense. */
int kallsyms_load(const struct space *s, const struct vmcoreinfo *info, struct kallsyms *ret_k,
		  struct error *err) MUST_CHECK;
void kallsyms_done(struct kallsyms *k); /* accepts a zeroed object */

/* A symbol from elsewhere; the name is copied. */
struct kallsyms_extra {
	uint64_t address;
	const char *name;
	char type;
	bool absolute;
};
/* Adds those of count that are not there by name and address; they come after what was there, where
 * the address is the same. -ENOMEM, -E2BIG: none is added. */
int kallsyms_add(struct kallsyms *k, const struct kallsyms_extra *extra, size_t count) MUST_CHECK;

/* The first symbol of that name. -ENOENT. */
int kallsyms_address(const struct kallsyms *k, const char *name, uint64_t *ret_address) MUST_CHECK;
/* The same; 0: there is none. */
static inline uint64_t kallsyms_address_or_0(const struct kallsyms *k, const char *name)
{
	uint64_t address;

	return kallsyms_address(k, name, &address) ? 0 : address;
}
/* The symbol that gva is in: the first of several at one address. */
bool kallsyms_name(const struct kallsyms *k, uint64_t gva, struct kallsyms_hit *ret_hit);
/* The name most like this one, or NULL. Slow: for an error's text. */
const char *kallsyms_nearest(const struct kallsyms *k, const char *name);

#endif
