/* bench-start: whole programs. From before the process exists until its guest is about to run. */
#include <signal.h>

#include "child.h"

static int once(struct bench *b, enum results_side side, char *const *argv, struct error *err)
{
	struct child child;
	int r = child_start(b, argv, &child, err);

	if (r < 0)
		return r;
	child_end(&child, SIGTERM);
	return bench_sample(b, side, (double)(child.entered_ns - child.began_ns), err);
}

static int measure(struct bench *b, unsigned vcpus, struct error *err)
{
	char **product = child_product_argv(b, vcpus, "bench-halt.elf", err);
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
	} kinds[] = {{1, 50, "start.1", 1.25}, {64, 20, "start.64", 0}};
	char *folder = NULL;
	int r = bench_kvm(err);

	if (r < 0)
		return r;
	fd_close(&r);
	r = child_folder_make(b, &folder, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct results_spec spec = {kinds[i].name,
						  "exec to the first KVM_RUN, 256 MiB", "ns",
						  .goal = kinds[i].goal};

		if (bench_row(b, &spec, kinds[i].rounds, err))
			r = measure(b, kinds[i].vcpus, err);
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
