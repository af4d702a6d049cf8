/* VMCOREINFO: found as a page and as a note, at the end of RAM, in pieces; values of every form. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "inspect/vmcoreinfo.h"

#define RAM 0x4000u

static uint8_t ram[RAM];

static int ram_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	(void)arg;
	if (gpa >= RAM || len > RAM - gpa)
		return -EFAULT;
	memcpy(dst, ram + gpa, len);
	return 0;
}

static const struct guest_reader mem = {.read = ram_read,
					.layout = {.count = 1, .range = {{.size = RAM}}}};

static void put_note(uint64_t gpa, uint32_t namesz, uint32_t descsz, const char *text)
{
	uint32_t head[3] = {namesz, descsz, 0};

	memcpy(ram + gpa, head, sizeof(head));
	memcpy(ram + gpa + 12, "VMCOREINFO\0", 12);
	strcpy((char *)ram + gpa + 24, text);
}

static void pages_and_notes_are_found_in_order(void **state)
{
	struct vmcoreinfo info;
	uint64_t at = 0, pages = UINT64_MAX;

	(void)state;
	memset(ram, 0, sizeof(ram));
	strcpy((char *)ram, "OSRELEASE=a\nX=1\n");
	strcpy((char *)ram + 0x1000, "xOSRELEASE=no\n");
	put_note(0x2000, 11, 9 + 4, "OSRELEASE=b\nX=2\n"); /* cut by its length */
	strcpy((char *)ram + 0x3000, "OSRELEASE=without a line's end");
	assert_int_equal(vmcoreinfo_next(&mem, &at, &pages, &info), 0);
	assert_int_equal(info.gpa, 0);
	assert_string_equal(info.text, "OSRELEASE=a\nX=1\n");
	assert_int_equal(vmcoreinfo_next(&mem, &at, &pages, &info), 0);
	assert_int_equal(info.gpa, 0x2018);
	assert_string_equal(info.text, "OSRELEASE=b\nX");
	assert_int_equal(vmcoreinfo_next(&mem, &at, &pages, &info), -ENOENT);
	assert_int_equal(info.gpa, 0x2018);

	/* A name of another length, or other text, is another note. */
	at = 0x2000;
	put_note(0x2000, 12, 200, "OSRELEASE=b\n");
	assert_int_equal(vmcoreinfo_next(&mem, &at, &pages, &info), -ENOENT);
}

static void text_goes_on_into_the_next_page_and_ends_with_ram(void **state)
{
	struct vmcoreinfo info;
	uint64_t at = 0, pages = UINT64_MAX;

	(void)state;
	memset(ram, 'z', sizeof(ram));
	put_note(0x1000, 11, 4096, "");
	memset(ram + 0x1018, 'y', 4096);
	memcpy(ram + 0x1018, "OSRELEASE=c\n", 12);
	assert_int_equal(vmcoreinfo_next(&mem, &at, &pages, &info), 0);
	assert_int_equal(info.len, 4096);
	assert_int_equal(info.text[4095], 'y');

	memset(ram, 'z', sizeof(ram));
	put_note(0x3000, 11, UINT32_MAX, "OSRELEASE=d\n");
	ram[0x3000 + 24 + 12] = 'z';
	at = 0;
	assert_int_equal(vmcoreinfo_next(&mem, &at, &pages, &info), 0);
	assert_int_equal(info.len, 4096 - 24);
}

static void values_are_read_by_their_form(void **state)
{
	static const struct {
		const char *key;
		bool ok;
		uint64_t value;
	} want[] = {
		{"SYMBOL(a)", true, 0xffffffffa8000000},
		{"NUMBER(neg)", true, (uint64_t)-587202560},
		{"NUMBER(hex)", true, 0xffffd00a00000000},
		{"KERNELOFFSET", true, 0x27000000},
		{"LENGTH(x)", true, 10},
		{"PAGESIZE", true, 4096},
		{"NUMBER(big)", false, 0},
		{"NUMBER(junk)", false, 0},
		{"NUMBER(blank)", false, 0},
		{"SYMBOL(empty)", false, 0},
		{"SYMBOL(", false, 0},
		{"SYMBOL(b)", false, 0},
		{"EL", false, 0},
	};
	struct vmcoreinfo info = {
		.text = "OSRELEASE=6.12\nSYMBOL(a)=ffffffffa8000000\nNUMBER(neg)=-587202560\n"
			"NUMBER(hex)=0xffffd00a00000000\nKERNELOFFSET=27000000\nLENGTH(x)=10\n"
			"PAGESIZE=4096\nNUMBER(big)=99999999999999999999\nNUMBER(junk)=12x\nNUMBER("
			"blank)= 12\n"
			"SYMBOL(empty)=\nCTRL=a\tb\nSYMBOL(b)"};
	uint64_t value;
	char text[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		value = 77;
		assert_int_equal(vmcoreinfo_number(&info, want[i].key, &value), want[i].ok);
		assert_int_equal(value, want[i].ok ? want[i].value : 77);
	}
	assert_true(vmcoreinfo_text(&info, "OSRELEASE", text, sizeof(text)));
	assert_string_equal(text, "6.12");
	assert_true(vmcoreinfo_text(&info, "CTRL", text, sizeof(text)));
	assert_string_equal(text, "a?b");
	assert_false(vmcoreinfo_text(&info, "OSRELEASE", text, 4));
	assert_true(vmcoreinfo_text(&info, "OSRELEASE", text, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_and_notes_are_found_in_order),
		cmocka_unit_test(text_goes_on_into_the_next_page_and_ends_with_ram),
		cmocka_unit_test(values_are_read_by_their_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
