/* pprof's files, taken apart again by what profile.proto says. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/util.h"
#include "vm/pprof.h"

/* ---- a decoder ----------------------------------------------------------------------------- */

struct reader {
	const uint8_t *at, *end;
};

static uint64_t varint(struct reader *r)
{
	uint64_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		assert_true(r->at < r->end && shift < 64);
		value |= (uint64_t)(*r->at & 0x7f) << shift;
		if (!(*r->at++ & 0x80))
			return value;
	}
}

/* The next field: its number, and its value or its bytes. False at the end. */
static bool next(struct reader *r, unsigned *ret_field, uint64_t *ret_value, struct reader *ret_in)
{
	uint64_t key;

	if (r->at == r->end)
		return false;
	key = varint(r);
	*ret_field = (unsigned)(key >> 3);
	*ret_in = (struct reader){NULL, NULL};
	*ret_value = varint(r);
	if ((key & 7) == 2) {
		assert_true(*ret_value <= (uint64_t)(r->end - r->at));
		*ret_in = (struct reader){r->at, r->at + *ret_value};
		r->at += *ret_value;
	} else {
		assert_int_equal(key & 7, 0);
	}
	return true;
}

#define MOST 1024

static char *string[MOST];
static uint64_t strings, locations, functions, samples, period, duration;
static uint64_t function_of[MOST], name_of[MOST]; /* by id */
static struct reader sample[MOST];
static char types[128];

/* The value of a field in a message. */
static uint64_t number_in(struct reader in, unsigned wanted)
{
	struct reader bytes;
	uint64_t value;
	unsigned field;

	while (next(&in, &field, &value, &bytes))
		if (field == wanted && !bytes.at)
			return value;
	return 0;
}

static struct reader bytes_in(struct reader in, unsigned wanted)
{
	struct reader bytes;
	uint64_t value;
	unsigned field;

	while (next(&in, &field, &value, &bytes))
		if (field == wanted && bytes.at)
			return bytes;
	return (struct reader){NULL, NULL};
}

static void decode(struct reader in)
{
	static struct reader type[4];
	struct reader bytes;
	unsigned field, count = 0;
	uint64_t value;

	strings = locations = functions = samples = 0;
	while (next(&in, &field, &value, &bytes)) {
		assert_true(strings < MOST && samples < MOST && locations < MOST - 1);
		switch (field) {
		case 1:
		case 11:
			assert_true(count < 4);
			type[count++] = bytes;
			break;
		case 2:
			sample[samples++] = bytes;
			break;
		case 4:
			locations++;
			function_of[number_in(bytes, 1)] = number_in(bytes_in(bytes, 4), 1);
			break;
		case 5:
			functions++;
			name_of[number_in(bytes, 1)] = number_in(bytes, 2);
			break;
		case 6:
			free(string[strings]);
			string[strings++] =
				strndup((const char *)bytes.at, (size_t)(bytes.end - bytes.at));
			break;
		case 10:
			duration = value;
			break;
		case 12:
			period = value;
			break;
		default:
			fail_msg("field %u", field);
		}
	}
	types[0] = '\0';
	for (unsigned i = 0; i < count; i++)
		snprintf(types + strlen(types), sizeof(types) - strlen(types), "%s/%s ",
			 string[number_in(type[i], 1)], string[number_in(type[i], 2)]);
}

/* "inner;outer count ns" */
static const char *line(unsigned i)
{
	static char text[1024];
	struct reader r = bytes_in(sample[i], 1);

	text[0] = '\0';
	while (r.at < r.end) {
		uint64_t id = varint(&r);

		assert_in_range(id, 1, locations);
		assert_in_range(function_of[id], 1, functions);
		assert_in_range(name_of[function_of[id]], 1, strings - 1);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
			 text[0] ? ";" : "", string[name_of[function_of[id]]]);
	}
	r = bytes_in(sample[i], 2);
	while (r.at < r.end)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %llu",
			 (unsigned long long)varint(&r));
	return text;
}

static void done(void)
{
	for (unsigned i = 0; i < MOST; i++) {
		free(string[i]);
		string[i] = NULL;
	}
}

/* Writes it, and takes it apart. */
static int through(json_t *doc)
{
	static uint8_t data[1 << 20];
	int fd = memfd_create("pprof", MFD_CLOEXEC), n, r = pprof_write(doc, fd);
	gzFile gz;

	assert_true(fd >= 0);
	json_decref(doc);
	lseek(fd, 0, SEEK_SET);
	gz = gzdopen(fd, "rb");
	n = gzread(gz, data, sizeof(data));
	assert_true(n >= 0 && n < (int)sizeof(data));
	if (r == 0) {
		assert_false(gzdirect(gz));
		decode((struct reader){data, data + n});
	}
	gzclose(gz);
	return r;
}

static json_t *document(json_t *frames, json_t *stacks, json_t *weights)
{
	return json_pack("{s:i, s:I, s:{s:o}, s:[{s:o, s:o}]}", "stasisHz", 1000,
			 "stasisDurationNs", (json_int_t)5000000000, "shared", "frames", frames,
			 "profiles", "samples", stacks, "weights", weights);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void every_stack_comes_back(void **state UNUSED)
{
	json_t *frames = json_pack("[{s:s}, {s:s}, {s:s}]", "name", "shell", "name", "vfs_read",
				   "name", "gr\xc3\xbc\xc3\x9f");

	assert_int_equal(through(document(frames, json_pack("[[i, i, i], [i], []]", 0, 1, 2, 1),
					  json_pack("[i, I, i]", 3000000, (json_int_t)7000000000000,
						    0))),
			 0);
	assert_string_equal(types, "samples/count cpu/nanoseconds cpu/nanoseconds ");
	assert_int_equal(period, 1000000);
	assert_true(duration == 5000000000);
	assert_string_equal(string[0], "");
	assert_int_equal(samples, 3);
	assert_string_equal(line(0), "gr\xc3\xbc\xc3\x9f;vfs_read;shell 3 3000000");
	assert_string_equal(line(1), "vfs_read 7000000 7000000000000");
	assert_string_equal(line(2), " 0 0");
	done();
}

static void ids_past_one_byte_are_right(void **state UNUSED)
{
	json_t *frames = json_array(), *stacks = json_array(), *weights = json_array();
	char name[32], want[64];

	for (int i = 0; i < 700; i++) {
		snprintf(name, sizeof(name), "function_%d", i);
		json_array_append_new(frames, json_pack("{s:s}", "name", name));
		json_array_append_new(stacks, json_pack("[i, i]", i, 699 - i));
		json_array_append_new(weights, json_integer(1000000 * (json_int_t)i));
	}
	assert_int_equal(through(document(frames, stacks, weights)), 0);
	assert_int_equal(samples, 700);
	assert_int_equal(strings, 705);
	for (int i = 0; i < 700; i++) {
		snprintf(want, sizeof(want), "function_%d;function_%d %d %d", 699 - i, i, i,
			 i * 1000000);
		assert_string_equal(line((unsigned)i), want);
	}
	done();
}

static void what_is_no_profile_is_refused(void **state UNUSED)
{
	json_t *one = json_pack("[{s:s}]", "name", "f"), *doc;

	assert_int_equal(through(json_object()), -EBADMSG);
	assert_int_equal(through(json_array()), -EBADMSG);
	/* Frames that are not there, weights that are no times, unequal lists. */
	assert_int_equal(through(document(json_incref(one), json_pack("[[i]]", 1),
					  json_pack("[i]", 1))),
			 -EBADMSG);
	assert_int_equal(through(document(json_incref(one), json_pack("[[i]]", -1),
					  json_pack("[i]", 1))),
			 -EBADMSG);
	assert_int_equal(through(document(json_incref(one), json_pack("[[s]]", "0"),
					  json_pack("[i]", 1))),
			 -EBADMSG);
	assert_int_equal(through(document(json_incref(one), json_pack("[[i]]", 0),
					  json_pack("[i]", -1))),
			 -EBADMSG);
	assert_int_equal(through(document(json_incref(one), json_pack("[[i]]", 0), json_array())),
			 -EBADMSG);
	doc = document(one, json_pack("[[i]]", 0), json_pack("[i]", 1));
	json_object_set_new(doc, "stasisHz", json_integer(0));
	assert_int_equal(through(doc), -EBADMSG);
	/* A name that is none has a stand-in. */
	assert_int_equal(through(document(json_pack("[i]", 3), json_pack("[[i]]", 0),
					  json_pack("[i]", 1000000))),
			 0);
	assert_string_equal(line(0), "? 1 1000000");
	done();
}

static void a_full_disk_is_told(void **state UNUSED)
{
	json_t *doc = document(json_pack("[{s:s}]", "name", "f"), json_pack("[[i]]", 0),
			       json_pack("[i]", 1));
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_int_equal(pprof_write(doc, fd), -ENOSPC);
	close(fd);
	json_decref(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_stack_comes_back),
		cmocka_unit_test(ids_past_one_byte_are_right),
		cmocka_unit_test(what_is_no_profile_is_refused),
		cmocka_unit_test(a_full_disk_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
