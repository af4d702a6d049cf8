/* Text to numbers as a person types them, and back. No errno left behind, no partial matches. */
#ifndef STASIS_BASE_PARSE_H
#define STASIS_BASE_PARSE_H

#include <stdbool.h>

#include "base/compiler.h"

/* Whole decimal number in [min, max]. -EINVAL on anything else, -ERANGE outside. */
int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value) MUST_CHECK;
/* "512M", "4G", "65536": bytes, binary K M G T. -ERANGE on overflow. */
int parse_size(const char *text, uint64_t *ret_bytes) MUST_CHECK;
/* "250us", "5s", "1m": nanoseconds. The unit is needed. */
int parse_duration(const char *text, uint64_t *ret_ns) MUST_CHECK;
/* "0,2-5,7": calls each(n) in the order written. -ERANGE above max. */
int parse_list(const char *text, uint64_t max, int (*each)(uint64_t n, void *arg),
	       void *arg) MUST_CHECK;
/* The nearest of n words by edit distance, or NULL if none is near enough to suggest. */
const char *parse_nearest(const char *word, const char *const *words, size_t n);
/* "2 GiB", "1536 MiB": the largest binary unit that keeps it whole. buf of 32 is enough. */
const char *format_size(uint64_t bytes, char *buf, size_t len);

#endif
