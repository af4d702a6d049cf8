/* Exits as they are captured and served. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/aarch64/machine.h"

static struct {
	unsigned aborts, vcpu;
	int answer;
} kvm_of_ours;

int cpu_abort(const struct arch_vm *vm, unsigned index)
{
	(void)vm;
	kvm_of_ours.aborts++;
	kvm_of_ours.vcpu = index;
	return kvm_of_ours.answer;
}

struct fake {
	struct bus_device bus;
	uint64_t offset;
	uint8_t data[8];
	unsigned len, reads, writes;
};

static void fake_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	struct fake *f = container_of(bus, struct fake, bus);

	f->reads++;
	f->offset = offset;
	memset(data, 0x5a, len);
}

static void fake_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct fake *f = container_of(bus, struct fake, bus);

	f->writes++;
	f->offset = offset;
	f->len = len;
	memcpy(f->data, data, len);
}

struct set {
	struct arch_vm vm;
	struct bus bus;
	struct fake dev;
	struct kvm_run run;
	char text[200];
};

static int set_up(void **state)
{
	struct set *s = calloc(1, sizeof(*s));

	s->dev.bus = (struct bus_device){.name = "fake", .read = fake_read, .write = fake_write};
	bus_init(&s->bus);
	*state = s;
	return bus_attach(&s->bus, BUS_MMIO, VIRTIO_GPA, WINDOW_SIZE, &s->dev.bus);
}

static int tear_down(void **state)
{
	struct set *s = *state;

	bus_done(&s->bus);
	free(s);
	return 0;
}

static enum arch_verdict serve(struct set *s)
{
	struct arch_exit exit;

	arch_exit_capture(&s->run, &exit);
	return arch_exit_serve(&s->vm, &s->bus, 3, exit.wants_reply ? &s->run : NULL, &exit,
			       s->text, sizeof(s->text));
}

static void a_write_is_posted_whole(void **state)
{
	struct set *s = *state;
	struct arch_exit exit;

	s->run.exit_reason = KVM_EXIT_MMIO;
	s->run.mmio.phys_addr = VIRTIO_GPA + 0x50;
	s->run.mmio.is_write = 1;
	s->run.mmio.len = 4;
	memcpy(s->run.mmio.data, "\1\2\3\4", 4);
	arch_exit_capture(&s->run, &exit);
	assert_false(exit.wants_reply);
	assert_int_equal(exit.space, BUS_MMIO);
	assert_int_equal(exit.addr, VIRTIO_GPA + 0x50);
	assert_int_equal(exit.len, 4);
	memset(&s->run, 0xff, sizeof(s->run)); /* the vCPU goes on */
	assert_int_equal(arch_exit_serve(&s->vm, &s->bus, 0, NULL, &exit, s->text, 100),
			 ARCH_CONTINUE);
	assert_int_equal(s->dev.writes, 1);
	assert_memory_equal(s->dev.data, "\1\2\3\4", 4);
}

static void a_read_waits(void **state)
{
	struct set *s = *state;

	s->run.exit_reason = KVM_EXIT_MMIO;
	s->run.mmio.phys_addr = VIRTIO_GPA + 0xffc;
	s->run.mmio.len = 4;
	assert_int_equal(serve(s), ARCH_CONTINUE);
	assert_int_equal(s->dev.reads, 1);
	assert_int_equal(s->dev.offset, 0xffc);
	assert_memory_equal(s->run.mmio.data, "\x5a\x5a\x5a\x5a", 4);
	/* A length that KVM never gives stays within the page. */
	s->run.mmio.len = 4096;
	assert_int_equal(serve(s), ARCH_CONTINUE);
	s->run.mmio.is_write = 1;
	assert_int_equal(serve(s), ARCH_CONTINUE);
	assert_int_equal(s->dev.writes, 0);
}

static void system_events(void **state)
{
	static const struct {
		uint32_t type;
		enum arch_verdict verdict;
		const char *says;
	} events[] = {
		{KVM_SYSTEM_EVENT_SHUTDOWN, ARCH_SHUTDOWN, "powered off"},
		{KVM_SYSTEM_EVENT_RESET, ARCH_RESET, "reset"},
		{KVM_SYSTEM_EVENT_CRASH, ARCH_CRASHED, "crashed"},
		{77, ARCH_CONTINUE, ""},
	};
	struct set *s = *state;

	s->run.exit_reason = KVM_EXIT_SYSTEM_EVENT;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		s->text[0] = '\0';
		s->run.system_event.type = events[i].type;
		assert_int_equal(serve(s), events[i].verdict);
		assert_non_null(strstr(s->text, events[i].says));
	}
	assert_int_equal(s->vm.unknown_events, 1);
}

/* The guest is aborted, and goes on, where KVM can do that; else it has no way on. */
static void an_access_without_a_syndrome_is_aborted(void **state)
{
	struct set *s = *state;

	s->run.exit_reason = KVM_EXIT_ARM_NISV;
	s->vm.has_abort = true;
	kvm_of_ours.aborts = 0;
	assert_int_equal(serve(s), ARCH_CONTINUE);
	assert_int_equal(kvm_of_ours.aborts, 1);
	assert_int_equal(s->vm.aborts, 1);
	kvm_of_ours.answer = -EINVAL;
	assert_int_equal(serve(s), ARCH_DIED);
	assert_int_equal(s->vm.aborts, 1);
	kvm_of_ours.answer = 0;
}

static void deaths_are_told(void **state)
{
	static const struct {
		uint32_t reason;
		const char *says;
	} deaths[] = {
		{KVM_EXIT_FAIL_ENTRY, "could not enter"},
		{KVM_EXIT_INTERNAL_ERROR, "internal error"},
		{KVM_EXIT_ARM_NISV, "can't emulate"},
		{KVM_EXIT_HLT, "no handler"},
		{12345, "12345"},
	};
	struct set *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(deaths); i++) {
		s->run.exit_reason = deaths[i].reason;
		assert_int_equal(serve(s), ARCH_DIED);
		assert_non_null(strstr(s->text, deaths[i].says));
		assert_non_null(strstr(s->text, "vCPU 3"));
	}
	s->run.exit_reason = KVM_EXIT_INTR;
	assert_int_equal(serve(s), ARCH_CONTINUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_write_is_posted_whole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_read_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(system_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_access_without_a_syndrome_is_aborted, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(deaths_are_told, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
