/* bench-start: whole programs. From before the process exists until its guest is about to run. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

static int once(struct bench *b, enum results_side side, char *const *argv, struct error *err)
{
	struct child child;
	int r = child_start(b, argv, -1, &child, err);

	if (r < 0)
		return r;
	child_end(&child, SIGTERM);
	return bench_sample(b, side, (double)(child.entered_ns - child.began_ns), err);
}

static int measure(struct bench *b, unsigned vcpus, bool peer, struct error *err)
{
	char **product = peer ? child_peer_argv(b, "bench-stamp.so", vcpus, "bench-halt.elf", err)
			      : child_product_argv(b, NULL, vcpus, "bench-halt.elf", err);
	char **floor = product ? child_floor_argv(b, vcpus, "bench-halt.elf", err) : NULL;
	int r = floor ? 0 : err->code;

	while (r == 0 && bench_round(b, err)) {
		r = once(b, RESULTS_FLOOR, floor, err);
		if (r == 0)
			r = once(b, RESULTS_PRODUCT, product, err);
	}
	child_argv_free(product);
	child_argv_free(floor);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	static const struct {
		unsigned vcpus, rounds;
		const char *name;
		double goal;
		bool peer;
	} kinds[] = {{1, 50, "start.1", 1.25, false},
		     {1, 20, "start.1.qemu", 0, true},
		     {64, 20, "start.64", 0, false},
		     {64, 10, "start.64.qemu", 0, true}};
	char *folder = NULL;
	int r = bench_kvm(err);

	if (r < 0)
		return r;
	fd_close(&r);
	r = child_folder_make(b, &folder, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct results_spec spec = {kinds[i].name,
						  kinds[i].peer
							  ? "the same of a QEMU microvm"
							  : "exec to the first KVM_RUN, 256 MiB",
						  "ns", .goal = kinds[i].goal};

		if (kinds[i].peer && !child_peer_is_there())
			continue;
		if (bench_row(b, &spec, kinds[i].rounds, err))
			r = measure(b, kinds[i].vcpus, kinds[i].peer, err);
	}
	child_folder_remove(folder);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"start",
						     "the whole program until its guest runs", run};

	return bench_main(&program, argc, argv);
}
