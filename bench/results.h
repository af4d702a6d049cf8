/* What a benchmark measured, raw: rows of rounds, each with samples of the floor and of the
 * product. Owned by one thread. As JSON it is what --json writes and --compare reads. */
#ifndef STASIS_BENCH_RESULTS_H
#define STASIS_BENCH_RESULTS_H

#include <jansson.h>

#include "base/error.h"
#include "stats.h"

enum results_side { RESULTS_FLOOR, RESULTS_PRODUCT, RESULTS_SIDES };

/* What a row is about. Strings outlive the row, but for one that was read from JSON. */
struct results_spec {
	const char *name; /* "exit.spin": program, dot, what of it */
	const char *what; /* one line for people */
	const char *unit; /* of a sample */
	bool more_is_better;
	double goal;	 /* product / floor, of medians; 0: none */
	double goal_p99; /* … of p99; 0: none */
	double limit;	 /* of the product's median alone, in the unit; 0: none */
};

struct results_samples {
	double *value;
	size_t n, room;
};

struct results_round {
	unsigned pass; /* of stasis bench, from 1; not before that of the round before */
	struct results_samples side[RESULTS_SIDES];
};

struct results_row {
	struct results_spec spec;
	struct results_round *round;
	size_t rounds, room;
};

struct results {
	struct results_row **row; /* owned; a row stays where it is */
	size_t rows;
	json_t *host;  /* facts of the host, or NULL; owned */
	json_t *input; /* what strings of rows read from JSON lie in; owned */
};

void results_done(struct results *r);
int results_row_add(struct results *r, const struct results_spec *spec,
		    struct results_row **ret_row, struct error *err) MUST_CHECK;
/* From now on samples are of a new round, of that pass. */
int results_round_begin(struct results_row *row, unsigned pass, struct error *err) MUST_CHECK;
/* A round has begun. */
int results_add(struct results_row *row, enum results_side side, double value,
		struct error *err) MUST_CHECK;
/* A measurement failed in the middle: the last round of a row goes if a side has no sample, and so
 * does a row without rounds. */
void results_drop_unfinished(struct results *r);

/* The rounds in which both sides were measured, by their medians. *ret_n may be 0. */
int results_medians(const struct results_row *row, struct stats_round **ret_rounds, size_t *ret_n,
		    struct error *err) MUST_CHECK;
/* All samples of a side, ascending. *ret_n may be 0. */
int results_sorted(const struct results_row *row, enum results_side side, double **ret_values,
		   size_t *ret_n, struct error *err) MUST_CHECK;

/* NULL when out of memory. */
json_t *results_to_json(const struct results *r);
/* Adds what json has: to a row that is there, by its name, further rounds. What doesn't say which
 * pass they are of has one. A file that is no result of a benchmark is a usage error that names
 * it. */
int results_from_json(struct results *r, json_t *json, const char *path,
		      struct error *err) MUST_CHECK;
/* The same of json from a machine that isn't trusted: a row is one of the n known, by its name, has
 * its spec from there and comes once, as a new one; its rounds are of that pass. Facts are left.
 * Changes json. */
int results_from_foreign(struct results *r, json_t *json, const struct results_spec *known,
			 size_t n, unsigned pass, const char *path, struct error *err) MUST_CHECK;
int results_load(struct results *r, const char *path, struct error *err) MUST_CHECK;
/* -ENOENT: NULL. */
const struct results_row *results_find(const struct results *r, const char *name);

#endif
