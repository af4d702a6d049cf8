/* profile.proto, written by hand: of protocol buffers it takes varints and lengths only
 * (protobuf.dev/programming-guides/encoding). Any thread.
 *
 *   field ── number << 3 | 0 │ varint     or     number << 3 | 2 │ length │ bytes, or a message */
#include "vm/pprof.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/util.h"

/* Numbers of fields. */
enum {
	PROFILE_SAMPLE_TYPE = 1,
	PROFILE_SAMPLE = 2,
	PROFILE_LOCATION = 4,
	PROFILE_FUNCTION = 5,
	PROFILE_STRINGS = 6,
	PROFILE_DURATION_NS = 10,
	PROFILE_PERIOD_TYPE = 11,
	PROFILE_PERIOD = 12,
	TYPE_TYPE = 1,
	TYPE_UNIT = 2,
	SAMPLE_LOCATIONS = 1,
	SAMPLE_VALUES = 2,
	LOCATION_ID = 1,
	LOCATION_LINE = 4,
	LINE_FUNCTION = 1,
	FUNCTION_ID = 1,
	FUNCTION_NAME = 2,
};

/* The first strings; the first of all has to be empty. Names of frames follow. */
enum { TEXT_EMPTY, TEXT_SAMPLES, TEXT_COUNT, TEXT_CPU, TEXT_NS, TEXTS };

static const char *const texts[TEXTS] = {"", "samples", "count", "cpu", "nanoseconds"};

struct bytes {
	uint8_t *data;
	size_t len, room;
	bool failed;
};

static void put(struct bytes *b, const void *data, size_t len)
{
	size_t room = b->room ?: 256;
	uint8_t *more;

	while (room < b->len + len)
		room *= 2;
	if (room != b->room) {
		more = realloc(b->data, room);
		b->failed |= !more;
		if (!more)
			return;
		b->data = more;
		b->room = room;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void put_varint(struct bytes *b, uint64_t value)
{
	uint8_t out[10];
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		out[n++] = (uint8_t)(value | 0x80);
	out[n++] = (uint8_t)value;
	put(b, out, n);
}

static void put_number(struct bytes *b, unsigned field, uint64_t value)
{
	put_varint(b, field << 3);
	put_varint(b, value);
}

static void put_bytes(struct bytes *b, unsigned field, const void *data, size_t len)
{
	put_varint(b, field << 3 | 2);
	put_varint(b, len);
	put(b, data, len);
}

/* Takes inner's content, and empties it. */
static void put_message(struct bytes *b, unsigned field, struct bytes *inner)
{
	b->failed |= inner->failed;
	put_bytes(b, field, inner->len ? (const void *)inner->data : "", inner->len);
	inner->len = 0;
}

/* ---- the parts of a profile ------------------------------------------------------------------ */

static void put_type(struct bytes *b, unsigned field, struct bytes *scratch, unsigned type,
		     unsigned unit)
{
	put_number(scratch, TYPE_TYPE, type);
	put_number(scratch, TYPE_UNIT, unit);
	put_message(b, field, scratch);
}

/* pprof has the innermost frame first. */
static int put_sample(struct bytes *b, struct bytes scratch[2], const json_t *stack, uint64_t ns,
		      double hz, size_t frames)
{
	for (size_t n = json_array_size(stack); n-- > 0;) {
		const json_t *at = json_array_get(stack, n);

		if (!json_is_integer(at) || json_integer_value(at) < 0 ||
		    (uint64_t)json_integer_value(at) >= frames)
			return -EBADMSG;
		put_varint(&scratch[1], (uint64_t)json_integer_value(at) + 1);
	}
	put_message(&scratch[0], SAMPLE_LOCATIONS, &scratch[1]);
	put_varint(&scratch[1], (uint64_t)((double)ns * hz / 1e9 + 0.5));
	put_varint(&scratch[1], ns);
	put_message(&scratch[0], SAMPLE_VALUES, &scratch[1]);
	put_message(b, PROFILE_SAMPLE, &scratch[0]);
	return 0;
}

/* A place for each name: a frame stands for a function. */
static void put_frame(struct bytes *b, struct bytes scratch[2], uint64_t i)
{
	put_number(&scratch[1], LINE_FUNCTION, i + 1);
	put_number(&scratch[0], LOCATION_ID, i + 1);
	put_message(&scratch[0], LOCATION_LINE, &scratch[1]);
	put_message(b, PROFILE_LOCATION, &scratch[0]);
	put_number(&scratch[0], FUNCTION_ID, i + 1);
	put_number(&scratch[0], FUNCTION_NAME, TEXTS + i);
	put_message(b, PROFILE_FUNCTION, &scratch[0]);
}

static void put_strings(struct bytes *b, const json_t *frames)
{
	for (unsigned i = 0; i < TEXTS; i++)
		put_bytes(b, PROFILE_STRINGS, texts[i], strlen(texts[i]));
	for (size_t i = 0; i < json_array_size(frames); i++) {
		const char *name =
			json_string_value(json_object_get(json_array_get(frames, i), "name"));

		put_bytes(b, PROFILE_STRINGS, name ?: "?", strlen(name ?: "?"));
	}
}

static int encode(const json_t *doc, struct bytes *b, struct bytes scratch[2])
{
	const json_t *frames = json_object_get(json_object_get(doc, "shared"), "frames");
	const json_t *profile = json_array_get(json_object_get(doc, "profiles"), 0);
	const json_t *samples = json_object_get(profile, "samples"),
		     *weights = json_object_get(profile, "weights");
	double hz = (double)json_integer_value(json_object_get(doc, "stasisHz"));
	json_int_t duration = json_integer_value(json_object_get(doc, "stasisDurationNs"));
	int r = 0;

	if (!json_is_array(frames) || !json_is_array(samples) || hz <= 0 || duration < 0 ||
	    json_array_size(samples) != json_array_size(weights))
		return -EBADMSG;
	put_type(b, PROFILE_SAMPLE_TYPE, &scratch[0], TEXT_SAMPLES, TEXT_COUNT);
	put_type(b, PROFILE_SAMPLE_TYPE, &scratch[0], TEXT_CPU, TEXT_NS);
	for (size_t i = 0; r == 0 && i < json_array_size(samples); i++) {
		json_int_t ns = json_integer_value(json_array_get(weights, i));

		r = ns < 0 ? -EBADMSG
			   : put_sample(b, scratch, json_array_get(samples, i), (uint64_t)ns, hz,
					json_array_size(frames));
	}
	for (size_t i = 0; i < json_array_size(frames); i++)
		put_frame(b, scratch, i);
	put_strings(b, frames);
	put_number(b, PROFILE_DURATION_NS, (uint64_t)duration);
	put_type(b, PROFILE_PERIOD_TYPE, &scratch[0], TEXT_CPU, TEXT_NS);
	put_number(b, PROFILE_PERIOD, (uint64_t)(1e9 / hz + 0.5));
	return r < 0 ? r : b->failed ? -ENOMEM : 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int compress_to(const struct bytes *b, int fd)
{
	int own = dup(fd), r = 0;
	gzFile gz = own < 0 ? NULL : gzdopen(own, "wb");

	if (!gz) {
		r = own < 0 ? -errno : -ENOMEM;
		fd_close(&own);
		return r;
	}
	for (size_t at = 0; r == 0 && at < b->len;) {
		unsigned step = (unsigned)MIN(b->len - at, (size_t)1 << 20);

		errno = 0;
		if (gzwrite(gz, b->data + at, step) != (int)step)
			r = -(errno ?: EIO);
		at += step;
	}
	errno = 0;
	if (gzclose(gz) != Z_OK && r == 0)
		r = -(errno ?: EIO);
	return r;
}

int pprof_write(const json_t *speedscope, int fd)
{
	struct bytes b = {0}, scratch[2] = {{0}, {0}};
	int r = encode(speedscope, &b, scratch);

	if (r == 0)
		r = compress_to(&b, fd);
	free(b.data);
	free(scratch[0].data);
	free(scratch[1].data);
	return r;
}
