/* Whole operations over a kernel that does parts, says no, or says not now. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "block_faults.h"
#include "devices/block_io.h"
#include "disk_image.h"

#define DISK_BYTES MIB(2)
#define OPS	   40

struct bench {
	struct disk_image image;
	struct loop *loop;
	struct block_file file;
	struct block_io io;
	uint8_t *buf; /* DISK_BYTES, aligned to 64 KiB */
	struct test_op {
		struct block_io_op op;
		int res, done;
		struct iovec iov[4];
	} op[OPS];
};

static void on_done(struct block_io_op *op, int res)
{
	struct test_op *t = container_of(op, struct test_op, op);

	t->res = res;
	t->done++;
}

static int set_up_as(void **state, bool direct)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct block_spec spec = {.direct = direct};
	struct error err = {0};

	disk_image_make(&b->image, DISK_BYTES);
	spec.path = b->image.path;
	assert_int_equal(loop_new(&b->loop, NULL), 0);
	assert_int_equal(posix_memalign((void **)&b->buf, 65536, DISK_BYTES), 0);
	b->file.fd = -1;
	if (block_file_open(&spec, &b->file, &err) < 0)
		print_message("%s\n", err.what);
	block_io_init(&b->io, b->loop, &b->file);
	for (unsigned i = 0; i < OPS; i++)
		b->op[i].op.done = on_done;
	block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	*state = b;
	return 0;
}

static int set_up(void **state)
{
	return set_up_as(state, false);
}

static int set_up_direct(void **state)
{
	return set_up_as(state, true);
}

static int tear_down(void **state)
{
	struct bench *b = *state;

	block_io_done(&b->io);
	loop_free(b->loop);
	block_file_close(&b->file);
	disk_image_done(&b->image);
	free(b->buf);
	free(b);
	return 0;
}

static void finish(struct bench *b)
{
	for (unsigned i = 0; i < 20000 && b->io.active; i++)
		block_faults_turn(b->loop, 1000000);
	assert_int_equal(b->io.active, 0);
	assert_true(TAILQ_EMPTY(&b->io.waiting));
	assert_int_equal(b->io.bounces_idle, b->io.bounces_made);
}

/* Three uneven parts. */
static void split(struct test_op *t, uint8_t *buf, size_t len)
{
	t->iov[0] = (struct iovec){buf, 512};
	t->iov[1] = (struct iovec){buf + 512, len - 1536};
	t->iov[2] = (struct iovec){buf + len - 1024, 1024};
}

static int run_transfer(struct bench *b, bool write, uint8_t *buf, size_t len, uint64_t offset)
{
	struct test_op *t = &b->op[0];

	t->done = 0;
	split(t, buf, len);
	if (write)
		block_io_write(&b->io, &t->op, t->iov, 3, offset);
	else
		block_io_read(&b->io, &t->op, t->iov, 3, offset);
	finish(b);
	assert_int_equal(t->done, 1);
	return t->res;
}

static void test_transfer(void **state)
{
	struct bench *b = *state;
	uint8_t *back = malloc(65536);

	disk_image_pattern(b->buf, 65536, 1);
	assert_int_equal(run_transfer(b, true, b->buf, 65536, 4096), 0);
	disk_image_read(&b->image, 4096, back, 65536);
	assert_memory_equal(back, b->buf, 65536);
	memset(b->buf, 0, 65536);
	assert_int_equal(run_transfer(b, false, b->buf, 65536, 4096), 0);
	assert_memory_equal(back, b->buf, 65536);
	/* One part. */
	b->op[0].iov[0] = (struct iovec){b->buf, 512};
	block_io_read(&b->io, &b->op[0].op, b->op[0].iov, 1, 4096 + 512);
	finish(b);
	assert_int_equal(b->op[0].res, 0);
	assert_memory_equal(back + 512, b->buf, 512);
	assert_int_equal(b->io.bounced + b->io.continued, 0);
	free(back);
}

static void test_short(void **state)
{
	struct bench *b = *state;
	uint8_t *back = malloc(16384);

	for (int step = 100; step < 9000; step += 777) {
		disk_image_pattern(b->buf, 16384, (unsigned)step);
		b->io.continued = 0;
		block_faults_set(BLOCK_FAULT_SHORT, step, 0, 1000);
		assert_int_equal(run_transfer(b, true, b->buf, 16384, 0), 0);
		assert_true(b->io.continued > 0);
		disk_image_read(&b->image, 0, back, 16384);
		assert_memory_equal(back, b->buf, 16384);
		memset(b->buf, 0, 16384);
		block_faults_set(BLOCK_FAULT_SHORT, step, 0, 1000);
		assert_int_equal(run_transfer(b, false, b->buf, 16384, 0), 0);
		assert_memory_equal(back, b->buf, 16384);
	}
	free(back);
}

/* The kernel is asked for a MiB at a time, wherever that ends in the guest's segments. */
static void test_steps(void **state)
{
	struct bench *b = *state;
	uint8_t *back = malloc(DISK_BYTES);

	disk_image_pattern(b->buf, DISK_BYTES, 8);
	assert_int_equal(run_transfer(b, true, b->buf, DISK_BYTES, 0), 0);
	assert_int_equal(block_faults.calls, 2);
	assert_int_equal(block_faults.largest, MIB(1));
	disk_image_read(&b->image, 0, back, DISK_BYTES);
	assert_memory_equal(back, b->buf, DISK_BYTES);
	memset(b->buf, 0, DISK_BYTES);
	block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	assert_int_equal(run_transfer(b, false, b->buf, DISK_BYTES, 0), 0);
	assert_int_equal(block_faults.calls, 2);
	assert_int_equal(block_faults.largest, MIB(1));
	assert_memory_equal(back, b->buf, DISK_BYTES);
	/* In one segment; and put off and refused in between, which must not lose what was cut. */
	for (unsigned n = 0; n < 4; n++) {
		memset(b->buf, 0, DISK_BYTES);
		block_faults_set(n & 1 ? BLOCK_FAULT_REFUSE : BLOCK_FAULT_RESULT,
				 n & 1 ? -ENOMEM : -EAGAIN, n / 2, 1);
		assert_int_equal(run_transfer(b, false, b->buf, DISK_BYTES, 0), 0);
		assert_memory_equal(back, b->buf, DISK_BYTES);
	}
	memset(b->buf, 0, DISK_BYTES);
	b->op[0].iov[0] = (struct iovec){b->buf, DISK_BYTES};
	block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	block_io_read(&b->io, &b->op[0].op, b->op[0].iov, 1, 0);
	finish(b);
	assert_int_equal(block_faults.calls, 2);
	assert_memory_equal(back, b->buf, DISK_BYTES);
	/* Nothing fell short of what was asked. */
	assert_int_equal(b->io.continued, 0);
	/* One MiB is one. */
	block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	assert_int_equal(run_transfer(b, false, b->buf, MIB(1), 0), 0);
	assert_int_equal(block_faults.calls, 1);
	free(back);
}

static void test_truncated(void **state)
{
	struct bench *b = *state;

	disk_image_pattern(b->buf, 8192, 3);
	disk_image_write(&b->image, 0, b->buf, 8192);
	assert_int_equal(ftruncate(b->image.fd, 6000), 0);
	assert_int_equal(run_transfer(b, false, b->buf, 8192, 0), -ENODATA);
	assert_int_equal(run_transfer(b, false, b->buf, 8192, 65536), -ENODATA);
	/* What is there still comes. */
	assert_int_equal(run_transfer(b, false, b->buf, 4096, 0), 0);
}

static void test_errors(void **state)
{
	static const int codes[] = {-EIO, -ENOSPC, -EFBIG, -ECANCELED, 0};
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		block_faults_set(BLOCK_FAULT_RESULT, codes[i], 0, 1);
		assert_int_equal(run_transfer(b, true, b->buf, 4096, 0), codes[i] ?: -EIO);
		block_faults_set(BLOCK_FAULT_RESULT, codes[i], 0, 1);
		assert_int_equal(run_transfer(b, false, b->buf, 4096, 0), codes[i] ?: -ENODATA);
	}
	block_faults_set(BLOCK_FAULT_RESULT, -EIO, 0, 1);
	block_io_flush(&b->io, &b->op[0].op);
	finish(b);
	assert_int_equal(b->op[0].res, -EIO);
	/* A loop that is being freed: at once. */
	block_faults_set(BLOCK_FAULT_REFUSE, -ECANCELED, 0, 1);
	b->op[0].done = 0;
	block_io_flush(&b->io, &b->op[0].op);
	assert_int_equal(b->op[0].done, 1);
	assert_int_equal(b->op[0].res, -ECANCELED);
}

/* "Not now" in each of its forms is waited for, not passed on. */
static void test_not_now(void **state)
{
	struct bench *b = *state;

	disk_image_pattern(b->buf, 8192, 9);
	block_faults_set(BLOCK_FAULT_RESULT, -EAGAIN, 0, 5);
	assert_int_equal(run_transfer(b, true, b->buf, 8192, 0), 0);
	block_faults_set(BLOCK_FAULT_RESULT, -EINTR, 0, 5);
	assert_int_equal(run_transfer(b, false, b->buf, 8192, 0), 0);
	block_faults_set(BLOCK_FAULT_REFUSE, -ENOMEM, 0, 5);
	assert_int_equal(run_transfer(b, true, b->buf, 8192, 8192), 0);
	assert_int_equal(b->io.waits, 15);
	/* For ever is not waited. */
	b->op[0].op.tries = 0;
	block_faults_set(BLOCK_FAULT_RESULT, -EAGAIN, 0, UINT32_MAX);
	b->op[0].iov[0] = (struct iovec){b->buf, 512};
	block_io_read(&b->io, &b->op[0].op, b->op[0].iov, 1, 0);
	b->op[0].op.tries = 9998;
	finish(b);
	assert_int_equal(b->op[0].res, -EAGAIN);
}

static bool is_zero(const struct bench *b, size_t at, size_t len)
{
	uint8_t *buf = malloc(len);
	bool zero = true;

	disk_image_read(&b->image, at, buf, len);
	for (size_t i = 0; i < len; i++)
		zero &= !buf[i];
	free(buf);
	return zero;
}

static void zero_one(struct bench *b, bool may_unmap, unsigned unsupported, size_t len)
{
	disk_image_pattern(b->buf, DISK_BYTES, 5);
	disk_image_write(&b->image, 0, b->buf, DISK_BYTES);
	b->op[0].done = 0;
	block_faults_set(BLOCK_FAULT_RESULT, -EOPNOTSUPP, 0, unsupported);
	block_io_zero(&b->io, &b->op[0].op, 4096, len, may_unmap);
	finish(b);
	assert_int_equal(b->op[0].done, 1);
	assert_int_equal(b->op[0].res, 0);
	assert_true(is_zero(b, 4096, len));
	assert_false(is_zero(b, 4096 + len, 512) || is_zero(b, 0, 4096));
}

static void test_zero(void **state)
{
	struct bench *b = *state;

	zero_one(b, false, 0, 65536);
	zero_one(b, true, 0, 65536);
	/* Blocks can't go; they can't be made zero; zeros are written, in steps. */
	b->io.no_punch = b->io.no_zero_range = false;
	zero_one(b, true, 1, 65536);
	assert_true(b->io.no_punch);
	b->io.no_zero_range = false;
	zero_one(b, false, 1, MIB(1) + 512);
	assert_true(b->io.no_zero_range);
	/* And remembered: no vain calls. */
	zero_one(b, true, 0, 512);
	assert_int_equal(block_faults.calls, 1);
	block_faults_set(BLOCK_FAULT_SHORT, 1000, 0, 10);
	b->op[0].done = 0;
	block_io_zero(&b->io, &b->op[0].op, 0, 4096, false);
	finish(b);
	assert_int_equal(b->op[0].res, 0);
	assert_true(is_zero(b, 0, 4096));
	block_faults_set(BLOCK_FAULT_RESULT, -ENOSPC, 0, 1);
	block_io_zero(&b->io, &b->op[0].op, 0, 4096, false);
	finish(b);
	assert_int_equal(b->op[0].res, -ENOSPC);
}

/* Two at a time, of which the first finds out what can't be: the second is not taken for a proof of
 * more than that. */
static void test_zeroes_at_once(void **state)
{
	struct bench *b = *state;

	for (unsigned may_unmap = 0; may_unmap < 2; may_unmap++) {
		b->io.no_punch = b->io.no_zero_range = false;
		disk_image_pattern(b->buf, DISK_BYTES, 5);
		disk_image_write(&b->image, 0, b->buf, DISK_BYTES);
		block_faults_set(BLOCK_FAULT_RESULT, -EOPNOTSUPP, 0, 2);
		for (unsigned i = 0; i < 2; i++) {
			b->op[i].done = 0;
			block_io_zero(&b->io, &b->op[i].op, i * 65536, 65536, may_unmap);
		}
		finish(b);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(b->op[i].done, 1);
			assert_int_equal(b->op[i].res, 0);
		}
		assert_true(is_zero(b, 0, 131072));
		assert_false(is_zero(b, 131072, 512));
		assert_int_equal(b->io.no_punch, may_unmap);
		assert_int_equal(b->io.no_zero_range, !may_unmap);
	}
}

static void test_discard(void **state)
{
	struct bench *b = *state;

	disk_image_pattern(b->buf, DISK_BYTES, 5);
	disk_image_write(&b->image, 0, b->buf, DISK_BYTES);
	block_io_discard(&b->io, &b->op[0].op, 65536, 65536);
	finish(b);
	assert_int_equal(b->op[0].res, 0);
	assert_false(is_zero(b, 65536 - 512, 512) || is_zero(b, 131072, 512));
	block_faults_set(BLOCK_FAULT_RESULT, -EOPNOTSUPP, 0, 1);
	block_io_discard(&b->io, &b->op[0].op, 0, 4096);
	finish(b);
	assert_int_equal(b->op[0].res, 0);
	assert_false(is_zero(b, 0, 4096));
	block_faults_set(BLOCK_FAULT_RESULT, -EIO, 0, 1);
	block_io_discard(&b->io, &b->op[0].op, 0, 4096);
	finish(b);
	assert_int_equal(b->op[0].res, -EIO);
}

/* Misaligned buffers with direct I/O: more of them than there are bounce buffers. */
static void test_bounce(void **state)
{
	struct bench *b = *state;
	uint8_t *back, *misaligned = b->buf + 4 + 512;
	size_t each = 32768;

	if (b->file.fd < 0)
		skip();
	back = malloc(DISK_BYTES);
	disk_image_pattern(b->buf, DISK_BYTES, 77);
	for (unsigned i = 0; i < OPS; i++) {
		b->op[i].iov[0] = (struct iovec){misaligned + i * each, each - 100};
		b->op[i].iov[1] = (struct iovec){misaligned + i * each + each - 100, 100};
		block_io_write(&b->io, &b->op[i].op, b->op[i].iov, 2, i * each);
	}
	assert_true(b->io.waits >= OPS - BLOCK_IO_BOUNCES);
	finish(b);
	assert_int_equal(b->io.bounced, OPS);
	assert_int_equal(b->io.bounces_made, BLOCK_IO_BOUNCES);
	disk_image_read(&b->image, 0, back, OPS * each);
	assert_memory_equal(back, misaligned, OPS * each);

	/* One that takes several buffers full; aligned ones take none. */
	memset(b->buf, 0, DISK_BYTES);
	assert_int_equal(run_transfer(b, false, b->buf + 1, MIB(1), 0), 0);
	assert_memory_equal(back, b->buf + 1, MIB(1));
	assert_int_equal(b->io.bounced, OPS + 1);
	if (b->file.memory_align == 512) {
		assert_int_equal(run_transfer(b, false, b->buf, 65536, 0), 0);
		assert_memory_equal(back, b->buf, 65536);
		assert_int_equal(b->io.bounced, OPS + 1);
	}
	free(back);
}

/* The n-th call fails, for every n of a run, in every way; each operation ends once. */
static void test_every_call(void **state)
{
	static const struct {
		enum block_fault kind;
		int value;
	} faults[] = {
		{BLOCK_FAULT_REFUSE, -ENOMEM}, {BLOCK_FAULT_REFUSE, -ECANCELED},
		{BLOCK_FAULT_RESULT, -EIO},    {BLOCK_FAULT_RESULT, -EAGAIN},
		{BLOCK_FAULT_RESULT, 0},       {BLOCK_FAULT_SHORT, 512},
	};
	struct bench *b = *state;

	for (size_t f = 0; f < ARRAY_SIZE(faults); f++) {
		for (unsigned n = 0; n < 12; n++) {
			block_faults_set(faults[f].kind, faults[f].value, n, 1 + n % 2);
			for (unsigned i = 0; i < 10; i++) {
				struct test_op *t = &b->op[i];

				t->done = 0;
				split(t, b->buf + i * 4096, 4096);
				if (i % 5 == 0)
					block_io_flush(&b->io, &t->op);
				else if (i % 5 == 1)
					block_io_zero(&b->io, &t->op, i * 4096, 4096, i & 2);
				else if (i % 5 == 2)
					block_io_discard(&b->io, &t->op, i * 4096, 4096);
				else if (i % 5 == 3)
					block_io_write(&b->io, &t->op, t->iov, 3, i * 4096);
				else
					block_io_read(&b->io, &t->op, t->iov, 3, i * 4096);
			}
			finish(b);
			for (unsigned i = 0; i < 10; i++)
				assert_int_equal(b->op[i].done, 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_transfer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_short, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_steps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_truncated, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_now, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_zero, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_zeroes_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_discard, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bounce, set_up_direct, tear_down),
		cmocka_unit_test_setup_teardown(test_every_call, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
