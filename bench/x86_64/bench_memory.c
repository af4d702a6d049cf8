/* bench-memory: what a running VM takes of the host's memory besides the guest's own. */
#include <signal.h>
#include <time.h>

#include "child.h"

#define ROUNDS	  5
#define SETTLE_NS 100000000 /* from the first KVM_RUN until all is there */

static int private_of(struct bench *b, char *const *argv, double *ret_bytes, struct error *err)
{
	const struct timespec settle = {.tv_nsec = SETTLE_NS};
	struct child child;
	int r = child_start(b, argv, -1, &child, err);

	if (r < 0)
		return r;
	nanosleep(&settle, NULL);
	r = child_private(&child, ret_bytes, err);
	child_end(&child, SIGTERM);
	return r;
}

/* With one vCPU; of more, what each further one adds. */
static int once(struct bench *b, enum results_side side, char *const *argv,
		char *const *argv_of_one, unsigned vcpus, struct error *err)
{
	double bytes, of_one;
	int r = private_of(b, argv, &bytes, err);

	if (r == 0 && vcpus > 1) {
		r = private_of(b, argv_of_one, &of_one, err);
		if (r == 0)
			bytes = (bytes > of_one ? bytes - of_one : 0) / (vcpus - 1);
	}
	return r < 0 ? r : bench_sample(b, side, bytes, err);
}

static int measure(struct bench *b, unsigned vcpus, struct error *err)
{
	/* Product, floor; each with vcpus, with one. */
	char **argv[4] = {0};
	int r = 0;

	for (int i = 0; r == 0 && i < 4; i++) {
		unsigned n = i % 2 ? 1 : vcpus;

		argv[i] = i < 2 ? child_product_argv(b, NULL, n, "bench-halt.elf", err)
				: child_floor_argv(b, n, "bench-halt.elf", err);
		r = argv[i] ? 0 : err->code;
	}
	while (r == 0 && bench_round(b, err)) {
		r = once(b, RESULTS_FLOOR, argv[2], argv[3], vcpus, err);
		if (r == 0)
			r = once(b, RESULTS_PRODUCT, argv[0], argv[1], vcpus, err);
	}
	for (int i = 0; i < 4; i++)
		child_argv_free(argv[i]);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	static const struct {
		unsigned vcpus;
		double limit;
		const char *name, *what;
	} kinds[] = {
		{1, KIB(1536), "memory.1", "private memory with 1 vCPU"},
		{2, KIB(64), "memory.2", "… that the second adds"},
		{8, KIB(64), "memory.8", "… that each of 7 more adds"},
		{64, KIB(64), "memory.64", "… that each of 63 more adds"},
		{256, KIB(64), "memory.256", "… that each of 255 more adds"},
	};
	char *folder = NULL;
	int r = bench_kvm(err);

	if (r < 0)
		return r;
	fd_close(&r);
	r = child_folder_make(b, &folder, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct results_spec spec = {kinds[i].name, kinds[i].what, "B",
						  .limit = kinds[i].limit};

		if (bench_row(b, &spec, ROUNDS, err))
			r = measure(b, kinds[i].vcpus, err);
	}
	child_folder_remove(folder);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"memory",
						     "private memory of a VM, beyond its guest's",
						     run};

	return bench_main(&program, argc, argv);
}
