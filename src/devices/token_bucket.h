/* A rate limit: tokens come at a steady rate into a bucket that holds a burst of them. Pure: the
 * caller brings the time. Owned by whoever spends; no thread of its own.
 *
 * What is spent in any time T is at most burst + rate * T + the largest single spending; and once
 * more rate * TOKEN_BUCKET_LATE_NS after a host that was late itself. From its first token on,
 * never that. */
#ifndef STASIS_DEVICES_TOKEN_BUCKET_H
#define STASIS_DEVICES_TOKEN_BUCKET_H

#include "base/compiler.h"

/* Who was told to wait, and comes later than that, loses no more than what lies past this. Without
 * it a bucket of one token, or of less than a request, would run slow by each timer's lateness. */
#define TOKEN_BUCKET_LATE_NS 100000000u

struct token_bucket {
	uint64_t rate;	     /* tokens a second, below 2^62; 0: no limit */
	uint64_t burst;	     /* tokens that it holds; not 0 */
	__int128 nanotokens; /* in it now; below 0 after a spending larger than the burst */
	uint64_t filled_ns;  /* when it was last filled up to date */
	uint64_t due_ns;     /* when the one who was told to wait may spend; 0: nobody waits */
};

/* Full at now_ns. A burst of 0 is taken as 1. */
void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns);
/* How long until n may be spent: 0 is now. More than the burst may be spent once the bucket is
 * full; the debt is then waited for by whoever comes next. Time that runs backwards adds nothing.
 */
uint64_t token_bucket_wait_ns(struct token_bucket *b, uint64_t n, uint64_t now_ns);
/* After token_bucket_wait_ns said 0 for this n. */
void token_bucket_spend(struct token_bucket *b, uint64_t n);

#endif
