/* What host, build and load the samples belong to. Any thread. */
#ifndef STASIS_BENCH_FACTS_H
#define STASIS_BENCH_FACTS_H

#include <jansson.h>

/* NULL when out of memory. What can't be read is left out. */
json_t *facts_gather(void);
/* "load 0.50, at most 1.25 on 2 CPUs, Linux 6.12.0, …": one line of the above, the second where
 * processes after the first found more (results_from_json); "CPUs without locks" where no
 * performance run was kept off. buf is len bytes. */
void facts_line(const json_t *facts, char *buf, size_t len);

/* "AMD EPYC, Linux 6.12.0, 2026-01-31, stasis 0.1.0": where and when that was; "" where nothing is
 * known. facts may be NULL. */
void facts_origin(const json_t *facts, char *buf, size_t len);

#endif
