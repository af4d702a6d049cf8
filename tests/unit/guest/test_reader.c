/* A reader over guest memory: the layout that it shows, and reads at the edges of RAM. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guest/reader.h"

static const struct guest_layout holed = {
	.count = 3,
	.range = {{.gpa = 0, .size = KIB(64)},
		  {.gpa = MIB(1), .size = KIB(64), .node = 1},
		  {.gpa = MIB(1) + KIB(64), .size = KIB(64), .node = 2}},
};

static void it_reads_what_is_ram(void **state)
{
	static const struct {
		uint64_t gpa, len;
		bool ok;
	} want[] = {
		{0, 8, true},
		{KIB(64) - 8, 8, true},
		{KIB(64) - 7, 8, false}, /* into the hole */
		{MIB(1) - 1, 2, false},
		{MIB(1) + KIB(64) - 4, 8, true}, /* over two regions */
		{MIB(1) + KIB(128) - 1, 2, false},
		{UINT64_MAX, 8, false},
	};
	struct guest_memory mem;
	struct guest_reader r;

	(void)state;
	assert_int_equal(guest_memory_init(&mem, &holed, NULL), 0);
	guest_reader_init(&r, &mem);
	assert_int_equal(r.layout.count, holed.count);
	for (unsigned i = 0; i < holed.count; i++)
		assert_memory_equal(&r.layout.range[i], &holed.range[i], sizeof(holed.range[i]));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		char in[8] = "bytes", out[8] = "";
		int rc = guest_write(&mem, want[i].gpa, in, want[i].len);

		assert_int_equal(rc, want[i].ok ? 0 : -EFAULT);
		assert_int_equal(guest_reader_read(&r, want[i].gpa, out, want[i].len), rc);
		assert_memory_equal(out, want[i].ok ? in : "\0\0\0\0\0\0\0", want[i].len);
	}
	guest_memory_done(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_reads_what_is_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
