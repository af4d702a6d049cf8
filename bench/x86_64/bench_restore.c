/* bench-restore: a machine that goes on from a snapshot of 256 MiB: until its guest runs, until the
 * guest has written to 16 MiB, and what memory it takes besides the guest's. Main thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "saved.h"

#define HEARD_MS  60000
#define SETTLE_NS 100000000 /* from the guest's word until all is there */

enum what { RUN, TOUCH, MEMORY };

/* Until the guest has said that it is through: when that was. */
static int hear(int fd, uint64_t *ret_ns, struct error *err)
{
	struct pollfd says = {.fd = fd, .events = POLLIN};
	char word;

	if (poll(&says, 1, HEARD_MS) != 1 || read(fd, &word, 1) != 1)
		return error_failed(err, "the restored guest said nothing: it ended or hangs");
	*ret_ns = now_ns();
	return 0;
}

static int look(const struct child *child, enum what what, int out, double *ret_value,
		struct error *err)
{
	const struct timespec settle = {.tv_nsec = SETTLE_NS};
	uint64_t ns = child->entered_ns;
	int r = what == RUN ? 0 : hear(out, &ns, err);

	if (r < 0)
		return r;
	*ret_value = (double)(ns - child->began_ns);
	if (what != MEMORY)
		return 0;
	nanosleep(&settle, NULL);
	return child_private(child, ret_value, err);
}

static int once(struct bench *b, enum results_side side, enum what what, char *const *argv,
		struct error *err)
{
	struct child child;
	double value = 0;
	int out[2], r;

	if (pipe2(out, O_CLOEXEC) < 0)
		return error_set_shortage(err, -errno, "making a pipe");
	r = child_start(b, argv, out[1], &child, err);
	fd_close(&out[1]);
	if (r == 0) {
		r = look(&child, what, out[0], &value, err);
		child_end(&child, SIGTERM);
	}
	fd_close(&out[0]);
	return r < 0 ? r : bench_sample(b, side, value, err);
}

static char **product_argv(const struct bench *b, const char *saved, struct error *err)
{
	char *words[] = {
		b->options.stasis ? strdup(b->options.stasis)
				  : text_format("%s/bench-stasis", b->folder),
		strdup("restore"),
		strdup(saved),
		strdup("-q"),
	};

	return child_argv(words, ARRAY_SIZE(words), err);
}

static int measure(struct bench *b, enum what what, const char *saved, struct error *err)
{
	char **product = product_argv(b, saved, err);
	char **floor = product ? child_floor_restore_argv(b, saved, err) : NULL;
	int r = floor ? 0 : err->code;

	while (r == 0 && bench_round(b, err)) {
		r = once(b, RESULTS_FLOOR, what, floor, err);
		if (r == 0)
			r = once(b, RESULTS_PRODUCT, what, product, err);
	}
	child_argv_free(product);
	child_argv_free(floor);
	return err->code;
}

/* What all begin from. */
static int save(const struct bench *b, const char *folder, const char *path, struct error *err)
{
	struct saved saved;
	int r = saved_start(b, folder, &saved, err);

	if (r < 0)
		return r;
	r = saved_save(&saved, path, err);
	saved_end(&saved);
	return r < 0 ? r : saved_release(path, err);
}

static int run(struct bench *b, struct error *err)
{
	static const struct {
		struct results_spec spec;
		enum what what;
		unsigned rounds;
	} kinds[] = {
		{{"restore.run", "exec to the first KVM_RUN, 256 MiB", "ns", .goal = 1.25},
		 RUN,
		 50},
		{{"restore.touch", "… until the guest has written to 16 MiB", "ns"}, TOUCH, 30},
		{{"restore.memory", "private memory with 1 vCPU", "B", .limit = KIB(1536)},
		 MEMORY,
		 5},
	};
	CLEANUP_FREE char *saved = NULL;
	char *folder = NULL;
	bool made = false;
	int r = bench_kvm(err);

	if (r < 0)
		return r;
	fd_close(&r);
	r = child_folder_make(b, &folder, err);
	if (r == 0) {
		saved = text_format("%s/saved", folder);
		r = saved ? 0 : error_set_shortage(err, -ENOMEM, "naming a snapshot");
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		if (!bench_row(b, &kinds[i].spec, kinds[i].rounds, err))
			continue;
		if (!made)
			r = save(b, folder, saved, err);
		made = true;
		if (r == 0)
			r = measure(b, kinds[i].what, saved, err);
	}
	child_folder_remove(folder);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"restore",
						     "a machine that goes on from a snapshot", run};

	return bench_main(&program, argc, argv);
}
