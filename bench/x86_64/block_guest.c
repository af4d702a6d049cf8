/* Rows block.N.guest: one guest drives its disk by itself, under the product and under a QEMU
 * microvm, by turns. Both have the same file, the same features, and their vCPU on one host CPU
 * and all else on the other. Both machines stay for a row; the one whose turn it isn't waits for an
 * order. Main thread. */
#include "block_guest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "blocks.h"
#include "child.h"
#include "disk_shim.h"
#include "guest.h"
#include "guest_disk.h"

#define ROUNDS	   100
#define OUTCOME_MS 60000

static const struct {
	const char *name;
	uint32_t depth, reads;
} kinds[] = {
	{"block.1.guest", 1, 512},
	{"block.8.guest", 8, 2048},
	{"block.32.guest", 32, 2048},
	{"block.128.guest", 128, 2048},
};

static const char *const side_name[RESULTS_SIDES] = {"the QEMU microvm", "stasis"};

static uint64_t expected_sum(const struct disk_order *order)
{
	uint64_t seed = order->seed, sum = 0;

	for (uint32_t i = 0; i < order->reads; i++) {
		uint64_t block = blocks_next(&seed), words = 0;

		for (unsigned w = 0; w < BLOCKS_WORDS; w += blocks_step(order->whole))
			words += blocks_word(block * BLOCKS_WORDS + w);
		sum += blocks_weigh(block, words);
	}
	return sum;
}

static int outcome_from(const struct child *child, const char *who,
			struct disk_outcome *ret_outcome, struct error *err)
{
	static const char *const problems[] = {
		[DISK_NONE] = "finds no disk",
		[DISK_FEATURES] = "misses a feature of the disk",
		[DISK_REFUSED] = "can't bring the disk up",
		[DISK_FAILED] = "had a read that failed",
	};
	struct pollfd fd = {.fd = child->fd, .events = POLLIN};
	struct disk_outcome outcome;

	if (poll(&fd, 1, OUTCOME_MS) != 1 ||
	    fd_read_all(child->fd, &outcome, sizeof(outcome)) != (ssize_t)sizeof(outcome))
		return error_failed(err, "%s: it ended or hung while its guest read", who);
	if (outcome.problem != DISK_FINE)
		return error_failed(err, "the guest of %s %s", who,
				    outcome.problem < ARRAY_SIZE(problems)
					    ? problems[outcome.problem]
					    : "is confused");
	*ret_outcome = outcome;
	return 0;
}

/* One order to one side, and whether what came is what lies in the file. */
static int give(const struct child *child, enum results_side side, const struct disk_order *order,
		struct disk_outcome *ret_outcome, struct error *err)
{
	struct disk_outcome outcome;
	int r = fd_write_all(child->fd, order, sizeof(*order));

	if (r < 0)
		return error_set(err, r, "giving the guest of %s an order", side_name[side]);
	r = outcome_from(child, side_name[side], &outcome, err);
	if (r < 0)
		return r;
	if (outcome.sum != expected_sum(order))
		return error_failed(err, "the guest of %s got other data than the file has",
				    side_name[side]);
	*ret_outcome = outcome;
	return 0;
}

static char **product_argv(const struct bench *b, const char *path, struct error *err)
{
	char *more[] = {strdup("--disk"), text_format("%s,ro", path)};

	return child_argv_add(child_product_argv(b, "driven-stasis", 1, "bench-halt.elf", err),
			      more, ARRAY_SIZE(more), err);
}

/* An iothread, as who wants a fast disk has it; the newer transport, which isn't the default. */
static char **peer_argv(const struct bench *b, const char *path, struct error *err)
{
	char *more[] = {
		strdup("-global"),
		strdup("virtio-mmio.force-legacy=false"),
		strdup("-object"),
		strdup("iothread,id=io"),
		strdup("-drive"),
		text_format("file=%s,format=raw,if=none,id=disk,readonly=on,aio=io_uring", path),
		strdup("-device"),
		strdup("virtio-blk-device,drive=disk,iothread=io"),
	};

	return child_argv_add(child_peer_argv(b, "disk-shim.so", 1, "bench-halt.elf", err), more,
			      ARRAY_SIZE(more), err);
}

static int start(const struct bench *b, enum results_side side, const char *path,
		 struct child *ret_child, struct error *err)
{
	char **argv = (side == RESULTS_FLOOR ? peer_argv : product_argv)(b, path, err);
	struct disk_outcome up;
	int r = argv ? child_start(b, argv, -1, ret_child, err) : err->code;

	child_argv_free(argv);
	return r < 0 ? r : outcome_from(ret_child, side_name[side], &up, err);
}

static int one_round(struct bench *b, const struct child *child, uint32_t depth, uint32_t reads,
		     struct error *err)
{
	int r = 0;

	for (int side = 0; r == 0 && side < RESULTS_SIDES; side++) {
		struct disk_order order = {.depth = depth, .reads = reads, .seed = 1};
		struct disk_outcome outcome;

		r = give(&child[side], (enum results_side)side, &order, &outcome, err);
		if (r == 0)
			r = bench_sample(b, (enum results_side)side,
					 reads * 1e9 / ((double)outcome.ticks * guest_tick_ns()),
					 err);
	}
	return r;
}

/* A QEMU that doesn't run here, or has no io_uring, is no failure of ours. */
static void leave_out(const struct bench *b, struct error *err)
{
	fprintf(stderr, "%s: left out, %s\n", b->row[0]->spec.name, err->what);
	*err = (struct error){0};
}

static int measure(struct bench *b, uint32_t depth, uint32_t reads, const char *path,
		   struct error *err)
{
	struct child child[RESULTS_SIDES] = {{.pid = 0}, {.pid = 0}};
	int r = 0;

	for (int side = 0; r == 0 && side < RESULTS_SIDES; side++) {
		/* Not measured: touches all memory, and looks at every word. */
		struct disk_order all = {.depth = depth, .reads = reads, .seed = 2, .whole = true};
		struct disk_outcome outcome;

		r = start(b, (enum results_side)side, path, &child[side], err);
		if (r < 0 && side == RESULTS_FLOOR)
			leave_out(b, err);
		if (r == 0)
			r = give(&child[side], (enum results_side)side, &all, &outcome, err);
	}
	while (r == 0 && bench_round(b, err))
		r = one_round(b, child, depth, reads, err);
	for (int side = 0; side < RESULTS_SIDES; side++)
		if (child[side].pid > 0)
			child_end(&child[side], SIGKILL);
	return err->code;
}

static bool is_wanted(const struct bench *b, const char *name)
{
	return !b->options.only || !strncmp(name, b->options.only, strlen(b->options.only));
}

/* What there is not, for such rows; NULL: nothing. */
static const char *what_lacks(void)
{
	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return "/dev/kvm";
	return child_peer_is_there() ? NULL : CHILD_PEER " (scripts/setup installs it)";
}

/* What both shims find in their environment. */
static int set_environment(const struct bench *b, struct error *err)
{
	CLEANUP_FREE char *image = text_format("%s/guest-disk.bin", b->folder);
	CLEANUP_FREE char *cpus = text_format("%d,%d", b->options.cpu[0], b->options.cpu[1]);

	if (!image || !cpus || setenv(DISK_SHIM_IMAGE, image, 1) < 0 ||
	    setenv(DISK_SHIM_CPUS, cpus, 1) < 0)
		return error_set_shortage(err, -ENOMEM, "starting guests");
	return 0;
}

int block_guest_rows(struct bench *b, const char *path, struct error *err)
{
	const char *lacks = what_lacks();
	char *folder = NULL;
	int r = set_environment(b, err);

	if (r == 0)
		r = child_folder_make(b, &folder, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct results_spec spec = {kinds[i].name,
						  "a guest's own; floor: a QEMU microvm's", "/s",
						  .more_is_better = true};

		if (lacks && is_wanted(b, spec.name)) {
			if (b->results.rows == 0) /* it is all that was asked for */
				r = error_contention(err, "%s: there is no %s", spec.name, lacks);
			else
				bench_left_out(b, spec.name, "there is no %s", lacks);
		} else if (!lacks && bench_row(b, &spec, ROUNDS, err)) {
			r = measure(b, kinds[i].depth, kinds[i].reads, path, err);
		}
	}
	child_folder_remove(folder);
	return err->code;
}
