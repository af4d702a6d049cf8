/* The memory of snapshots in layers: what is laid and read is what was saved, however it was
 * changed and packed; exactly the pages that changed are in a differential one; what is damaged is
 * refused. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/text.h"
#include "freeze/snapshot_frame.h"
#include "freeze/snapshot_layers.h"
#include "freeze/vmcore.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define LOWER	    MIB(4)
#define UPPER	    MIB(12)
#define UPPER_AT    GIB(4)
#define LOWER_PAGES (LOWER / MEMORY_PAGE)
#define MANY	    40960 /* pages … */
#define LONG	    64	  /* … the first of which are one run */
#define PAGES	    ((LOWER + UPPER) / MEMORY_PAGE)

static const char id[] = "0123456789abcdef0123456789abcdef";

struct fixture {
	char dir[32];
	struct loop *loop;
	unsigned files;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err = {0};

	strcpy(f->dir, "/tmp/test-layers.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(loop_new(&f->loop, &err), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	loop_free(f->loop);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* ---- a machine's memory -----------------------------------------------------------------------
 */

static void make(struct guest_memory *mem)
{
	const struct guest_layout layout = {.range = {{.size = LOWER},
						      {.gpa = UPPER_AT, .size = UPPER}},
					    .count = 2};
	struct error err = {0};

	assert_int_equal(guest_memory_init(mem, &layout, &err), 0);
	/* Pages are counted here. */
	for (unsigned i = 0; i < mem->count; i++)
		(void)madvise(mem->region[i].host, mem->region[i].range.size, MADV_NOHUGEPAGE);
}

static uint64_t gpa_of(size_t page)
{
	return page < LOWER_PAGES ? page * MEMORY_PAGE
				  : UPPER_AT + (page - LOWER_PAGES) * MEMORY_PAGE;
}

static uint8_t *at(const struct guest_memory *mem, size_t page)
{
	return guest_ptr(mem, gpa_of(page), MEMORY_PAGE);
}

/* Anything, but the same for the same number; half of it packs well. */
static void scribble(uint8_t *page, uint64_t *seed)
{
	for (size_t i = 0; i < MEMORY_PAGE; i++)
		page[i] = i % 2 ? (uint8_t)random_next(seed) : 7;
}

static void expect_same(const struct guest_memory *a, const struct guest_memory *b)
{
	for (size_t i = 0; i < PAGES; i++)
		if (memcmp(at(a, i), at(b, i), MEMORY_PAGE))
			fail_msg("page %zu differs", i);
}

static void on_done(struct vmcore *v, const struct error *err, void *arg)
{
	if (err)
		fail_msg("%s", err->what);
	vmcore_free(v);
	*(bool *)arg = true;
}

/* Puts another layer over l, which may be empty: of mem, as it is now. */
static void save(struct fixture *f, const struct guest_memory *mem, struct snapshot_layers *l,
		 bool lz4)
{
	CLEANUP_FREE char *path = text_format("%s/%u", f->dir, f->files++);
	struct snapshot_layer layer = {.path = strdup(f->dir),
				       .fd = -1,
				       .table = {.partial = l->count > 0, .lz4 = lz4}};
	uint8_t tail[FRAME_SKIP_LEN + SNAPSHOT_ID_LEN];
	struct layers_reader *reader = NULL;
	bool over = false;
	struct vmcore_config config = {
		.loop = f->loop,
		.mem = mem,
		.raw = true,
		.table = lz4 || l->count ? &layer.table : NULL,
		.lz4 = lz4,
		.path = path,
		.done = on_done,
		.arg = &over,
	};
	struct error err = {0};
	struct vmcore *v;

	if (l->count) {
		assert_int_equal(layers_reader_new(l, &reader), 0);
		config.base = reader;
	}
	assert_int_equal(vmcore_start(&config, &v, &err), 0);
	while (!over)
		assert_true(loop_turn(f->loop, UINT64_C(10000000000)) >= 0);
	layers_reader_free(reader);
	memcpy(layer.id, id, sizeof(id));
	frame_skip_head(SNAPSHOT_ID_LEN, tail);
	memcpy(tail + FRAME_SKIP_LEN, id, SNAPSHOT_ID_LEN);
	layer.fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	assert_true(layer.fd >= 0);
	if (lz4)
		assert_int_equal(write(layer.fd, tail, sizeof(tail)), sizeof(tail));
	else
		assert_int_equal(write(layer.fd, id, SNAPSHOT_ID_LEN), SNAPSHOT_ID_LEN);
	unlink(path);
	memmove(l->layer + 1, l->layer, l->count * sizeof(*l->layer));
	l->layer[0] = layer;
	l->count++;
}

static void lay(const struct snapshot_layers *l, struct guest_memory *mem)
{
	struct error err = {0};

	make(mem);
	if (snapshot_layers_lay(l, mem, &err) < 0)
		fail_msg("%s", err.what);
}

static size_t pages_in(const struct memory_table *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++)
		n += (size_t)(t->run[i].len / MEMORY_PAGE);
	return n;
}

/* What was saved, as it is laid and as it is read. */
static void expect_saved(const struct snapshot_layers *l, const struct guest_memory *mem)
{
	struct layers_reader *reader;
	struct guest_memory again;

	lay(l, &again);
	expect_same(mem, &again);
	guest_memory_done(&again);
	assert_int_equal(layers_reader_new(l, &reader), 0);
	for (size_t k = 0; k < 2 * PAGES; k++) {
		/* In order, and in none. */
		size_t i = k < PAGES ? k : (k * 2654435761u) % PAGES;
		const uint8_t *page = NULL;

		assert_int_equal(layers_reader_page(reader, gpa_of(i), &page), 0);
		if (memcmp(page, at(mem, i), MEMORY_PAGE))
			fail_msg("page %zu is read wrong", i);
	}
	layers_reader_free(reader);
}

static void fill(struct guest_memory *mem, uint64_t *seed)
{
	for (size_t i = 0; i < PAGES; i++)
		if (i % 7 < 3 || (i > 2000 && i < 2500))
			scribble(at(mem, i), seed);
}

/* ---- what differs -----------------------------------------------------------------------------
 */

/* Some pages, each in another way. Returns how many differ from what they were. */
static size_t change(struct fixture *f, struct guest_memory *mem, uint64_t *seed)
{
	CLEANUP_FREE uint8_t *before = malloc(PAGES * MEMORY_PAGE);
	CLEANUP_FREE char *path = text_format("%s/data", f->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t n = 0;
	uint8_t page[MEMORY_PAGE];

	unlink(path);
	for (size_t i = 0; i < PAGES; i++)
		memcpy(before + i * MEMORY_PAGE, at(mem, i), MEMORY_PAGE);
	for (unsigned k = 0; k < 200; k++) {
		size_t i = (size_t)(random_next(seed) % PAGES);
		uint8_t *p = at(mem, i);

		scribble(page, seed);
		switch (k % 5) {
		case 0: /* one byte, the last */
			p[MEMORY_PAGE - 1] ^= 1;
			break;
		case 1: /* as a disk does */
			assert_int_equal(pwrite(fd, page, sizeof(page), 0), sizeof(page));
			assert_int_equal(pread(fd, p, sizeof(page), 0), sizeof(page));
			break;
		case 2: /* with nothing */
			memset(p, 0, MEMORY_PAGE);
			break;
		case 3: /* with what was there */
			memcpy(p, before + i * MEMORY_PAGE, MEMORY_PAGE);
			break;
		default:
			memcpy(p, page, MEMORY_PAGE);
		}
	}
	for (size_t i = 0; i < PAGES; i++)
		n += memcmp(before + i * MEMORY_PAGE, at(mem, i), MEMORY_PAGE) != 0;
	close(fd);
	return n;
}

/* Layers over layers, each from a machine that went on from what was below, or from one that
 * itself went on: what is in the last is what changed, and no page more. */
static void layers_have_what_changed(void **state)
{
	static const struct {
		bool lz4[4];
		bool goes_on, prefault, huge;
	} cases[] = {
		{{false, false, false, false}, false, false},
		{{false, false, false, false}, true, false},
		{{false, false, false, false}, false, true},
		{{true, true, true, true}, false, false},
		{{false, false, true, false}, true, false, true},
		{{false, true, false, true}, false, false},
		{{true, false, true, false}, true, false},
	};
	struct fixture *f = *state;
	uint64_t seed = 1;

	for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
		struct snapshot_layers l = {0};
		struct guest_memory mem;

		make(&mem);
		for (unsigned i = 0; cases[c].huge && i < mem.count; i++)
			(void)madvise(mem.region[i].host, mem.region[i].range.size, MADV_HUGEPAGE);
		fill(&mem, &seed);
		save(f, &mem, &l, cases[c].lz4[0]);
		expect_saved(&l, &mem);
		for (unsigned k = 1; k < 4; k++) {
			size_t changed;

			if (!cases[c].goes_on) {
				guest_memory_done(&mem);
				lay(&l, &mem);
			}
			for (unsigned i = 0; cases[c].prefault && i < mem.count; i++)
				(void)madvise(mem.region[i].host, mem.region[i].range.size,
					      MADV_POPULATE_WRITE);
			changed = change(f, &mem, &seed);
			assert_in_range(changed, 50, 200);
			save(f, &mem, &l, cases[c].lz4[k]);
			assert_int_equal(pages_in(&l.layer[0].table), changed);
			expect_saved(&l, &mem);
		}
		/* Nothing is something, too. */
		save(f, &mem, &l, cases[c].lz4[0]);
		assert_int_equal(l.layer[0].table.count, 0);
		expect_saved(&l, &mem);
		guest_memory_done(&mem);
		snapshot_layers_done(&l);
	}
}

/* A machine that goes on from a snapshot brings no page in to be compared that nobody wrote to. */
static void what_nobody_wrote_to_is_not_read(void **state)
{
	struct fixture *f = *state;
	struct snapshot_layers l = {0};
	struct guest_memory mem;
	uint64_t entry[LOWER_PAGES];
	uint64_t seed = 1;
	size_t n = 0;
	int fd;

	make(&mem);
	fill(&mem, &seed);
	save(f, &mem, &l, false);
	guest_memory_done(&mem);
	lay(&l, &mem);
	at(&mem, 100)[0] ^= 1;
	save(f, &mem, &l, false);
	assert_int_equal(pages_in(&l.layer[0].table), 1);
	assert_int_equal(l.layer[0].table.run[0].gpa, 100 * MEMORY_PAGE);
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, entry, sizeof(entry),
			       (off_t)((uintptr_t)mem.region[0].host / MEMORY_PAGE * 8)),
			 sizeof(entry));
	close(fd);
	for (size_t i = 0; i < LOWER_PAGES; i++)
		n += entry[i] >> 63;
	/* The one, and what the kernel maps around it. */
	assert_in_range(n, 1, 33);
	guest_memory_done(&mem);
	snapshot_layers_done(&l);
}

static void on_failed(struct vmcore *v, const struct error *err, void *arg)
{
	assert_non_null(err);
	assert_non_null(strstr(err->what, "differs from"));
	vmcore_free(v);
	*(bool *)arg = true;
}

/* What can't be compared is not left out. */
static void a_base_that_can_not_be_read_fails_the_save(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *path = text_format("%s/memory", f->dir);
	struct memory_table table = {.partial = true};
	struct snapshot_layers l = {0};
	struct guest_memory mem;
	bool over = false;
	struct vmcore_config config = {
		.loop = f->loop,
		.mem = &mem,
		.raw = true,
		.table = &table,
		.path = path,
		.done = on_failed,
		.arg = &over,
	};
	uint64_t seed = 1;
	struct error err = {0};
	struct vmcore *v;

	make(&mem);
	fill(&mem, &seed);
	save(f, &mem, &l, false);
	assert_int_equal(ftruncate(l.layer[0].fd, UPPER_AT), 0);
	assert_int_equal(layers_reader_new(&l, &config.base), 0);
	assert_int_equal(vmcore_start(&config, &v, &err), 0);
	while (!over)
		assert_true(loop_turn(f->loop, UINT64_C(10000000000)) >= 0);
	assert_int_equal(access(path, F_OK), -1);
	layers_reader_free(config.base);
	memory_table_done(&table);
	guest_memory_done(&mem);
	snapshot_layers_done(&l);
}

/* As many runs as no process may have mappings: they are copied, but for a long one. */
static void what_can_not_be_mapped_is_copied(void **state UNUSED)
{
	const struct guest_layout layout = {.range = {{.size = MANY * MEMORY_PAGE}}, .count = 1};
	struct snapshot_layers l = {.count = 2};
	struct guest_memory mem;
	char line[512];
	unsigned long lines = 0, most = 0;
	struct error err = {0};
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");

	if (!file || fscanf(file, "%lu", &most) != 1 || most / 4 >= MANY / 2 - LONG)
		skip();
	fclose(file);
	for (unsigned i = 0; i < 2; i++) {
		l.layer[i] = (struct snapshot_layer){.path = strdup("/x"),
						     .fd = memfd_create("memory", MFD_CLOEXEC)};
		assert_int_equal(ftruncate(l.layer[i].fd, MANY * MEMORY_PAGE), 0);
	}
	l.layer[0].table.partial = true;
	for (uint64_t i = 0; i < MANY; i++) {
		uint64_t number = i + 1;

		if (i % 2 && i >= LONG)
			continue;
		assert_int_equal(memory_table_add(&l.layer[0].table, i * MEMORY_PAGE, MEMORY_PAGE,
						  0),
				 0);
		assert_int_equal(pwrite(l.layer[0].fd, &number, sizeof(number),
					(off_t)(i * MEMORY_PAGE)),
				 sizeof(number));
	}
	assert_int_equal(guest_memory_init(&mem, &layout, &err), 0);
	if (snapshot_layers_lay(&l, &mem, &err) < 0)
		fail_msg("%s", err.what);
	for (uint64_t i = 0; i < MANY; i++) {
		uint64_t number;

		assert_int_equal(guest_read(&mem, i * MEMORY_PAGE, &number, sizeof(number)), 0);
		assert_true(number == (i % 2 && i >= LONG ? 0 : i + 1));
	}
	file = fopen("/proc/self/maps", "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		lines++;
	fclose(file);
	assert_in_range(lines, 2, most / 2);
	guest_memory_done(&mem);
	snapshot_layers_done(&l);
}

/* ---- tables ------------------------------------------------------------------------------------
 */

static void add(struct memory_table *t, uint64_t gpa, uint64_t len, uint32_t stored)
{
	assert_int_equal(memory_table_add(t, gpa, len, stored), 0);
}

static void tables_come_back(void **state UNUSED)
{
	for (unsigned c = 1; c < 4; c++) {
		struct memory_table t = {.partial = c & 1, .lz4 = c & 2}, again = {0};
		struct state_io io, back;
		struct error err = {0};

		for (unsigned i = 0; i < 100; i++)
			add(&t, i * MIB(2), (1 + i) * MEMORY_PAGE, t.lz4 ? 1 + i : 0);
		/* What touches is one, unless it is packed. */
		add(&t, 99 * MIB(2) + 100 * MEMORY_PAGE, MEMORY_PAGE, t.lz4 ? 9 : 0);
		assert_int_equal(t.count, t.lz4 ? 101 : 100);
		state_save(&io);
		memory_table_state(&t, &io);
		assert_int_equal(state_result(&io, &err), 0);
		state_restore(&back, io.bytes, io.len);
		memory_table_state(&again, &back);
		assert_int_equal(state_result(&back, &err), 0);
		assert_int_equal(again.partial, t.partial);
		assert_int_equal(again.lz4, t.lz4);
		assert_int_equal(again.count, t.count);
		assert_memory_equal(again.run, t.run, t.count * sizeof(*t.run));
		assert_ptr_equal(memory_table_find(&again, 5 * MIB(2) + 100), &again.run[5]);
		assert_null(memory_table_find(&again, 5 * MIB(2) + 6 * MEMORY_PAGE));
		assert_null(memory_table_find(&again, MIB(900)));
		memory_table_done(&again);
		memory_table_done(&t);
		state_free(&io);
	}
}

/* The file has a checksum; without one, nothing that is taken goes back or past anything. */
static void flipped_tables_make_sense_or_are_refused(void **state UNUSED)
{
	struct memory_table t = {.partial = true, .lz4 = true};
	struct state_io io;
	unsigned taken = 0;

	add(&t, MIB(1), 3 * MEMORY_PAGE, 100);
	add(&t, MIB(2), MIB(1), 1000);
	add(&t, GIB(4), MEMORY_PAGE, 50);
	state_save(&io);
	memory_table_state(&t, &io);
	for (size_t i = 0; i < 8 * io.len; i++) {
		struct memory_table again = {0};
		struct error err = {0};
		struct state_io back;
		uint64_t end = 0, file = 0;

		io.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		state_restore(&back, io.bytes, io.len);
		memory_table_state(&again, &back);
		if (state_result(&back, &err) == 0)
			taken++;
		else
			assert_int_equal(err.kind, ERROR_USAGE);
		for (size_t k = 0; k < again.count; k++) {
			const struct memory_run *run = &again.run[k];

			assert_true(run->gpa >= end && run->len > 0);
			assert_true(!again.lz4 || (run->len <= MEMORY_FRAME_MAX &&
						   run->stored <= frame_bound(MEMORY_FRAME_MAX) &&
						   run->at == file));
			end = run->gpa + run->len;
			file = run->at + run->stored;
		}
		memory_table_done(&again);
		io.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_in_range(taken, 1, 8 * io.len / 2);
	memory_table_done(&t);
	state_free(&io);
}

/* ---- frames ------------------------------------------------------------------------------------
 */

static void damaged_frames_are_refused(void **state UNUSED)
{
	uint8_t data[3 * MEMORY_PAGE], back[sizeof(data)];
	size_t room = frame_bound(sizeof(data)), stored, same = 0;
	uint8_t *frame = malloc(room);
	struct frame_unpacker *u;
	uint64_t seed = 5;

	for (unsigned i = 0; i < 3; i++)
		scribble(data + i * MEMORY_PAGE, &seed);
	memset(data + MEMORY_PAGE, 3, MEMORY_PAGE);
	assert_int_equal(frame_pack(data, sizeof(data), frame, &stored), 0);
	assert_true(stored < sizeof(data));
	assert_int_equal(frame_unpacker_new(&u), 0);
	for (size_t i = 0; i < 8 * stored; i++) {
		uint8_t *copy = malloc(stored);

		memcpy(copy, frame, stored);
		copy[i / 8] ^= (uint8_t)(1u << i % 8);
		if (frame_unpack(u, copy, stored, back, sizeof(back)) == 0) {
			assert_memory_equal(back, data, sizeof(data));
			same++;
		}
		free(copy);
	}
	/* Few bits say nothing of the content. */
	assert_in_range(same, 0, 16);
	for (size_t n = 0; n < stored; n++) {
		uint8_t *copy = malloc(n ?: 1);

		memcpy(copy, frame, n);
		assert_int_equal(frame_unpack(u, copy, n, back, sizeof(back)), -EBADMSG);
		free(copy);
	}
	assert_int_equal(frame_unpack(u, frame, stored, back, sizeof(back) - 1), -EBADMSG);
	assert_int_equal(frame_unpack(u, frame, stored, back, sizeof(back)), 0);
	assert_memory_equal(back, data, sizeof(data));
	frame_unpacker_free(u);
	free(frame);
}

static int try_to_lay(const struct snapshot_layers *l, struct error *err)
{
	struct guest_memory mem;
	int r;

	make(&mem);
	*err = (struct error){0};
	r = snapshot_layers_lay(l, &mem, err);
	guest_memory_done(&mem);
	return r;
}

static void damaged_layers_are_refused(void **state)
{
	struct fixture *f = *state;
	struct snapshot_layers l = {0};
	struct layers_reader *reader;
	const uint8_t *page;
	struct guest_memory mem;
	struct memory_run *run;
	struct error err;
	uint64_t seed = 1;
	uint8_t byte;
	off_t middle;

	make(&mem);
	fill(&mem, &seed);
	save(f, &mem, &l, true);
	run = &l.layer[0].table.run[l.layer[0].table.count / 2];
	middle = (off_t)(run->at + run->stored / 2);
	assert_int_equal(pread(l.layer[0].fd, &byte, 1, middle), 1);
	byte ^= 4;
	/* With O_APPEND, pwrite would append. */
	assert_int_equal(fcntl(l.layer[0].fd, F_SETFL, 0), 0);
	assert_int_equal(pwrite(l.layer[0].fd, &byte, 1, middle), 1);
	assert_int_equal(try_to_lay(&l, &err), -EINVAL);
	assert_non_null(strstr(err.what, "is damaged"));
	assert_int_equal(layers_reader_new(&l, &reader), 0);
	assert_int_equal(layers_reader_page(reader, run->gpa, &page), -EBADMSG);
	assert_int_equal(layers_reader_page(reader, run->gpa, &page), -EBADMSG);
	layers_reader_free(reader);
	byte ^= 4;
	assert_int_equal(pwrite(l.layer[0].fd, &byte, 1, middle), 1);
	assert_int_equal(try_to_lay(&l, &err), 0);

	/* Of another length; where there is no RAM. */
	assert_int_equal(pwrite(l.layer[0].fd, id, 1, lseek(l.layer[0].fd, 0, SEEK_END)), 1);
	assert_int_equal(try_to_lay(&l, &err), -EINVAL);
	assert_non_null(strstr(err.what, "are needed"));
	assert_int_equal(ftruncate(l.layer[0].fd, lseek(l.layer[0].fd, 0, SEEK_END) - 1), 0);
	assert_int_equal(try_to_lay(&l, &err), 0);
	at(&mem, 1)[0] ^= 1;
	save(f, &mem, &l, false);
	l.layer[0].table.run[0].gpa = LOWER;
	assert_int_equal(try_to_lay(&l, &err), -EINVAL);
	assert_non_null(strstr(err.what, "no RAM of 4096 bytes at 0x400000"));
	guest_memory_done(&mem);
	snapshot_layers_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_come_back),
		cmocka_unit_test(flipped_tables_make_sense_or_are_refused),
		cmocka_unit_test(damaged_frames_are_refused),
		cmocka_unit_test_setup_teardown(layers_have_what_changed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_nobody_wrote_to_is_not_read, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_base_that_can_not_be_read_fails_the_save, set_up,
						tear_down),
		cmocka_unit_test(what_can_not_be_mapped_is_copied),
		cmocka_unit_test_setup_teardown(damaged_layers_are_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
