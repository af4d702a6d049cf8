/* Sections of a snapshot that an earlier build made, read by one that knows more of them.
 * Argument: a folder of tests/guest/snapshots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "devices/serial.h"
#include "freeze/snapshot_folder.h"
#include "freeze/snapshot_state.h"
#include "vm/session.h"
#include "vm/snapshot_file.h"
#include "vm/snapshot_names.h"

static const char *folder;

struct stored {
	char *text, *data;
	size_t text_len, len;
	struct snapshot_state s;
};

static void read_one(const char *name, char **ret_data, size_t *ret_len)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(file_read(path, MIB(1), ret_data, ret_len), 0);
}

static void begin(struct stored *st)
{
	struct error err = {0};

	read_one(SNAPSHOT_DESCRIPTION, &st->text, &st->text_len);
	read_one(SNAPSHOT_STATE, &st->data, &st->len);
	if (snapshot_decode((uint8_t *)st->data, st->len, st->text, st->text_len, &st->s, &err) < 0)
		fail_msg("%s", err.what);
}

static void end(struct stored *st)
{
	snapshot_state_done(&st->s);
	free(st->text);
	free(st->data);
}

static void its_description_is_read(void **state UNUSED)
{
	struct vm_config c = {0};
	struct error err = {0};
	struct stored st;

	begin(&st);
	if (snapshot_read_description(st.text, st.text_len, &c, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(c.session, VM_SESSION_NONE);
	assert_string_equal(c.cpu_vendor, "amd");
	assert_int_equal(topology_vcpus(&c.topology), 1);
	vm_config_done(&c);
	end(&st);
}

/* A device as of a later build, whose section has a field at its end, or another section behind it.
 */
struct grown {
	struct serial serial;
	uint32_t later;
};

#define FIELD_DEFAULT 7
#define LATER_DEFAULT 0x1234

static void serial_v2(struct grown *g, struct state_io *io)
{
	serial_state(&g->serial, io);
	if (!state_since(io, 2)) {
		g->later = LATER_DEFAULT;
		return;
	}
	if (state_begin(io, "later", 1))
		state_u32(io, "later", &g->later);
	state_end(io);
}

static void a_section_that_has_grown_reads_the_old_one(void **state UNUSED)
{
	struct grown old = {.later = 1}, grown = {.later = 99}, back = {0};
	struct error err = {0};
	struct state_io io, in;
	struct stored st;

	begin(&st);
	serial_init(&old.serial, -1);
	if (snapshot_take(&st.s, "device.serial0", 2, &io, &err) < 0)
		fail_msg("%s", err.what);
	serial_v2(&old, &io);
	assert_int_equal(state_result(&io, &err), 0);
	assert_int_equal(old.later, LATER_DEFAULT);
	end(&st);

	/* … and its own. */
	serial_init(&grown.serial, -1);
	serial_init(&back.serial, -1);
	state_save(&io);
	serial_v2(&grown, &io);
	assert_int_equal(state_result(&io, NULL), 0);
	state_restore(&in, io.bytes, io.len);
	in.version = 2;
	serial_v2(&back, &in);
	assert_int_equal(state_result(&in, NULL), 0);
	assert_int_equal(back.later, 99);
	state_free(&io);
}

/* What is in a section has a version of its own, of its fields. */
static void fields_that_are_appended_have_their_default(void **state UNUSED)
{
	struct error err = {0};
	struct state_io io;
	struct stored st;
	uint8_t field = FIELD_DEFAULT;
	uint64_t guest_ns = 0;
	unsigned version;

	begin(&st);
	assert_int_equal(snapshot_take(&st.s, SNAPSHOT_VM, SNAPSHOT_VM_VERSION + 1, &io, &err), 0);
	/* The clock is the last of it: 8 bytes behind a head. */
	io.at = io.len - 8 - STATE_HEAD_BYTES;
	version = state_begin(&io, "clock", 2);
	assert_int_equal(version, 1);
	state_u64(&io, "guest_ns", &guest_ns);
	if (version >= 2)
		state_u8(&io, "field", &field);
	state_end(&io);
	assert_int_equal(state_result(&io, &err), 0);
	assert_int_equal(field, FIELD_DEFAULT);
	assert_true(guest_ns > 0);
	end(&st);
}

/* None of them is refused by a build that knows one version more, and all are known to this one. */
static void every_section_is_taken(void **state UNUSED)
{
	struct error err = {0};
	struct session session;
	struct state_io io;
	struct stored st;

	begin(&st);
	session_init(&session);
	assert_true(snapshot_has(&st.s, SNAPSHOT_SESSION));
	for (unsigned i = 0; i < st.s.count; i++) {
		const char *name = st.s.section[i].name;

		if (snapshot_take(&st.s, name, st.s.section[i].version + 1, &io, &err) < 0)
			fail_msg("%s", err.what);
		assert_int_equal(io.version, st.s.section[i].version);
		if (strcmp(name, SNAPSHOT_SESSION))
			continue;
		session_state(&session, &io);
		assert_int_equal(state_result(&io, &err), 0);
	}
	assert_int_equal(snapshot_end(&st.s, &err), 0);
	end(&st);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_description_is_read),
		cmocka_unit_test(a_section_that_has_grown_reads_the_old_one),
		cmocka_unit_test(fields_that_are_appended_have_their_default),
		cmocka_unit_test(every_section_is_taken),
	};

	if (argc != 2)
		return 2;
	folder = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
