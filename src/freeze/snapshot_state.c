/* The file "state" of a snapshot, from sections to bytes and back. */
#include "freeze/snapshot_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC	   "STASISNP"
#define MAGIC_LEN  8
#define HEAD_LEN   56
#define ROW_LEN	   64
#define NAME_FIELD 32

/* Places in the head and in a row. */
enum {
	HEAD_VERSION = 8,
	HEAD_SECTIONS = 12,
	HEAD_FILE_LEN = 16,
	HEAD_TEXT_LEN = 24,
	HEAD_TEXT_HASH = 32,
	HEAD_HASH = 40,
	HEAD_ZERO = 48,
};
enum { ROW_VERSION = 32, ROW_ZERO = 36, ROW_AT = 40, ROW_LEN_AT = 48, ROW_HASH = 56 };

struct snapshot_part {
	char name[NAME_FIELD];
	unsigned version;
	struct state_io io;
};

static void put_number(uint8_t *at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_number(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

static uint64_t hash_of(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

/* Of the head and the table, but for the field that this goes into. */
static uint64_t head_hash(const uint8_t *data, size_t len)
{
	static const uint8_t none[8];
	XXH3_state_t *state = XXH3_createState();
	uint64_t hash = 0;

	if (!state)
		return 0;
	if (XXH3_64bits_reset(state) == XXH_OK &&
	    XXH3_64bits_update(state, data, HEAD_HASH) == XXH_OK &&
	    XXH3_64bits_update(state, none, sizeof(none)) == XXH_OK &&
	    XXH3_64bits_update(state, data + HEAD_ZERO, len - HEAD_ZERO) == XXH_OK)
		hash = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return hash;
}

/* ---- making -------------------------------------------------------------------------------- */

static int make_room(struct snapshot_writer *w)
{
	unsigned room = w->room ? 2 * w->room : 16;
	struct snapshot_part *part;

	if (w->count < w->room)
		return 0;
	if (w->count == SNAPSHOT_SECTIONS_MAX)
		return error_set(&w->err, -ENOSPC, "making a snapshot's table");
	part = reallocarray(w->part, room, sizeof(*part));
	if (!part)
		return error_set(&w->err, -ENOMEM, "making a snapshot's table");
	w->part = part;
	w->room = room;
	return 0;
}

void snapshot_add(struct snapshot_writer *w, const char *name, unsigned version,
		  struct state_io *io)
{
	size_t len = strlen(name);

	assert(len > 0 && len <= SNAPSHOT_NAME_MAX && !io->restoring);
	if (w->err.code || state_result(io, &w->err) < 0 || make_room(w) < 0) {
		state_free(io);
		return;
	}
	w->part[w->count] = (struct snapshot_part){.version = version, .io = *io};
	memcpy(w->part[w->count].name, name, len);
	w->count++;
	*io = (struct state_io){0};
}

int snapshot_encode(const struct snapshot_writer *w, const void *description,
		    size_t description_len, uint8_t **ret_data, size_t *ret_len, struct error *err)
{
	size_t table_end = HEAD_LEN + (size_t)w->count * ROW_LEN, len = table_end, at = table_end;
	uint8_t *data;

	if (w->err.code) {
		if (err && !err->code)
			*err = w->err;
		return w->err.code;
	}
	for (unsigned i = 0; i < w->count; i++)
		len += w->part[i].io.len;
	data = calloc(1, len);
	if (!data)
		return error_set(err, -ENOMEM, "making a snapshot");
	memcpy(data, MAGIC, MAGIC_LEN);
	put_number(data + HEAD_VERSION, w->version ?: SNAPSHOT_PLAIN, 4);
	put_number(data + HEAD_SECTIONS, w->count, 4);
	put_number(data + HEAD_FILE_LEN, len, 8);
	put_number(data + HEAD_TEXT_LEN, description_len, 8);
	put_number(data + HEAD_TEXT_HASH, hash_of(description, description_len), 8);
	for (unsigned i = 0; i < w->count; i++) {
		const struct snapshot_part *part = &w->part[i];
		uint8_t *row = data + HEAD_LEN + (size_t)i * ROW_LEN;

		memcpy(row, part->name, NAME_FIELD);
		put_number(row + ROW_VERSION, part->version, 4);
		put_number(row + ROW_AT, at, 8);
		put_number(row + ROW_LEN_AT, part->io.len, 8);
		put_number(row + ROW_HASH, hash_of(part->io.bytes, part->io.len), 8);
		if (part->io.len)
			memcpy(data + at, part->io.bytes, part->io.len);
		at += part->io.len;
	}
	put_number(data + HEAD_HASH, head_hash(data, table_end), 8);
	*ret_data = data;
	*ret_len = len;
	return 0;
}

void snapshot_writer_done(struct snapshot_writer *w)
{
	for (unsigned i = 0; i < w->count; i++)
		state_free(&w->part[i].io);
	free(w->part);
	*w = (struct snapshot_writer){0};
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Up to and with the table. */
static int check_head(const uint8_t *data, size_t len, const void *description,
		      size_t description_len, unsigned *ret_count, struct error *err)
{
	uint64_t version, count, table_end;

	if (len < HEAD_LEN || memcmp(data, MAGIC, MAGIC_LEN))
		return error_usage(err, "state: it is no snapshot's state, or cut short");
	version = get_number(data + HEAD_VERSION, 4);
	if (version < SNAPSHOT_OLDEST || version > SNAPSHOT_VERSION)
		return error_usage(err, "state: it has version %llu, and %d is known",
				   (unsigned long long)version, SNAPSHOT_VERSION);
	count = get_number(data + HEAD_SECTIONS, 4);
	table_end = HEAD_LEN + count * ROW_LEN;
	if (get_number(data + HEAD_FILE_LEN, 8) != len)
		return error_usage(err, "state: it has %zu bytes, and was made with %llu", len,
				   (unsigned long long)get_number(data + HEAD_FILE_LEN, 8));
	if (count > SNAPSHOT_SECTIONS_MAX || table_end > len)
		return error_usage(err, "state: %llu sections do not fit",
				   (unsigned long long)count);
	if (get_number(data + HEAD_HASH, 8) != head_hash(data, table_end) ||
	    get_number(data + HEAD_ZERO, 8) != 0)
		return error_usage(err, "state: the checksum of its table is wrong");
	if (get_number(data + HEAD_TEXT_LEN, 8) != description_len ||
	    get_number(data + HEAD_TEXT_HASH, 8) != hash_of(description, description_len))
		return error_usage(err, "the description is not the one that the state was made "
					"with");
	*ret_count = (unsigned)count;
	return 0;
}

/* Text that may be printed, and zeros behind it. */
static bool read_name(const uint8_t *field, char ret[NAME_FIELD])
{
	size_t len = strnlen((const char *)field, NAME_FIELD);

	if (len == 0 || len == NAME_FIELD)
		return false;
	for (size_t i = 0; i < NAME_FIELD; i++)
		if (i < len ? field[i] <= 0x20 || field[i] > 0x7e : field[i] != 0)
			return false;
	memcpy(ret, field, NAME_FIELD);
	return true;
}

static int read_row(const uint8_t *data, size_t len, unsigned i, uint64_t *at,
		    struct snapshot_section *ret, struct error *err)
{
	const uint8_t *row = data + HEAD_LEN + (size_t)i * ROW_LEN;
	uint64_t section_len = get_number(row + ROW_LEN_AT, 8);

	if (!read_name(row, ret->name) || get_number(row + ROW_VERSION, 4) == 0 ||
	    get_number(row + ROW_ZERO, 4) != 0)
		return error_usage(err, "state: row %u of its table makes no sense", i);
	if (get_number(row + ROW_AT, 8) != *at || section_len > len - *at)
		return error_usage(err, "section %s: it is not where it has to be", ret->name);
	ret->version = (unsigned)get_number(row + ROW_VERSION, 4);
	ret->data = data + *at;
	ret->len = (size_t)section_len;
	*at += section_len;
	if (get_number(row + ROW_HASH, 8) != hash_of(ret->data, ret->len))
		return error_usage(err, "section %s: its checksum is wrong", ret->name);
	return 0;
}

int snapshot_decode(const uint8_t *data, size_t len, const void *description,
		    size_t description_len, struct snapshot_state *ret_state, struct error *err)
{
	struct snapshot_state s = {0};
	uint64_t at;
	int r = check_head(data, len, description, description_len, &s.count, err);

	if (r < 0)
		return r;
	s.section = calloc(s.count + 1, sizeof(*s.section));
	if (!s.section)
		return error_set(err, -ENOMEM, "reading a snapshot");
	at = HEAD_LEN + (uint64_t)s.count * ROW_LEN;
	for (unsigned i = 0; r == 0 && i < s.count; i++) {
		r = read_row(data, len, i, &at, &s.section[i], err);
		for (unsigned k = 0; r == 0 && k < i; k++)
			if (!strcmp(s.section[k].name, s.section[i].name))
				r = error_usage(err, "section %s: it is there twice",
						s.section[i].name);
	}
	if (r == 0 && at != len)
		r = error_usage(err, "state: bytes are left over");
	if (r < 0) {
		snapshot_state_done(&s);
		return r;
	}
	*ret_state = s;
	return 0;
}

static struct snapshot_section *find(const struct snapshot_state *state, const char *name)
{
	for (unsigned i = 0; i < state->count; i++)
		if (!strcmp(state->section[i].name, name))
			return &state->section[i];
	return NULL;
}

bool snapshot_has(const struct snapshot_state *state, const char *name)
{
	return find(state, name);
}

int snapshot_take(struct snapshot_state *state, const char *name, unsigned version,
		  struct state_io *ret_io, struct error *err)
{
	struct snapshot_section *s = find(state, name);

	if (!s || s->taken)
		return error_usage(err, "section %s is missing", name);
	if (s->version > version)
		return error_usage(err, "section %s has version %u, and %u is known", name,
				   s->version, version);
	s->taken = true;
	state_restore(ret_io, s->data, s->len);
	ret_io->where = s->name;
	ret_io->version = s->version;
	return 0;
}

int snapshot_end(const struct snapshot_state *state, struct error *err)
{
	for (unsigned i = 0; i < state->count; i++)
		if (!state->section[i].taken)
			return error_usage(err, "section %s is too much: this machine has none",
					   state->section[i].name);
	return 0;
}

void snapshot_state_done(struct snapshot_state *state)
{
	free(state->section);
	*state = (struct snapshot_state){0};
}
