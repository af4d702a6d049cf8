/* The files of a snapshot. The first byte says which:
 *
 *   0  the state, as it is: its checksums are the input's
 *   1  the description: what is taken has the promises of a shape
 *   2  the sections of devices, behind checksums that are right: the rest is cut in two by its
 *      first byte, for two UARTs, which then work
 *   3  one section's state, read by names and fields that a reader may want
 *   4  the table of a memory, and behind as many bytes as the second two say, the memory: both are
 *      laid under a small machine, and read page by page
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "freeze/snapshot_layers.h"
#include "fuzz.h"
#include "vm/board_state.h"
#include "vm/snapshot_file.h"

static const char text[] = "{}\n";

static void check_error(int r, const struct error *err)
{
	FUZZ_CHECK(r < 0 && err->code < 0 && err->what[0]);
	FUZZ_CHECK(err->kind == ERROR_USAGE);
}

static void decode(const uint8_t *data, size_t len)
{
	struct snapshot_state s;
	struct error err = {0};
	int r = snapshot_decode(data, len, text, sizeof(text) - 1, &s, &err);

	if (r < 0) {
		check_error(r, &err);
		return;
	}
	FUZZ_CHECK(s.count <= SNAPSHOT_SECTIONS_MAX);
	for (unsigned i = 0; i < s.count; i++) {
		struct state_io io;

		FUZZ_CHECK(s.section[i].data >= data && s.section[i].len <= len);
		FUZZ_CHECK(!snapshot_take(&s, s.section[i].name, s.section[i].version, &io, NULL));
	}
	FUZZ_CHECK(!snapshot_end(&s, NULL));
	snapshot_state_done(&s);
}

static void describe(const uint8_t *data, size_t len)
{
	struct vm_config c = {0};
	struct error err = {0};
	int r = snapshot_read_description((const char *)data, len, &c, &err);

	if (r == 0) {
		const struct topology *t = &c.topology;
		struct guest_layout layout;

		FUZZ_CHECK(topology_vcpus(t) > 0 && topology_vcpus(t) <= TOPOLOGY_MAX_VCPUS);
		FUZZ_CHECK(t->nodes > 0 && t->nodes <= TOPOLOGY_MAX_NODES);
		(void)!arch_memory_layout(t, 46, &layout, NULL);
		for (unsigned i = 0; i < topology_vcpus(t); i++)
			(void)arch_vcpu_id(t, i);
	} else {
		check_error(r, &err);
	}
	vm_config_done(&c);
}

static void output(struct serial *s UNUSED, const uint8_t *data UNUSED, size_t len UNUSED)
{
}

static void use(struct serial *s)
{
	uint8_t in[40] = {0}, v;

	s->output = output;
	FUZZ_CHECK(serial_input(s, in, sizeof(in)) <= SERIAL_FIFO);
	for (unsigned i = 0; i < 4 * SERIAL_FIFO; i++)
		s->bus.read(&s->bus, i % 8, &v, 1);
	for (unsigned i = 0; i < 16; i++) {
		v = (uint8_t)(i * 17);
		s->bus.write(&s->bus, i % 8, &v, 1);
	}
	FUZZ_CHECK(s->rx_count <= SERIAL_FIFO);
}

static void restore(struct fuzz_input in)
{
	static struct board board, again;
	struct snapshot_writer w = {0};
	uint8_t *state = NULL;
	struct snapshot_state s;
	struct error err = {0};
	size_t len;
	int r;

	/* Without memory there is nothing that it could be in. */
	board.vmgenid_irq_fd = again.vmgenid_irq_fd = -1;
	for (unsigned i = 0; i < BOARD_UARTS; i++) {
		size_t wanted = i == 0 ? fuzz_u8(&in) : in.left, n = MIN(wanted, in.left);
		struct state_io io = {.bytes = malloc(n ?: 1), .len = n, .cap = n};

		memcpy(io.bytes, in.data, n);
		in.data += n;
		in.left -= n;
		snapshot_add(&w, i == 0 ? "device.serial0" : "device.serial1", 1, &io);
		serial_init(&board.uart[i], -1);
		serial_init(&again.uart[i], -1);
	}
	FUZZ_CHECK(!snapshot_encode(&w, text, sizeof(text) - 1, &state, &len, NULL));
	FUZZ_CHECK(!snapshot_decode(state, len, text, sizeof(text) - 1, &s, NULL));
	r = board_state_restore(&board, &s, &err);
	snapshot_state_done(&s);
	snapshot_writer_done(&w);
	free(state);
	if (r < 0) {
		check_error(r, &err);
		return;
	}
	/* What was taken is saved as it was, and taken again. */
	board_state_save(&board, &w);
	FUZZ_CHECK(!snapshot_encode(&w, text, sizeof(text) - 1, &state, &len, NULL));
	FUZZ_CHECK(!snapshot_decode(state, len, text, sizeof(text) - 1, &s, NULL));
	FUZZ_CHECK(!board_state_restore(&again, &s, NULL));
	snapshot_state_done(&s);
	snapshot_writer_done(&w);
	free(state);
	for (unsigned i = 0; i < BOARD_UARTS; i++)
		use(&board.uart[i]);
}

static void fields(const uint8_t *data, size_t len)
{
	static const char *const names[] = {"regs", "msrs", "x"};
	uint8_t bytes[300];
	struct state_io io;

	state_restore(&io, data, len);
	io.where = "vcpu.0";
	for (unsigned i = 0; i < 100; i++) {
		const char *name = names[i % ARRAY_SIZE(names)];
		unsigned version = state_begin(&io, name, (uint16_t)(1 + i % 4));
		uint32_t count = 0;

		FUZZ_CHECK(version <= 1 + i % 4);
		state_u32(&io, "count", &count);
		state_check(&io, "count", count <= sizeof(bytes));
		state_bytes(&io, "byte", bytes, io.err.code ? 0 : count);
		state_end(&io);
		FUZZ_CHECK(io.at <= len);
	}
	if (io.err.code)
		check_error(io.err.code, &io.err);
	FUZZ_CHECK(state_result(&io, NULL) <= 0);
}

/* Laid or refused; what is laid is read the same. */
static void lay(const struct snapshot_layers *l, struct guest_memory *mem)
{
	struct layers_reader *reader;
	struct error err = {0};
	const uint8_t *page;
	int r = snapshot_layers_lay(l, mem, &err);

	if (r < 0)
		check_error(r, &err);
	FUZZ_CHECK(layers_reader_new(l, &reader) == 0);
	for (uint64_t at = 0; at < mem->region[0].range.size; at += MEMORY_PAGE) {
		int code = layers_reader_page(reader, at, &page);

		FUZZ_CHECK(r < 0 || (code == 0 &&
				     !memcmp(page, guest_ptr(mem, at, MEMORY_PAGE), MEMORY_PAGE)));
	}
	layers_reader_free(reader);
}

static void layers(struct fuzz_input in)
{
	static const struct guest_layout layout = {.range = {{.size = KIB(256)}}, .count = 1};
	size_t len = fuzz_u16(&in), n = MIN(len, in.left);
	struct snapshot_layers l = {.count = 2};
	struct guest_memory mem;
	struct state_io io;
	struct error err = {0};

	for (unsigned i = 0; i < l.count; i++) {
		l.layer[i] = (struct snapshot_layer){.path = strdup("x"),
						     .fd = memfd_create("memory", MFD_CLOEXEC)};
		FUZZ_CHECK(l.layer[i].path && l.layer[i].fd >= 0);
	}
	FUZZ_CHECK(ftruncate(l.layer[1].fd, KIB(256)) == 0);
	state_restore(&io, in.data, n);
	memory_table_state(&l.layer[0].table, &io);
	if (state_result(&io, &err) < 0) {
		check_error(err.code, &err);
	} else {
		FUZZ_CHECK(fd_write_all(l.layer[0].fd, in.data + n, in.left - n) == 0);
		/* A raw file has the length of RAM. */
		FUZZ_CHECK(l.layer[0].table.lz4 || ftruncate(l.layer[0].fd, KIB(256)) == 0);
		FUZZ_CHECK(guest_memory_init(&mem, &layout, &err) == 0);
		lay(&l, &mem);
		guest_memory_done(&mem);
	}
	snapshot_layers_done(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint8_t what = fuzz_u8(&in);

	if (what == 0)
		decode(in.data, in.left);
	else if (what == 1)
		describe(in.data, in.left);
	else if (what == 2)
		restore(in);
	else if (what == 4)
		layers(in);
	else
		fields(in.data, in.left);
	return 0;
}
