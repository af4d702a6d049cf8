/* Saved state of the devices that are no virtio ones: the serial port, the IOAPIC, and those that
 * have none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/legacy.h"
#include "devices/serial.h"
#include "ioapic_guest.h"
#include "state_subject.h"

/* ---- serial ------------------------------------------------------------------------------- */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static uint8_t sent[8];
static size_t sent_len;

static void output(struct serial *s, const uint8_t *data, size_t len)
{
	(void)s;
	for (size_t i = 0; i < len && sent_len < sizeof(sent); i++)
		sent[sent_len++] = data[i];
}

static void renew_serial(void *arg)
{
	struct serial *s = arg;

	serial_init(s, -1);
	s->output = output;
}

static void serial_do(void *arg, struct state_io *io)
{
	serial_state(arg, io);
}

static uint8_t in(struct serial *s, unsigned reg)
{
	uint8_t v;

	s->bus.read(&s->bus, reg, &v, 1);
	return v;
}

static void out(struct serial *s, unsigned reg, uint8_t v)
{
	s->bus.write(&s->bus, reg, &v, 1);
}

static void run_serial(void *arg)
{
	struct serial *s = arg;

	serial_resume(s);
	for (unsigned i = 0; i < 40; i++) {
		in(s, i % 8);
		serial_input(s, (const uint8_t *)"abc", 3);
	}
	out(s, DATA, 'x');
}

static void serial_goes_on(void **state)
{
	struct serial s;
	const struct state_subject subject = {&s, renew_serial, serial_do, run_serial};
	uint8_t *bytes;
	size_t len;

	(void)state;
	renew_serial(&s);
	out(&s, LCR, 0x80);
	out(&s, DATA, 1);
	out(&s, IER, 2);
	out(&s, LCR, 0x03);
	out(&s, IIR, 0xc1);
	out(&s, MCR, 0x0b);
	out(&s, SCR, 0x5a);
	out(&s, IER, 0x03);
	in(&s, IIR);
	assert_int_equal(serial_input(&s, (const uint8_t *)"0123456789", 10), 10);
	/* So that the FIFO's front lies in its middle. */
	assert_int_equal(in(&s, DATA), '0');
	bytes = state_subject_move(&subject, &len);

	assert_int_equal(s.irq.raised, 0);
	serial_resume(&s);
	assert_int_equal(s.irq.raised, 1);
	assert_int_equal(in(&s, SCR), 0x5a);
	assert_int_equal(in(&s, IER), 0x03);
	assert_int_equal(in(&s, IIR), 0xcc);
	for (uint8_t c = '1'; c <= '9'; c++) {
		assert_int_equal(in(&s, LSR), 0x61);
		assert_int_equal(in(&s, DATA), c);
	}
	assert_int_equal(in(&s, LSR), 0x60);
	sent_len = 0;
	out(&s, DATA, 'z');
	assert_int_equal(sent_len, 1);
	assert_int_equal(sent[0], 'z');

	assert_true(state_subject_mangle(&subject, bytes, len) > 2 * STATE_HEAD_BYTES);
	free(bytes);
}

static void serial_refusal_changes_nothing(void **state)
{
	struct state_io io;
	struct error err = {0};
	struct serial s;

	(void)state;
	renew_serial(&s);
	out(&s, SCR, 0x11);
	state_save(&io);
	serial_state(&s, &io);
	assert_int_equal(state_result(&io, NULL), 0);
	io.bytes[STATE_HEAD_BYTES] = 0x10; /* IER has four bits */
	out(&s, SCR, 0x22);

	struct state_io from;

	state_restore(&from, io.bytes, io.len);
	serial_state(&s, &from);
	assert_int_equal(state_result(&from, &err), -EINVAL);
	assert_string_equal(err.what, "serial.registers: can't have this value");
	assert_int_equal(in(&s, SCR), 0x22);
	state_free(&io);
}

/* ---- the IOAPIC --------------------------------------------------------------------------- */

static void renew_ioapic(void *arg)
{
	struct guest *g = arg;

	guest_close(g);
	guest_open(g);
}

static void ioapic_do(void *arg, struct state_io *io)
{
	struct guest *g = arg;

	ioapic_state(&g->io, io);
}

static void run_ioapic(void *arg)
{
	struct guest *g = arg;

	ioapic_settle(&g->io);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		ioapic_set_line(&g->io, pin, true);
		guest_get(g, LOW(pin));
		guest_out(g, EOI, pin);
		ioapic_set_line(&g->io, pin, false);
	}
	ioapic_settle(&g->io);
}

static void ioapic_goes_on(void **state)
{
	struct guest g;
	const struct state_subject subject = {&g, renew_ioapic, ioapic_do, run_ioapic};
	uint8_t *bytes;
	size_t len;

	(void)state;
	guest_open(&g);
	guest_put(&g, 0, 5u << 24);
	guest_program(&g, 3, 0x02000000, 0x31);
	guest_level(&g, 9, 0x39, 1);
	guest_level(&g, 10, 0x3a, 1);
	/* 9 is in service; 10 is too, and its driver has masked it, as Linux does before its EOI.
	 */
	ioapic_set_line(&g.io, 9, true);
	ioapic_set_line(&g.io, 10, true);
	guest_put(&g, LOW(10), MASKED | LEVEL | 0x3a);
	assert_int_equal(guest_get(&g, LOW(10)) & REMOTE_IRR, REMOTE_IRR);
	bytes = state_subject_move(&subject, &len);

	assert_int_equal(g.attempts, 0);
	assert_int_equal(g.sent, 0);
	ioapic_settle(&g.io);
	/* All three routes are there: that of the masked one for its EOI. Nothing went out twice.
	 */
	assert_int_equal(g.attempts, 1);
	assert_int_equal(g.count, 3);
	assert_int_equal(g.sent, 0);
	assert_int_equal(guest_in(&g, IOREGSEL), LOW(10));
	guest_out(&g, EOI, 0x39);
	assert_int_equal(g.sent, 1);
	assert_int_equal(g.last.pin, 9);
	guest_out(&g, EOI, 0x3a);
	assert_int_equal(g.sent, 1);
	guest_put(&g, LOW(10), LEVEL | 0x3a);
	assert_int_equal(g.sent, 2);
	assert_int_equal(guest_get(&g, 0), 5u << 24);

	assert_true(state_subject_mangle(&subject, bytes, len) > 2 * STATE_HEAD_BYTES);
	free(bytes);
	guest_close(&g);
}

/* ---- those without ------------------------------------------------------------------------ */

static void legacy_names_itself(void **state)
{
	struct legacy power, panic;
	struct error err = {0};
	struct state_io io, from;

	(void)state;
	power_init(&power, NULL, NULL);
	pvpanic_init(&panic, NULL, NULL);
	state_save(&io);
	legacy_state(&power, &io);
	legacy_state(&panic, &io);
	assert_int_equal(state_result(&io, NULL), 0);
	assert_int_equal(io.len, 2 * STATE_HEAD_BYTES);
	state_restore(&from, io.bytes, io.len);
	legacy_state(&power, &from);
	legacy_state(&panic, &from);
	assert_int_equal(state_result(&from, &err), 0);
	state_restore(&from, io.bytes, io.len);
	legacy_state(&panic, &from);
	assert_int_equal(state_result(&from, &err), -EINVAL);
	assert_string_equal(err.what, "pvpanic: is missing, or another section is in its place");
	state_free(&io);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serial_goes_on),
		cmocka_unit_test(serial_refusal_changes_nothing),
		cmocka_unit_test(ioapic_goes_on),
		cmocka_unit_test(legacy_names_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
