/* KVM's statistics files: recorded ones (a vCPU that left the guest four times and was kicked out
 * of seven halts of 3 ms; its VM), made-up histograms, and files that lie. usage: test VCPU-FILE
 * VM-FILE */
#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/kvm_stats.h"

#define NAME_BYTES 16

static uint8_t *recorded[2]; /* vCPU, VM */
static size_t recorded_len[2];

static json_int_t number(const json_t *stats, const char *name)
{
	return json_integer_value(json_object_get(stats, name));
}

static void a_recorded_vcpu_says_what_it_did(void **state)
{
	json_t *stats;

	(void)state;
	assert_int_equal(kvm_stats_parse(recorded[0], recorded_len[0], &stats), 0);
	assert_int_equal(number(stats, "exits"), 4);
	assert_int_equal(number(stats, "signal_exits"), 7);
	assert_true(kvm_stats_halted_ns(stats) > 10000000 && kvm_stats_halted_ns(stats) < 60000000);
	/* What is zero is left out. */
	assert_null(json_object_get(stats, "nmi_injections"));
	assert_null(json_object_get(stats, "halt_poll_success_hist"));
	assert_string_equal(json_string_value(
				    json_object_get(json_object_get(stats, "halt_wait_hist"),
						    "unit")),
			    "ns");
	/* Most halts of 3 ms: 2^21 to 2^22 - 1 ns. */
	assert_non_null(
		strstr(json_string_value(json_object_get(json_object_get(stats, "halt_wait_hist"),
							 "buckets")),
		       "2097152:"));
	json_decref(stats);
}

static void a_recorded_vm_is_read(void **state)
{
	json_t *stats;

	(void)state;
	assert_int_equal(kvm_stats_parse(recorded[1], recorded_len[1], &stats), 0);
	assert_true(json_object_size(stats) > 0);
	assert_true(kvm_stats_halted_ns(stats) == 0);
	json_decref(stats);
}

/* ---- made up --------------------------------------------------------------------------- */

struct made {
	struct kvm_stats_header header;
	struct {
		struct {
			uint32_t flags;
			int16_t exponent;
			uint16_t size;
			uint32_t offset, bucket_size;
		} desc;
		char name[NAME_BYTES];
	} statistic[3];
	uint64_t data[9];
};

static struct made make(void)
{
	struct made m = {
		.header = {.name_size = NAME_BYTES,
			   .num_desc = 3,
			   .desc_offset = offsetof(struct made, statistic),
			   .data_offset = offsetof(struct made, data)},
		.statistic =
			{
				{{.flags = KVM_STATS_TYPE_CUMULATIVE, .size = 1, .offset = 0},
				 "plain"},
				{{.flags = KVM_STATS_TYPE_LINEAR_HIST | KVM_STATS_UNIT_CYCLES,
				  .size = 4,
				  .offset = 8,
				  .bucket_size = 100},
				 "linear"},
				{{.flags = KVM_STATS_TYPE_LOG_HIST | KVM_STATS_UNIT_SECONDS,
				  .exponent = -6,
				  .size = 4,
				  .offset = 40},
				 "log"},
			},
		.data = {42, 1, 0, 2, 3, 4, 5, 0, 6},
	};

	return m;
}

static int parse(const struct made *m, json_t **ret_stats)
{
	return kvm_stats_parse((const uint8_t *)m, sizeof(*m), ret_stats);
}

static void histograms_say_where_buckets_begin(void **state)
{
	struct made m = make();
	json_t *stats, *expected;

	(void)state;
	assert_int_equal(parse(&m, &stats), 0);
	expected = json_loads("{\"plain\": 42, \"linear\": {\"unit\": \"cycles\", \"buckets\": "
			      "\"0:1 200:2 300:3\"}, \"log\": {\"unit\": \"us\", \"buckets\": "
			      "\"0:4 1:5 4:6\"}}",
			      0, NULL);
	assert_true(json_equal(stats, expected));
	json_decref(expected);
	json_decref(stats);
}

static void refuses(const struct made *m)
{
	json_t *stats = NULL;

	assert_int_equal(parse(m, &stats), -EBADMSG);
	assert_null(stats);
}

static void a_file_that_lies_is_refused(void **state)
{
	struct made m;

	(void)state;
#define LIE(field, value) (m = make(), m.field = (value), refuses(&m))
	LIE(header.name_size, 0);
	LIE(header.name_size, 1u << 20);
	LIE(header.num_desc, 4000);
	LIE(header.num_desc, 20);
	LIE(header.desc_offset, UINT32_MAX);
	LIE(header.desc_offset, sizeof(m) - 8);
	LIE(header.data_offset, UINT32_MAX);
	LIE(header.data_offset, sizeof(m) - 8);
	LIE(statistic[0].desc.size, 0);
	LIE(statistic[2].desc.size, 5);
	LIE(statistic[2].desc.size, UINT16_MAX);
	LIE(statistic[1].desc.offset, UINT32_MAX - 4);
	LIE(statistic[1].name[0], 0);
	LIE(statistic[1].name[2], '\033');
#undef LIE
	assert_int_equal(kvm_stats_parse((const uint8_t *)&m, 23, &(json_t *){NULL}), -EBADMSG);
	assert_int_equal(kvm_stats_parse((const uint8_t *)&m, 0, &(json_t *){NULL}), -EBADMSG);
}

/* For the address sanitizer: nothing outside the file is read. */
static void no_change_of_a_file_is_followed_out_of_it(void **state)
{
	unsigned seed = 5;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		size_t len = recorded_len[i % 2];
		uint8_t *copy = malloc(len);
		json_t *stats = NULL;

		assert_non_null(copy);
		memcpy(copy, recorded[i % 2], len);
		for (unsigned k = 0; k < 1 + i % 8; k++)
			copy[(unsigned)rand_r(&seed) % (i % 3 ? 200 : len)] =
				(uint8_t)rand_r(&seed);
		if (i % 5 == 0)
			len = (unsigned)rand_r(&seed) % len;
		copy = realloc(copy, len + 1);
		if (kvm_stats_parse(copy, len, &stats) == 0)
			json_decref(stats);
		free(copy);
	}
}

static void a_file_is_read_to_its_end(void **state)
{
	json_t *stats;
	FILE *f = tmpfile();

	(void)state;
	assert_non_null(f);
	assert_int_equal(fd_write_all(fileno(f), recorded[0], recorded_len[0]), 0);
	assert_int_equal(kvm_stats_read(fileno(f), &stats), 0);
	assert_int_equal(number(stats, "exits"), 4);
	json_decref(stats);
	fclose(f);
	assert_int_equal(kvm_stats_read(-1, &stats), -EBADF);
}

static FILE *file_of(const uint8_t *bytes, size_t len)
{
	FILE *f = tmpfile();

	assert_non_null(f);
	assert_int_equal(fd_write_all(fileno(f), bytes, len), 0);
	return f;
}

/* The second one's descriptors are none: nobody reads them. */
static void files_alike_are_described_once(void **state)
{
	size_t len = recorded_len[0];
	struct kvm_stats_header header;
	struct kvm_stats_like like = {0};
	uint8_t *other = malloc(len);
	json_t *first, *second;
	FILE *f = file_of(recorded[0], len), *g, *cut;

	(void)state;
	assert_non_null(other);
	memcpy(other, recorded[0], len);
	memcpy(&header, other, sizeof(header));
	memset(other, 0xff, header.data_offset);
	for (size_t at = header.data_offset; at < len; at += 8)
		memcpy(other + at, &(uint64_t){at}, 8);
	g = file_of(other, len);
	cut = file_of(other, len - 8);
	assert_int_equal(kvm_stats_read_like(&like, -1, &first), -EBADF);
	assert_int_equal(kvm_stats_read_like(&like, fileno(g), &first), -EBADMSG);
	assert_int_equal(kvm_stats_read_like(&like, fileno(f), &first), 0);
	assert_int_equal(number(first, "exits"), 4);
	assert_int_equal(kvm_stats_read_like(&like, fileno(g), &second), 0);
	assert_in_range(number(second, "exits"), header.data_offset, len - 8);
	assert_true(number(second, "exits") != number(second, "signal_exits"));
	json_decref(second);
	assert_int_equal(kvm_stats_read_like(&like, fileno(cut), &second), -EBADMSG);
	assert_int_equal(kvm_stats_read_like(&like, -1, &second), -EBADF);
	/* Nothing of one is left in the next. */
	assert_int_equal(kvm_stats_read_like(&like, fileno(f), &second), 0);
	assert_true(json_equal(first, second));
	json_decref(first);
	json_decref(second);
	kvm_stats_like_done(&like);
	kvm_stats_like_done(&like);
	fclose(f);
	fclose(g);
	fclose(cut);
	free(other);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_recorded_vcpu_says_what_it_did),
		cmocka_unit_test(a_recorded_vm_is_read),
		cmocka_unit_test(histograms_say_where_buckets_begin),
		cmocka_unit_test(a_file_that_lies_is_refused),
		cmocka_unit_test(no_change_of_a_file_is_followed_out_of_it),
		cmocka_unit_test(a_file_is_read_to_its_end),
		cmocka_unit_test(files_alike_are_described_once),
	};
	int failed;

	for (int i = 0; i < 2; i++)
		if (argc != 3 ||
		    file_read(argv[i + 1], 65536, (char **)&recorded[i], &recorded_len[i]) < 0)
			return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(recorded[0]);
	free(recorded[1]);
	return failed;
}
