/* Reads the guest's kallsyms tables; every count, length and place in them is hostile. Any thread.
 */
#include "inspect/kallsyms.h"

#include <errno.h>
#include <stdlib.h>

#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"

#define TOKENS	       256
#define NAMES_MAX      MIB(32) /* compressed; a kernel with 2^20 symbols has about 14 */
#define EXPANDED_MAX   MIB(64)
#define TOKEN_TEXT_MAX 1024 /* after the last token's place; tokens are short */

/* ---- bytes in a row -------------------------------------------------------------------- */

struct stream {
	const struct space *space;
	uint64_t gva;
	size_t at, len, left; /* left: bytes that may still be fetched */
	uint8_t buf[4096];
};

/* -1 where nothing is mapped, or past the bound. */
static int stream_byte(struct stream *in)
{
	if (in->at == in->len) {
		size_t want = MIN(sizeof(in->buf), in->left);

		in->len = want ? space_read_some(in->space, in->gva, in->buf, want) : 0;
		in->at = 0;
		if (!in->len)
			return -1;
		in->gva += in->len;
		in->left -= in->len;
	}
	return in->buf[in->at++];
}

/* ---- tokens ---------------------------------------------------------------------------- */

struct tokens {
	uint16_t index[TOKENS];
	size_t len;
	char table[UINT16_MAX + 1 + TOKEN_TEXT_MAX + 1]; /* NUL after len */
};

static int tokens_load(const struct space *s, const struct vmcoreinfo *info, struct tokens *t)
{
	uint64_t table, index;
	size_t last = 0;

	if (!vmcoreinfo_number(info, "SYMBOL(kallsyms_token_table)", &table) ||
	    !vmcoreinfo_number(info, "SYMBOL(kallsyms_token_index)", &index))
		return -ENODATA;
	if (space_read(s, index, t->index, sizeof(t->index)))
		return -EBADMSG;
	for (unsigned i = 0; i < TOKENS; i++)
		last = MAX(last, (size_t)t->index[i]);
	t->len = space_read_some(s, table, t->table, last + TOKEN_TEXT_MAX);
	if (t->len <= last)
		return -EBADMSG;
	t->table[t->len] = '\0';
	return 0;
}

/* ---- names ----------------------------------------------------------------------------- */

struct arena {
	char *text;
	size_t len, room;
};

static int arena_reserve(struct arena *a, size_t more)
{
	size_t room = a->room ? a->room : KIB(64);
	char *text;

	if (a->len + more > EXPANDED_MAX)
		return -EBADMSG;
	while (room < a->len + more)
		room *= 2;
	if (room == a->room)
		return 0;
	text = realloc(a->text, room);
	if (!text)
		return -ENOMEM;
	a->text = text;
	a->room = room;
	return 0;
}

/* The next name, appended; its first character is the type. */
static int expand_one(struct stream *in, const struct tokens *t, struct arena *a, char *ret_type)
{
	int low = stream_byte(in), high = 0;
	char name[KALLSYMS_NAME_MAX + 1]; /* the type comes first */
	size_t len = 0;
	unsigned left;
	int rc;

	if (low >= 0x80)
		high = stream_byte(in);
	if (low < 0 || high < 0)
		return -EBADMSG;
	for (left = ((unsigned)low & 0x7f) | (unsigned)high << 7; left; left--) {
		int token = stream_byte(in);

		if (token < 0)
			return -EBADMSG;
		for (const char *c = &t->table[t->index[token]]; *c && len < sizeof(name) - 1; c++)
			name[len++] = *c;
	}
	if (len < 2)
		return -EBADMSG;
	name[len] = '\0';
	text_one_line(name);
	rc = arena_reserve(a, len);
	if (rc < 0)
		return rc;
	*ret_type = name[0];
	memcpy(a->text + a->len, name + 1, len);
	a->len += len;
	return 0;
}

static int names_load(const struct space *s, const struct vmcoreinfo *info, struct kallsyms *k)
{
	CLEANUP_FREE struct tokens *tokens = NULL;
	CLEANUP_FREE struct stream *in = NULL;
	struct arena arena = {0};
	uint64_t names;
	int rc;

	if (!vmcoreinfo_number(info, "SYMBOL(kallsyms_names)", &names))
		return -ENODATA;
	tokens = malloc(sizeof(*tokens));
	in = malloc(sizeof(*in));
	if (!tokens || !in)
		return -ENOMEM;
	*in = (struct stream){.space = s, .gva = names, .left = NAMES_MAX};
	rc = tokens_load(s, info, tokens);
	for (unsigned i = 0; rc == 0 && i < k->count; i++) {
		k->entry[i].name = (uint32_t)arena.len;
		rc = expand_one(in, tokens, &arena, &k->entry[i].type);
	}
	k->names = arena.text; /* also on failure: kallsyms_done frees it */
	return rc;
}

/* ---- addresses ------------------------------------------------------------------------- */

/* KALLSYMS_ABSOLUTE_PERCPU: offsets from 0 up are absolute values; below, -1 is the base. */
static uint64_t address_of(int32_t offset, uint64_t base, bool absolute_percpu)
{
	if (!absolute_percpu)
		return base + (uint32_t)offset;
	if (offset >= 0)
		return (uint64_t)offset;
	return base - 1 - (uint64_t)(int64_t)offset;
}

static int by_address(const void *a, const void *b)
{
	const struct kallsyms_entry *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name;
}

/* After the names. VMCOREINFO says where _stext is, so that tells which kind of offsets these
 * are, and that the table belongs to it. */
static int addresses_load(const struct space *s, const struct vmcoreinfo *info, struct kallsyms *k)
{
	uint64_t offsets_gva, base_gva, base, stext;
	CLEANUP_FREE int32_t *offset = NULL;
	bool fits[2] = {false, false}, sorted = true;

	if (!vmcoreinfo_number(info, "SYMBOL(kallsyms_offsets)", &offsets_gva) ||
	    !vmcoreinfo_number(info, "SYMBOL(kallsyms_relative_base)", &base_gva) ||
	    !vmcoreinfo_number(info, "SYMBOL(_stext)", &stext))
		return -ENODATA;
	offset = malloc(k->count * sizeof(*offset));
	if (!offset)
		return -ENOMEM;
	if (space_read_uint(s, base_gva, 8, &base) ||
	    space_read(s, offsets_gva, offset, k->count * sizeof(*offset)))
		return -EBADMSG;
	for (unsigned i = 0; i < k->count; i++) {
		if (strcmp(k->names + k->entry[i].name, "_stext"))
			continue;
		for (unsigned kind = 0; kind < 2; kind++)
			fits[kind] |= address_of(offset[i], base, kind) == stext;
	}
	if (!fits[false] && !fits[true])
		return -EBADMSG;
	for (unsigned i = 0; i < k->count; i++) {
		struct kallsyms_entry *e = &k->entry[i];

		e->address = address_of(offset[i], base, fits[true]);
		e->absolute = fits[true] && offset[i] >= 0;
		sorted &= i == 0 || e[-1].address <= e->address;
	}
	if (!sorted)
		qsort(k->entry, k->count, sizeof(*k->entry), by_address);
	return 0;
}

/* ---- by name --------------------------------------------------------------------------- */

/* A name's first bytes as a number, so that few names have to be looked at to sort them. */
struct name_key {
	uint64_t head;
	uint32_t number;
};

static int by_name(const void *a, const void *b, void *arg)
{
	const struct name_key *x = a, *y = b;
	const struct kallsyms *k = arg;
	int r = 0;

	if (x->head != y->head)
		return x->head < y->head ? -1 : 1;
	if (x->head & 0xff) /* they go on */
		r = strcmp(k->names + k->entry[x->number].name + sizeof(x->head),
			   k->names + k->entry[y->number].name + sizeof(y->head));
	return r ?: x->number < y->number ? -1 : x->number > y->number;
}

static uint64_t head_of(const char *name)
{
	uint64_t head = 0;
	unsigned i;

	for (i = 0; i < sizeof(head) && name[i]; i++)
		head = head << 8 | (uint8_t)name[i];
	return i ? head << 8 * (sizeof(head) - i) : 0;
}

/* After the entries have their places. Names are KALLSYMS_NAME_MAX at most, EXPANDED_MAX together,
 * so that the worst ones cost a few hundred milliseconds. */
static int index_names(struct kallsyms *k)
{
	CLEANUP_FREE struct name_key *key = malloc(k->count * sizeof(*key));

	k->by_name = malloc(k->count * sizeof(*k->by_name));
	if (!key || !k->by_name)
		return -ENOMEM; /* kallsyms_done frees the other */
	for (uint32_t i = 0; i < k->count; i++)
		key[i] = (struct name_key){head_of(k->names + k->entry[i].name), i};
	qsort_r(key, k->count, sizeof(*key), by_name, k);
	for (uint32_t i = 0; i < k->count; i++)
		k->by_name[i] = key[i].number;
	return 0;
}

/* ---- the table ------------------------------------------------------------------------- */

static int table_load(const struct space *s, const struct vmcoreinfo *info, struct kallsyms *k)
{
	uint64_t num_gva, num;
	int rc;

	if (!vmcoreinfo_number(info, "SYMBOL(kallsyms_num_syms)", &num_gva))
		return -ENODATA;
	if (space_read_uint(s, num_gva, 4, &num) || !num || num > KALLSYMS_MAX_SYMBOLS)
		return -EBADMSG;
	k->count = (unsigned)num;
	k->entry = calloc(num, sizeof(*k->entry));
	if (!k->entry)
		return -ENOMEM;
	rc = names_load(s, info, k);
	if (rc == 0)
		rc = addresses_load(s, info, k);
	return rc < 0 ? rc : index_names(k);
}

int kallsyms_load(const struct space *s, const struct vmcoreinfo *info, struct kallsyms *ret_k,
		  struct error *err)
{
	struct kallsyms k = {0};
	int rc = table_load(s, info, &k);

	if (rc == 0) {
		*ret_k = k;
		return 0;
	}
	kallsyms_done(&k);
	if (rc == -ENODATA)
		return error_set(err, rc, "the guest's kernel doesn't say where its symbols are");
	if (rc == -EBADMSG)
		return error_set(err, rc, "reading the symbol table of the guest's kernel");
	return error_set_shortage(err, rc, "reading the symbol table of the guest's kernel");
}

/* The first entry at or above address. */
static unsigned lower_bound(const struct kallsyms *k, uint64_t address)
{
	unsigned low = 0, high = k->count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (k->entry[mid].address < address)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void kallsyms_done(struct kallsyms *k)
{
	free(k->entry);
	free(k->by_name);
	free(k->names);
	*k = (struct kallsyms){0};
}

/* ---- more symbols ---------------------------------------------------------------------- */

#define ALIASES_MAX 64 /* names of one address that are looked at */

static bool has(const struct kallsyms *k, const struct kallsyms_extra *extra)
{
	unsigned first = lower_bound(k, extra->address);

	for (unsigned i = first;
	     i < k->count && i - first < ALIASES_MAX && k->entry[i].address == extra->address; i++)
		if (!strcmp(k->names + k->entry[i].name, extra->name))
			return true;
	return false;
}

int kallsyms_add(struct kallsyms *k, const struct kallsyms_extra *extra, size_t count)
{
	size_t wanted = 0, bytes = 0, used = 0, at;
	struct kallsyms_entry *entry;
	struct kallsyms sum;
	unsigned n = k->count;
	char *names;

	for (unsigned i = 0; i < k->count; i++)
		used = MAX(used, k->entry[i].name + strlen(k->names + k->entry[i].name) + 1);
	for (size_t i = 0; i < count; i++) {
		if (has(k, &extra[i]))
			continue;
		wanted++;
		bytes += strlen(extra[i].name) + 1;
	}
	if (wanted > KALLSYMS_MAX_SYMBOLS - k->count ||
	    bytes > EXPANDED_MAX - MIN(used, EXPANDED_MAX))
		return -E2BIG;
	if (!wanted)
		return 0;
	entry = malloc((k->count + wanted) * sizeof(*entry));
	names = malloc(used + bytes);
	if (!entry || !names) {
		free(entry);
		free(names);
		return -ENOMEM;
	}
	memcpy(entry, k->entry, k->count * sizeof(*entry));
	memcpy(names, k->names, used);
	at = used;
	for (size_t i = 0; i < count; i++) {
		if (has(k, &extra[i]))
			continue;
		entry[n++] = (struct kallsyms_entry){.address = extra[i].address,
						     .name = (uint32_t)at,
						     .type = extra[i].type,
						     .absolute = extra[i].absolute};
		memcpy(names + at, extra[i].name, strlen(extra[i].name) + 1);
		text_one_line(names + at);
		at += strlen(extra[i].name) + 1;
	}
	qsort(entry, n, sizeof(*entry), by_address);
	sum = (struct kallsyms){.entry = entry, .count = n, .names = names};
	if (index_names(&sum) < 0) {
		kallsyms_done(&sum);
		return -ENOMEM;
	}
	kallsyms_done(k);
	*k = sum;
	return 0;
}

/* ---- questions ------------------------------------------------------------------------- */

int kallsyms_address(const struct kallsyms *k, const char *name, uint64_t *ret_address)
{
	unsigned low = 0, high = k->count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (strcmp(k->names + k->entry[k->by_name[mid]].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == k->count || strcmp(k->names + k->entry[k->by_name[low]].name, name))
		return -ENOENT;
	*ret_address = k->entry[k->by_name[low]].address;
	return 0;
}

bool kallsyms_name(const struct kallsyms *k, uint64_t gva, struct kallsyms_hit *ret_hit)
{
	unsigned low = 0, high = k->count; /* the first entry above gva is in [low, high] */
	uint64_t start;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (k->entry[mid].address <= gva)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return false;
	high = low;
	start = k->entry[low - 1].address;
	/* A hostile table may have them all at one address: not one by one. */
	low = lower_bound(k, start);
	/* Absolute values are no places; past the last symbol there may be a module. */
	if (k->entry[low].absolute || (high == k->count && gva != start))
		return false;
	*ret_hit = (struct kallsyms_hit){
		.name = k->names + k->entry[low].name,
		.offset = gva - start,
		.size = high < k->count ? k->entry[high].address - start : 0,
	};
	return true;
}

const char *kallsyms_nearest(const struct kallsyms *k, const char *name)
{
	const char **words = calloc(k->count, sizeof(*words));
	const char *nearest = NULL;

	if (words) {
		for (unsigned i = 0; i < k->count; i++)
			words[i] = k->names + k->entry[i].name;
		nearest = parse_nearest(name, words, k->count);
	}
	free(words);
	return nearest;
}
