/* Exits: what is posted, what waits, how each is served, and how each death reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"

#define PORT	0x3F8
#define WINDOW	0xC0000000
#define DATA_AT 0x1000

/* A device that keeps what is written and counts up what is read. */
struct recorder {
	struct bus_device bus;
	uint8_t written[64];
	unsigned written_len, accesses;
	uint8_t next;
};

static void rec_read(struct bus_device *dev, uint64_t offset, void *data, unsigned len)
{
	struct recorder *rec = container_of(dev, struct recorder, bus);

	(void)offset;
	rec->accesses++;
	for (unsigned i = 0; i < len; i++)
		((uint8_t *)data)[i] = rec->next++;
}

static void rec_write(struct bus_device *dev, uint64_t offset, const void *data, unsigned len)
{
	struct recorder *rec = container_of(dev, struct recorder, bus);

	(void)offset;
	rec->accesses++;
	assert_true(rec->written_len + len <= sizeof(rec->written));
	memcpy(rec->written + rec->written_len, data, len);
	rec->written_len += len;
}

struct fixture {
	struct bus bus;
	struct recorder port, window;
	struct arch_vm vm;
	union {
		struct kvm_run run;
		uint8_t bytes[3 * 0x1000];
	} page;
	char text[512];
};

static struct fixture fix;

static int set_up(void **state)
{
	const struct bus_device dev = {.name = "recorder", .read = rec_read, .write = rec_write};

	(void)state;
	memset(&fix, 0, sizeof(fix));
	bus_init(&fix.bus);
	fix.port.bus = fix.window.bus = dev;
	if (bus_attach(&fix.bus, BUS_PIO, PORT, 8, &fix.port.bus) < 0 ||
	    bus_attach(&fix.bus, BUS_MMIO, WINDOW, 0x1000, &fix.window.bus) < 0)
		return -1;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	bus_done(&fix.bus);
	return 0;
}

static void set_io(uint8_t direction, uint8_t size, uint32_t count)
{
	fix.page.run.exit_reason = KVM_EXIT_IO;
	fix.page.run.io.direction = direction;
	fix.page.run.io.size = size;
	fix.page.run.io.port = PORT;
	fix.page.run.io.count = count;
	fix.page.run.io.data_offset = DATA_AT;
}

/* Captures and serves, as the two threads do. */
static enum arch_verdict serve(void)
{
	struct arch_exit exit;

	memset(&exit, 0x5a, sizeof(exit));
	arch_exit_capture(&fix.page.run, &exit);
	return arch_exit_serve(&fix.vm, &fix.bus, 3, exit.wants_reply ? &fix.page.run : NULL, &exit,
			       fix.text, sizeof(fix.text));
}

static void a_port_write_is_posted_whole(void **state)
{
	struct arch_exit exit;

	(void)state;
	for (uint8_t size = 1; size <= 4; size *= 2) {
		set_io(KVM_EXIT_IO_OUT, size, 1);
		memcpy(fix.page.bytes + DATA_AT, "abcd", 4);
		arch_exit_capture(&fix.page.run, &exit);
		assert_false(exit.wants_reply);
		assert_int_equal(exit.reason, KVM_EXIT_IO);
		assert_true(exit.space == BUS_PIO && exit.addr == PORT && exit.len == size);
		/* The page is the vCPU's again before the write is served. */
		memset(fix.page.bytes + DATA_AT, 0, 4);
		fix.port.written_len = 0;
		assert_int_equal(arch_exit_serve(&fix.vm, &fix.bus, 0, NULL, &exit, fix.text,
						 sizeof(fix.text)),
				 ARCH_CONTINUE);
		assert_int_equal(fix.port.written_len, size);
		assert_memory_equal(fix.port.written, "abcd", size);
	}
}

static void a_port_read_waits_for_its_answer(void **state)
{
	struct arch_exit exit;

	(void)state;
	set_io(KVM_EXIT_IO_IN, 2, 1);
	fix.port.next = 0x41;
	arch_exit_capture(&fix.page.run, &exit);
	assert_true(exit.wants_reply);
	assert_int_equal(serve(), ARCH_CONTINUE);
	assert_memory_equal(fix.page.bytes + DATA_AT, "AB", 2);
}

static void a_string_is_served_in_order(void **state)
{
	struct arch_exit exit;

	(void)state;
	set_io(KVM_EXIT_IO_OUT, 1, 6);
	memcpy(fix.page.bytes + DATA_AT, "string", 6);
	arch_exit_capture(&fix.page.run, &exit);
	assert_true(exit.wants_reply);
	assert_int_equal(serve(), ARCH_CONTINUE);
	assert_int_equal(fix.port.accesses, 6);
	assert_memory_equal(fix.port.written, "string", 6);
	set_io(KVM_EXIT_IO_IN, 2, 3);
	fix.port.next = 'a';
	assert_int_equal(serve(), ARCH_CONTINUE);
	assert_memory_equal(fix.page.bytes + DATA_AT, "abcdef", 6);
}

static void data_outside_the_page_is_not_touched(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t count;
	} cases[] = {
		{0, 1},	     {UINT64_MAX, 1},	   {0x2000, 1},
		{0x1FFF, 2}, {0x1000, UINT32_MAX}, {0x1000, 0},
	};

	(void)state;
	for (int direction = 0; direction < 2; direction++) {
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			set_io((uint8_t)direction, 1, cases[i].count);
			fix.page.run.io.data_offset = cases[i].offset;
			assert_int_equal(serve(), ARCH_CONTINUE);
		}
	}
	assert_int_equal(fix.port.accesses, 0);
}

static void mmio_writes_are_posted_and_reads_answered(void **state)
{
	struct kvm_run *run = &fix.page.run;
	struct arch_exit exit;

	(void)state;
	for (uint32_t len = 1; len <= 8; len *= 2) {
		run->exit_reason = KVM_EXIT_MMIO;
		run->mmio.phys_addr = WINDOW + 0x10;
		run->mmio.len = len;
		run->mmio.is_write = 1;
		memcpy(run->mmio.data, "12345678", 8);
		fix.window.written_len = 0;
		arch_exit_capture(run, &exit);
		assert_false(exit.wants_reply);
		assert_true(exit.space == BUS_MMIO && exit.addr == WINDOW + 0x10);
		assert_int_equal(serve(), ARCH_CONTINUE);
		assert_int_equal(fix.window.written_len, len);
		assert_memory_equal(fix.window.written, "12345678", len);
		run->mmio.is_write = 0;
		fix.window.next = 0x61;
		assert_int_equal(serve(), ARCH_CONTINUE);
		assert_memory_equal(run->mmio.data, "abcdefgh", len);
	}
	/* A length that KVM never gives stays within the eight bytes. */
	run->mmio.len = UINT32_MAX;
	assert_int_equal(serve(), ARCH_CONTINUE);
	run->mmio.is_write = 1;
	assert_int_equal(serve(), ARCH_CONTINUE);
}

static void unmapped_reads_give_ones_and_writes_are_counted(void **state)
{
	(void)state;
	set_io(KVM_EXIT_IO_IN, 4, 1);
	fix.page.run.io.port = 0xCF8;
	assert_int_equal(serve(), ARCH_CONTINUE);
	assert_memory_equal(fix.page.bytes + DATA_AT, "\xff\xff\xff\xff", 4);
	set_io(KVM_EXIT_IO_OUT, 1, 1);
	fix.page.run.io.port = 0x80;
	assert_int_equal(serve(), ARCH_CONTINUE);
	assert_true(fix.bus.unmapped_reads == 1 && fix.bus.unmapped_writes == 1);
}

/* The text is one line that has says in it and names the vCPU. */
static void dies(const char *says)
{
	assert_int_equal(serve(), ARCH_DIED);
	assert_null(strchr(fix.text, '\n'));
	assert_non_null(strstr(fix.text, "vCPU 3"));
	if (!strstr(fix.text, says))
		fail_msg("'%s' does not say '%s'", fix.text, says);
}

static void deaths_say_why(void **state)
{
	struct kvm_run *run = &fix.page.run;

	(void)state;
	run->exit_reason = KVM_EXIT_SHUTDOWN;
	dies("triple fault");
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = 0x80000021;
	dies("0x80000021");
	run->exit_reason = KVM_EXIT_UNKNOWN;
	run->hw.hardware_exit_reason = 0x4e;
	dies("0x4e");
	run->exit_reason = KVM_EXIT_S390_SIEIC;
	dies("reason 13");
	run->exit_reason = UINT32_MAX;
	dies("reason 4294967295");
}

static void a_failed_emulation_shows_its_instruction(void **state)
{
	struct kvm_run *run = &fix.page.run;

	(void)state;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 3;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = 3;
	memcpy(run->emulation_failure.insn_bytes, "\x0f\x01\xd0\xcc", 4);
	dies("internal error 1");
	assert_non_null(strstr(fix.text, "instruction 0f 01 d0"));
	assert_null(strstr(fix.text, "cc"));
	/* Without the flag the bytes are whatever was there before. */
	run->emulation_failure.flags = 0;
	dies("internal error 1");
	assert_null(strstr(fix.text, "0f 01"));
	run->emulation_failure.flags = 1;
	run->emulation_failure.ndata = 1;
	dies("internal error 1");
	assert_null(strstr(fix.text, "0f 01"));
	/* More bytes than an instruction can have are not read. */
	run->emulation_failure.ndata = UINT32_MAX;
	run->emulation_failure.insn_size = 255;
	memset(run->emulation_failure.insn_bytes, 0xab, 15);
	memset(run->emulation_failure.insn_bytes + 15, 0xee, 8);
	dies("instruction ab ab");
	assert_null(strstr(fix.text, "ee"));
}

static void other_internal_errors_show_kvm_s_words(void **state)
{
	struct kvm_run *run = &fix.page.run;

	(void)state;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
	run->internal.ndata = 2;
	run->internal.data[0] = 0x80000b0e;
	run->internal.data[1] = 0x31;
	dies("data 0x80000b0e 0x31");
	run->internal.ndata = UINT32_MAX; /* bounded, and cut where the text ends */
	dies("internal error 3");
	assert_true(strlen(fix.text) < sizeof(fix.text));
	run->internal.suberror = 99;
	run->internal.ndata = 0;
	dies("internal error 99 (unknown)");
}

static void system_events_are_what_they_are(void **state)
{
	struct kvm_run *run = &fix.page.run;

	(void)state;
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
	assert_int_equal(serve(), ARCH_SHUTDOWN);
	run->system_event.type = KVM_SYSTEM_EVENT_RESET;
	assert_int_equal(serve(), ARCH_RESET);
	run->system_event.type = KVM_SYSTEM_EVENT_CRASH;
	assert_int_equal(serve(), ARCH_CRASHED);
	assert_true(fix.vm.unknown_events == 0);
	run->system_event.type = 77;
	assert_int_equal(serve(), ARCH_CONTINUE);
	run->system_event.type = KVM_SYSTEM_EVENT_WAKEUP;
	assert_int_equal(serve(), ARCH_CONTINUE);
	assert_true(fix.vm.unknown_events == 2);
}

static void a_halt_goes_on(void **state)
{
	(void)state;
	fix.page.run.exit_reason = KVM_EXIT_HLT;
	assert_int_equal(serve(), ARCH_CONTINUE);
}

#define with_fixture(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

/* Whatever room a text has, it ends in it. */
static void texts_fit_their_room(void **state)
{
	struct kvm_run *run = &fix.page.run;
	struct arch_exit exit;

	(void)state;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 4;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = 15;
	arch_exit_capture(run, &exit);
	for (size_t room = 1; room < 160; room++) {
		char *text = malloc(room);

		assert_non_null(text);
		assert_int_equal(arch_exit_serve(&fix.vm, &fix.bus, 3, run, &exit, text, room),
				 ARCH_DIED);
		assert_true(strlen(text) < room);
		free(text);
	}
}

/* Every reason over a page of noise: a verdict, and no step outside of the page. */
static void noise_is_survived(void **state)
{
	/* Two pages of their own, so that a sanitizer sees any access past them. */
	struct kvm_run *run = malloc(2 * DATA_AT);
	unsigned seed = 11;

	(void)state;
	assert_non_null(run);
	for (unsigned n = 0; n < 20000; n++) {
		struct arch_exit exit;

		fix.port.written_len = fix.window.written_len = 0;
		for (unsigned i = 0; i < sizeof(*run); i++)
			((uint8_t *)run)[i] = (uint8_t)rand_r(&seed);
		run->exit_reason = n % 48;
		if (run->exit_reason == KVM_EXIT_IO && rand_r(&seed) % 4) {
			run->io.data_offset &= 0x3fff;
			run->io.count &= 0x1fff;
			run->io.size = (uint8_t)(1 << rand_r(&seed) % 4);
			run->io.port = 0x80;
		}
		arch_exit_capture(run, &exit);
		arch_exit_serve(&fix.vm, &fix.bus, 3, exit.wants_reply ? run : NULL, &exit,
				fix.text, sizeof(fix.text));
		assert_non_null(memchr(fix.text, '\0', sizeof(fix.text)));
	}
	free(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_fixture(a_port_write_is_posted_whole),
		with_fixture(a_port_read_waits_for_its_answer),
		with_fixture(a_string_is_served_in_order),
		with_fixture(data_outside_the_page_is_not_touched),
		with_fixture(mmio_writes_are_posted_and_reads_answered),
		with_fixture(unmapped_reads_give_ones_and_writes_are_counted),
		with_fixture(deaths_say_why),
		with_fixture(a_failed_emulation_shows_its_instruction),
		with_fixture(other_internal_errors_show_kvm_s_words),
		with_fixture(system_events_are_what_they_are),
		with_fixture(a_halt_goes_on),
		with_fixture(texts_fit_their_room),
		with_fixture(noise_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
