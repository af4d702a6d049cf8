/* What x-stasis-query-stats says, as lines for people: since the VM's start, or since an earlier
 * answer. Calling thread. */
#ifndef STASIS_CLI_STATS_TABLE_H
#define STASIS_CLI_STATS_TABLE_H

#include <jansson.h>
#include <stdio.h>

/* Prints at most rows_max rows of exits (0: all), dearest first, to out. before: an earlier answer,
 * from which on rates and shares count; NULL: the VM's start. Distributions are since the start. */
void stats_table_print(FILE *out, const json_t *stats, const json_t *before, size_t rows_max);
/* How many lines it prints besides the rows of exits. */
size_t stats_table_head(const json_t *stats);

#endif
