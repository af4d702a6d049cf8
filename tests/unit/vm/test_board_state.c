/* The devices of a machine, from one board to another on this host's KVM: all of it arrives, what
 * is pending is raised again, and another machine's devices are refused by name. Exits 77 where
 * there is no KVM. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/board_state.h"

#define RINGS_GPA 0x10000 /* of every queue: nobody looks into them */
#define TEXT	  "{}\n"

/* virtio 1.2, table 4.1. */
enum { DRIVER_FEATURES = 0x20, DRIVER_FEATURES_SEL = 0x24, QUEUE_SEL = 0x30, QUEUE_NUM = 0x38 };
enum { QUEUE_READY = 0x44, STATUS = 0x70, QUEUE_DESC = 0x80, QUEUE_DRIVER = 0x90 };
enum { QUEUE_DEVICE = 0xa0 };
/* In the order of board.c's list. */
enum { CONSOLE, RNG, DISK, VSOCK_WITH_DISK };

struct machine_parts {
	struct kvm kvm;
	struct guest_memory mem;
	struct topology topology;
	struct arch_vm *vm;
	struct loop *loop;
	struct board board;
	struct virtio_console_port port[2];
};

static char disk_path[] = "/tmp/stasis-board-XXXXXX";

static void on_event(struct legacy *dev UNUSED, enum legacy_event event UNUSED)
{
}

static const struct legacy_ops no_events = {.event = on_event};

static void no_output(struct serial *s UNUSED, const uint8_t *data UNUSED, size_t len UNUSED)
{
}

static void make(struct machine_parts *m, unsigned cpus, uint64_t disk_bytes)
{
	const struct vm_disk disk = {.path = disk_path, .id = "disk0"};
	const struct arch_vm_config vm_config = {.topology = &m->topology};
	const struct board_config config = {
		.topology = &m->topology,
		.ports = m->port,
		.port_count = ARRAY_SIZE(m->port),
		.disks = &disk,
		.disk_count = disk_bytes > 0,
		.disk_queues = 1,
		.vsock.listen_fd = -1,
		.net_pairs = 1,
		.legacy_ops = &no_events,
		.uart_output = no_output,
	};
	struct guest_layout layout;
	struct error err = {0};
	unsigned bits;

	memset(m, 0, sizeof(*m));
	m->kvm = (struct kvm){.fd = -1, .vm_fd = -1};
	m->port[0] = (struct virtio_console_port){.console = true, .in_fd = -1, .out_fd = -1};
	m->port[1] = (struct virtio_console_port){.name = "control", .in_fd = -1, .out_fd = -1};
	assert_true(!disk_bytes || truncate(disk_path, (off_t)disk_bytes) == 0);
	if (topology_from_cpus(cpus, &m->topology, &err) < 0 ||
	    topology_set_memory(&m->topology, MIB(64), &err) < 0 || loop_new(&m->loop, &err) < 0 ||
	    kvm_open(&m->kvm, "/dev/kvm", &err) < 0 || arch_host_check(&m->kvm, &bits, &err) < 0 ||
	    arch_memory_layout(&m->topology, bits, &layout, &err) < 0 ||
	    guest_memory_init(&m->mem, &layout, &err) < 0 ||
	    kvm_create_vm(&m->kvm, arch_vm_type(&m->kvm, &layout), &err) < 0 ||
	    arch_vm_new(&m->kvm, &m->mem, &vm_config, &m->vm, &err) < 0 ||
	    board_init(&m->board, m->loop, &m->kvm, &m->mem, &config, &err) < 0)
		fail_msg("%s", err.what);
}

static void finish(struct machine_parts *m)
{
	assert_true(board_quiesce(&m->board, 1000000000));
	board_done(&m->board);
	arch_vm_free(m->vm);
	kvm_close_vm(&m->kvm);
	guest_memory_done(&m->mem);
	kvm_close(&m->kvm);
	loop_free(m->loop);
}

static void store(struct machine_parts *m, enum arch_device kind, unsigned index, uint64_t offset,
		  uint32_t v, unsigned len)
{
	struct arch_slot slot;

	assert_int_equal(arch_slot(&m->topology, kind, index, &slot), 0);
	bus_write(&m->board.bus, slot.space, slot.base + offset, &v, len);
}

/* As a driver does it; its first queue. */
static void bring_up(struct machine_parts *m, unsigned n)
{
	static const struct {
		uint32_t offset, value;
	} writes[] = {
		{STATUS, 0},
		{STATUS, 3},
		{DRIVER_FEATURES_SEL, 1},
		{DRIVER_FEATURES, 1},
		{STATUS, 11},
		{QUEUE_SEL, 0},
		{QUEUE_NUM, 16},
		{QUEUE_DESC, RINGS_GPA},
		{QUEUE_DRIVER, RINGS_GPA + 0x1000},
		{QUEUE_DEVICE, RINGS_GPA + 0x2000},
		{QUEUE_READY, 1},
		{STATUS, 15},
	};

	for (size_t i = 0; i < ARRAY_SIZE(writes); i++)
		store(m, ARCH_VIRTIO_MMIO, n, writes[i].offset, writes[i].value, 4);
	assert_int_equal(m->board.virtio[n].dev->status, 15);
	assert_true(m->board.virtio[n].dev->queue[0].ready);
}

static uint8_t *save(struct machine_parts *m, size_t *ret_len)
{
	struct snapshot_writer w = {0};
	struct error err = {0};
	uint8_t *data = NULL;

	assert_true(board_quiesce(&m->board, 1000000000));
	board_state_save(&m->board, &w);
	if (snapshot_encode(&w, TEXT, strlen(TEXT), &data, ret_len, &err) < 0)
		fail_msg("%s", err.what);
	snapshot_writer_done(&w);
	return data;
}

static int restore(struct machine_parts *m, const uint8_t *data, size_t len, struct error *err)
{
	struct snapshot_state s;
	int r;

	assert_true(board_quiesce(&m->board, 1000000000));
	assert_int_equal(snapshot_decode(data, len, TEXT, strlen(TEXT), &s, err), 0);
	r = board_state_restore(&m->board, &s, err);
	if (r == 0)
		r = snapshot_end(&s, err);
	snapshot_state_done(&s);
	return r;
}

static void turn_for(struct machine_parts *m, uint64_t ns)
{
	for (uint64_t end = now_ns() + ns; now_ns() < end;)
		assert_true(loop_turn(m->loop, 1000000) >= 0);
}

/* In KVM's own IOAPIC, as the guest does it. */
static void unmask(struct machine_parts *m, enum arch_device kind)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct arch_slot slot;

	assert_int_equal(arch_slot(&m->topology, kind, 0, &slot), 0);
	assert_int_equal(kvm_ioctl(m->kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	assert_true(chip.chip.ioapic.redirtbl[slot.gsi].fields.mask);
	chip.chip.ioapic.redirtbl[slot.gsi].fields.mask = 0;
	assert_int_equal(kvm_ioctl(m->kvm.vm_fd, KVM_SET_IRQCHIP, &chip), 0);
}

static uint64_t raised(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void generation(const struct machine_parts *m, uint8_t id[VMGENID_BYTES])
{
	struct arch_slot slot;

	assert_int_equal(arch_slot(&m->topology, ARCH_VMGENID, 0, &slot), 0);
	assert_int_equal(guest_read(&m->mem, slot.base, id, VMGENID_BYTES), 0);
}

static void everything_arrives(void **state UNUSED)
{
	uint8_t booted[VMGENID_BYTES], made[VMGENID_BYTES], restored[VMGENID_BYTES];
	struct machine_parts a, b;
	uint8_t *first, *second;
	struct error err = {0};
	size_t len, again;

	make(&a, 2, MIB(4));
	bring_up(&a, CONSOLE);
	bring_up(&a, DISK);
	bring_up(&a, VSOCK_WITH_DISK);
	store(&a, ARCH_UART, 0, 1, 0x02, 1); /* IER: told when the transmitter is empty */
	virtio_config_changed(a.board.virtio[CONSOLE].dev);
	generation(&a, booted);
	first = save(&a, &len);
	finish(&a);

	make(&b, 2, MIB(4));
	generation(&b, made);
	if (restore(&b, first, len, &err) < 0)
		fail_msg("%s", err.what);
	second = save(&b, &again);
	assert_int_equal(len, again);
	assert_memory_equal(first, second, len);
	assert_int_equal(b.board.virtio[DISK].dev->status, 15);
	assert_int_equal(b.board.virtio[DISK].dev->queue[0].desc_gpa, RINGS_GPA);
	assert_int_equal(b.board.virtio[RNG].dev->status, 0);

	/* Another number than any before. */
	generation(&b, restored);
	assert_memory_not_equal(booted, made, VMGENID_BYTES);
	assert_memory_not_equal(booted, restored, VMGENID_BYTES);
	assert_memory_not_equal(made, restored, VMGENID_BYTES);

	/* Nothing is raised before it goes on; then what had not been seen. */
	assert_int_equal(raised(b.board.vmgenid_irq_fd), 0);
	for (unsigned i = 0; i < b.board.virtio_count; i++)
		assert_int_equal(raised(b.board.virtio[i].irq_fd), 0);
	board_state_settle(&b.board);
	/* Its pin is masked, as at power-on: an edge would be lost. */
	assert_int_equal(raised(b.board.vmgenid_irq_fd), 0);
	turn_for(&b, 20000000);
	assert_int_equal(raised(b.board.vmgenid_irq_fd), 0);
	unmask(&b, ARCH_VMGENID);
	turn_for(&b, 200000000);
	assert_int_equal(raised(b.board.vmgenid_irq_fd), 1);
	board_state_resume(&b.board);
	assert_true(raised(b.board.virtio[CONSOLE].irq_fd) > 0);
	assert_int_equal(raised(b.board.virtio[DISK].irq_fd), 0);
	assert_true(raised(b.board.uart_irq_fd[0]) > 0);
	assert_int_equal(raised(b.board.uart_irq_fd[1]), 0);
	assert_false(b.board.virtio[DISK].dev->stopped);
	/* A thaw or a save of it is not another life. */
	board_state_settle(&b.board);
	board_state_resume(&b.board);
	assert_int_equal(raised(b.board.vmgenid_irq_fd), 0);
	free(first);
	free(second);
	finish(&b);
}

static void expect_refused(uint64_t made_with, uint64_t restored_with, const char *word)
{
	struct machine_parts a, b;
	struct error err = {0};
	uint8_t *data;
	size_t len;

	make(&a, 1, made_with);
	bring_up(&a, DISK);
	data = save(&a, &len);
	finish(&a);
	make(&b, 1, restored_with);
	assert_int_equal(restore(&b, data, len, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	if (!strstr(err.what, word))
		fail_msg("%s: no %s", err.what, word);
	free(data);
	finish(&b);
}

/* A device that is restored serves its driver as one that was never saved: what it has in flight is
 * waited for to the end. */
static void a_restored_device_is_no_ending_one(void **state UNUSED)
{
	struct machine_parts a, b;
	struct error err = {0};
	uint8_t *data;
	size_t len;

	make(&a, 1, 0);
	bring_up(&a, DISK);
	data = save(&a, &len);
	make(&b, 1, 0);
	assert_int_equal(restore(&b, data, len, &err), 0);
	board_release(&b.board);
	for (unsigned i = 0; i < b.board.virtio_count; i++)
		if (b.board.virtio[i].bound)
			assert_false(virtio_unanswered(b.board.virtio[i].dev));
	assert_true(virtio_running(b.board.virtio[DISK].dev));
	free(data);
	finish(&a);
	finish(&b);
}

/* Of a version that had no generation id: its guest is told of nothing. */
static void an_older_one_has_no_generation(void **state UNUSED)
{
	struct snapshot_writer w = {0}, older = {0};
	struct machine_parts a;
	struct error err = {0};
	struct snapshot_state s;
	uint8_t *data = NULL, made[VMGENID_BYTES], restored[VMGENID_BYTES];
	size_t len;

	make(&a, 1, 0);
	generation(&a, made);
	assert_true(board_quiesce(&a.board, 1000000000));
	board_state_save(&a.board, &w);
	assert_int_equal(snapshot_encode(&w, TEXT, strlen(TEXT), &data, &len, &err), 0);
	assert_int_equal(snapshot_decode(data, len, TEXT, strlen(TEXT), &s, &err), 0);
	for (unsigned i = 0; i < s.count; i++) {
		struct state_io io;

		if (!strcmp(s.section[i].name, "device.vmgenid0"))
			continue;
		state_save(&io);
		io.bytes = malloc(s.section[i].len);
		assert_non_null(io.bytes);
		memcpy(io.bytes, s.section[i].data, s.section[i].len);
		io.len = io.cap = s.section[i].len;
		snapshot_add(&older, s.section[i].name, s.section[i].version, &io);
	}
	snapshot_state_done(&s);
	free(data);
	assert_int_equal(snapshot_encode(&older, TEXT, strlen(TEXT), &data, &len, &err), 0);
	if (restore(&a, data, len, &err) < 0)
		fail_msg("%s", err.what);
	generation(&a, restored);
	assert_memory_equal(made, restored, VMGENID_BYTES);
	board_state_settle(&a.board);
	board_state_resume(&a.board);
	assert_int_equal(raised(a.board.vmgenid_irq_fd), 0);
	snapshot_writer_done(&w);
	snapshot_writer_done(&older);
	free(data);
	finish(&a);
}

static void another_machine_is_refused(void **state UNUSED)
{
	expect_refused(MIB(4), MIB(2), "device.virtio2: virtio-blk.capacity: can't have");
	/* Its window 2 has the vsock device then. */
	expect_refused(MIB(4), 0, "device.virtio2: virtio.device_id: can't have");
}

static void devices_have_to_be_there(void **state UNUSED)
{
	struct snapshot_writer w = {0};
	struct machine_parts a;
	struct error err = {0};
	uint8_t *data = NULL;
	struct state_io io;
	size_t len;

	make(&a, 1, 0);
	assert_int_equal(snapshot_encode(&w, TEXT, strlen(TEXT), &data, &len, NULL), 0);
	assert_int_equal(restore(&a, data, len, &err), -EINVAL);
	assert_string_equal(err.what, "section device.serial0 is missing");
	free(data);

	assert_true(board_quiesce(&a.board, 1000000000));
	board_state_save(&a.board, &w);
	state_save(&io);
	snapshot_add(&w, "device.virtio3", 1, &io);
	assert_int_equal(snapshot_encode(&w, TEXT, strlen(TEXT), &data, &len, NULL), 0);
	err = (struct error){0};
	assert_int_equal(restore(&a, data, len, &err), -EINVAL);
	assert_non_null(strstr(err.what, "section device.virtio3 is too much"));
	snapshot_writer_done(&w);
	free(data);
	finish(&a);
}

/* Local APIC ids past 254: the IOAPIC is ours, and KVM gets its routes back. */
static void routes_are_installed_again(void **state UNUSED)
{
	const unsigned pin = 5;
	struct machine_parts a, b;
	struct arch_slot slot;
	struct error err = {0};
	uint8_t *data;
	size_t len;

	make(&a, 300, 0);
	assert_true(a.board.irqchip.present);
	store(&a, ARCH_IOAPIC, 0, 0, 0x10 + 2 * pin, 4); /* IOREGSEL: the low half */
	store(&a, ARCH_IOAPIC, 0, 0x10, 0x31, 4);	 /* IOWIN: vector 0x31, not masked */
	assert_int_equal(a.board.irqchip.routed, 1u << pin);
	data = save(&a, &len);
	finish(&a);

	make(&b, 300, 0);
	if (restore(&b, data, len, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(b.board.irqchip.routed, 0);
	board_state_settle(&b.board);
	assert_int_equal(b.board.irqchip.routed, 1u << pin);
	assert_int_equal(b.board.irqchip.ioapic.install_failures, 0);
	assert_int_equal(arch_slot(&b.topology, ARCH_VMGENID, 0, &slot), 0);
	assert_int_not_equal(slot.gsi, pin);
	/* Its pin is masked: an edge would be lost, so it comes with the route, once. */
	assert_int_equal(raised(b.board.vmgenid_irq_fd), 0);
	board_state_resume(&b.board);
	assert_int_equal(raised(b.board.vmgenid_irq_fd), 0);
	for (unsigned i = 0; i < 2; i++) {
		store(&b, ARCH_IOAPIC, 0, 0, 0x10 + 2 * slot.gsi, 4);
		store(&b, ARCH_IOAPIC, 0, 0x10, 0x32, 4);
		assert_int_equal(raised(b.board.vmgenid_irq_fd), i == 0);
		store(&b, ARCH_IOAPIC, 0, 0x10, 0x10032, 4);
	}
	free(data);
	finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_restored_device_is_no_ending_one),
		cmocka_unit_test(everything_arrives),
		cmocka_unit_test(an_older_one_has_no_generation),
		cmocka_unit_test(another_machine_is_refused),
		cmocka_unit_test(devices_have_to_be_there),
		cmocka_unit_test(routes_are_installed_again),
	};
	int fd, r;

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	fd = mkstemp(disk_path);
	if (fd < 0)
		return 1;
	close(fd);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(disk_path);
	return r;
}
