/* bench-block: random reads of 4 KiB, so many at once, through virtio-blk and by io_uring alone.
 * The disk's driver is the benchmark itself, on the control thread: its work counts as the
 * product's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "bench.h"
#include "blk_driver.h"
#include "block_guest.h"
#include "blocks.h"
#include "floor_block.h"
#include "null_disk.h"

#define ROUNDS 40
#define CHUNK  MIB(1)

struct kind {
	const char *name;
	unsigned depth;
	bool direct;
	double goal;
	bool null;
};

static const struct kind kinds[] = {
	{"block.1", 1, false, 0, false},	 {"block.8", 8, false, 0, false},
	{"block.32", 32, false, 0.95, false},	 {"block.128", 128, false, 0, false},
	{"block.32.direct", 32, true, 0, false}, {"block.32.null", 32, false, 0, true},
};

static const char *about(const struct kind *kind)
{
	return kind->null     ? "from a disk that takes no time; floor: no-ops of io_uring"
	       : kind->direct ? "reads of 4 KiB past the page cache"
			      : "reads of 4 KiB from the page cache";
}

static double per_second(uint64_t reads, uint64_t ns)
{
	return (double)reads * 1e9 / (double)ns;
}

static int run_floor(struct bench *b, struct floor_block *f, uint64_t reads, struct error *err)
{
	uint64_t offered = 0, done = 0, seed = 1, begin_ns = now_ns();

	for (; offered < f->depth; offered++)
		floor_block_offer(f, (unsigned)offered, blocks_next(&seed));
	while (done < reads) {
		int slot;

		if (floor_block_wait(f, err) < 0)
			return err->code;
		while ((slot = floor_block_take(f)) >= 0) {
			done++;
			if (offered++ < reads)
				floor_block_offer(f, (unsigned)slot, blocks_next(&seed));
		}
	}
	if (f->failed)
		return error_failed(err, "%llu of the floor's reads failed or were short",
				    (unsigned long long)f->failed);
	return bench_sample(b, RESULTS_FLOOR, per_second(reads, now_ns() - begin_ns), err);
}

static int run_product(struct bench *b, struct blk_driver *d, unsigned depth, uint64_t reads,
		       struct error *err)
{
	uint64_t offered = 0, done = 0, seed = 1, begin_ns = now_ns();

	for (; offered < depth; offered++)
		blk_driver_offer(d, (unsigned)offered, blocks_next(&seed));
	blk_driver_kick(d);
	while (done < reads) {
		bool more = false;
		int slot, r = loop_turn(d->loop, UINT64_MAX);

		if (r < 0)
			return error_set(err, r, "turning the loop");
		for (; (slot = blk_driver_take(d)) >= 0; done++) {
			if (offered++ < reads) {
				blk_driver_offer(d, (unsigned)slot, blocks_next(&seed));
				more = true;
			}
		}
		if (more)
			blk_driver_kick(d);
	}
	if (d->failed)
		return error_failed(err, "%llu of the disk's reads failed",
				    (unsigned long long)d->failed);
	return bench_sample(b, RESULTS_PRODUCT, per_second(reads, now_ns() - begin_ns), err);
}

static int measure(struct bench *b, const struct kind *kind, const char *path, struct error *err)
{
	uint64_t reads = kind->direct ? 512 : kind->depth == 1 ? 2048 : 8192;
	struct floor_block floor = {0};
	struct blk_driver driver = {0};
	int r = floor_block_init(&floor, path, kind->direct, kind->depth, err);

	floor.null = kind->null;
	if (r == 0)
		r = blk_driver_init(&driver, path, kind->direct, err);
	null_disk_set(kind->null);
	while (r == 0 && bench_round(b, err)) {
		r = run_floor(b, &floor, reads, err);
		if (r == 0)
			r = run_product(b, &driver, kind->depth, reads, err);
	}
	null_disk_set(false);
	blk_driver_done(&driver);
	floor_block_done(&floor);
	return err->code;
}

/* Written once, so that its pages are in the cache. */
static int make_file(const struct bench *b, char **ret_path, struct error *err)
{
	const char *work = b->options.work ?: getenv("TMPDIR") ?: "/tmp";
	CLEANUP_FREE char *path = text_format("%s/stasis-bench-XXXXXX", work);
	CLEANUP_FREE uint64_t *data = malloc(CHUNK);
	CLEANUP_FD int fd = -1;
	int r = 0;

	if (!path || !data)
		return error_set_shortage(err, -ENOMEM, "making a file");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return error_set_shortage(err, -errno, "making a file in %s", work);
	for (uint64_t place = 0; r == 0 && place < (uint64_t)BLOCKS * BLOCKS_WORDS;) {
		for (size_t i = 0; i < CHUNK / sizeof(*data); i++)
			data[i] = blocks_word(place++);
		r = fd_write_all(fd, data, CHUNK);
	}
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	if (r < 0) {
		unlink(path);
		return error_set_shortage(err, r, "writing %s", path);
	}
	*ret_path = path;
	path = NULL;
	return 0;
}

/* Whether its file system does direct I/O. */
static bool takes_direct(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	bool takes = fd >= 0;

	fd_close(&fd);
	return takes;
}

static int run(struct bench *b, struct error *err)
{
	char *path = NULL;
	int r = make_file(b, &path, err);

	if (r == 0)
		r = bench_pin(b, 1, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct results_spec spec = {kinds[i].name, about(&kinds[i]), "/s",
						  .more_is_better = true, .goal = kinds[i].goal};

		if (kinds[i].direct && !takes_direct(path))
			continue;
		if (bench_row(b, &spec, ROUNDS, err))
			r = measure(b, &kinds[i], path, err);
	}
	if (r == 0)
		r = block_guest_rows(b, path, err);
	if (path)
		unlink(path);
	free(path);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"block", "block reads through virtio-blk, against io_uring alone", run};

	return bench_main(&program, argc, argv);
}
