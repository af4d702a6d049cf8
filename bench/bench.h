/* What every benchmark program has in common: options, rows, rounds, progress, and what is made of
 * the results. The main thread's. */
#ifndef STASIS_BENCH_BENCH_H
#define STASIS_BENCH_BENCH_H

#include "base/util.h"
#include "results.h"

/* Of fewer that differ, no interval holds what it should: docs/decisions.md. */
#define BENCH_PASSES 5

/* What a person asks for. */
struct bench_options {
	unsigned rounds;  /* in all passes; 0: each row's own */
	unsigned passes;  /* how many there are; 0: BENCH_PASSES */
	unsigned pass;	  /* which of them this process is; 0: the runner, or all there is */
	int cpu[2];	  /* for the vCPU's side; for the control thread's */
	const char *json; /* NULL: none, as below */
	const char *plot;
	const char *compare;
	const char *only;   /* rows whose name begins so */
	const char *stasis; /* the program that is measured */
	const char *work;   /* folder for files */
	bool help, list;
	bool wait;	  /* for host CPUs that performance runs have; the runner's */
	uint64_t wait_ns; /* … no longer than this; 0: for ever */
};

struct bench {
	struct bench_options options;
	struct results results;
	const char *folder;	    /* of this program: floor programs and guests are beside it */
	struct results_row *row[2]; /* what is being measured: the row, and its companion or NULL */
	unsigned rounds;	    /* … how many it gets in this pass */
	bool waits;		    /* a row that was asked for has no round in this pass */
	bool terminal;		    /* progress goes to one */
};

struct bench_program {
	const char *name, *about;
	/* Measures. Contention (77): this host can't. */
	int (*run)(struct bench *b, struct error *err);
};

/* The body of main. */
int bench_main(const struct bench_program *program, int argc, char **argv);

/* How many rounds this pass has of a row that has as many in all, unless a person asked for another
 * number; 0: none. */
unsigned bench_share(const struct bench_options *o, unsigned rounds);
/* rounds: in all passes. False: nobody asked for the row, or it has none in this pass. Else it is
 * the one that bench_round and bench_sample mean. */
bool bench_row(struct bench *b, const struct results_spec *spec, unsigned rounds,
	       struct error *err) MUST_CHECK;
/* A second row of the same rounds. */
int bench_companion(struct bench *b, const struct results_spec *spec, struct error *err) MUST_CHECK;
/* Begins the next round and tells of it; false when the row has all, or err is set. */
bool bench_round(struct bench *b, struct error *err) MUST_CHECK;
int bench_sample(struct bench *b, enum results_side side, double value,
		 struct error *err) MUST_CHECK;
int bench_sample_companion(struct bench *b, enum results_side side, double value,
			   struct error *err) MUST_CHECK;

/* Says of a row that it is left out, and why: in the first pass. */
void bench_left_out(const struct bench *b, const char *row, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Binds the calling thread to options.cpu[which]; -1: to both. */
int bench_pin(const struct bench *b, int which, struct error *err) MUST_CHECK;
/* Opens /dev/kvm; a host without it is short of something (77). Negative errno, or the
 * descriptor. */
int bench_kvm(struct error *err) MUST_CHECK;

/* ---- finish.c: shared with the runner ----------------------------------------------------- */

/* 0; 1: the caller ends with *ret_status. rest is the index of the first word. */
int bench_options_parse(struct bench_options *o, int argc, char **argv, const char *usage,
			int *ret_rest, int *ret_status);
/* Before anything is measured: whether the host CPUs that were named are ours, and the files can be
 * read, or written. */
int bench_options_check(const struct bench_options *o, struct error *err) MUST_CHECK;
/* Writes and prints what was asked for. */
int bench_finish(const struct bench_options *o, const struct results *r,
		 struct error *err) MUST_CHECK;

#endif
