/* bench-snapshot: saving a machine, from the command to the answer: 256 MiB, of which 64 hold
 * something. Main thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "saved.h"

#define ROUNDS	    15
#define FILE_BYTES  MIB(256)
#define CHUNK_BYTES MIB(1)

/* The least that leaves such a file there, whole: written beside, synced, and named. */
static int write_file(const char *path, const char *tmp, const uint8_t *data, uint64_t bytes)
{
	CLEANUP_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = 0;

	if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0)
		return -errno;
	for (uint64_t at = 0; r == 0 && at < bytes; at += CHUNK_BYTES)
		r = fd_write_all(fd, data, MIN(bytes - at, CHUNK_BYTES));
	if (r == 0 && (fdatasync(fd) < 0 || rename(tmp, path) < 0))
		r = -errno;
	return r;
}

static int floor_round(struct bench *b, const char *folder, const uint8_t *data, uint64_t bytes,
		       struct error *err)
{
	CLEANUP_FREE char *path = text_format("%s/floor", folder);
	CLEANUP_FREE char *tmp = text_format("%s/floor.tmp", folder);
	uint64_t begin_ns = now_ns();
	int r = path && tmp ? write_file(path, tmp, data, bytes) : -ENOMEM;

	if (r < 0)
		return error_set_shortage(err, r, "writing the floor's file");
	return bench_sample(b, RESULTS_FLOOR, (double)(now_ns() - begin_ns), err);
}

static int product_round(struct bench *b, struct saved *s, const char *saved, struct error *err)
{
	uint64_t begin_ns = now_ns();
	int r = saved_save(s, saved, err);

	return r < 0 ? r : bench_sample(b, RESULTS_PRODUCT, (double)(now_ns() - begin_ns), err);
}

static int measure(struct bench *b, const char *folder, struct error *err)
{
	CLEANUP_FREE char *path = text_format("%s/saved", folder);
	CLEANUP_FREE uint8_t *data = malloc(CHUNK_BYTES);
	struct saved saved = {.client.fd = -1};
	uint64_t bytes = 0;
	int r = path && data ? saved_start(b, folder, &saved, err)
			     : error_set_shortage(err, -ENOMEM, "making a buffer");

	if (r == 0)
		memset(data, 0x5a, CHUNK_BYTES);
	/* The first replaces nothing, and says how much it is. */
	if (r == 0)
		r = saved_save(&saved, path, err);
	if (r == 0)
		r = saved_bytes(path, &bytes, err);
	while (r == 0 && bench_round(b, err)) {
		/* A machine that is being saved is frozen, too. */
		r = saved_tell(&saved, "stop", err);
		if (r == 0)
			r = floor_round(b, folder, data, bytes, err);
		if (r == 0)
			r = saved_tell(&saved, "cont", err);
		if (r == 0)
			r = product_round(b, &saved, path, err);
	}
	saved_end(&saved);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	static const struct results_spec spec = {"snapshot.save",
						 "256 MiB, 64 in use; floor: write, sync, rename",
						 "ns"};
	char *folder = NULL;
	int r = bench_kvm(err);

	if (r < 0)
		return r;
	fd_close(&r);
	if (!bench_row(b, &spec, ROUNDS, err))
		return err->code;
	r = child_folder_make(b, &folder, err);
	if (r == 0)
		r = bench_pin(b, -1, err);
	if (r == 0)
		r = measure(b, folder, err);
	child_folder_remove(folder);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"snapshot", "saving a machine, against writing as much to a file", run};

	return bench_main(&program, argc, argv);
}
