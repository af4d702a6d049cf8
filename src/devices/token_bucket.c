/* Counts in billionths of a token, so that no rate loses anything to rounding. Pure. */
#include "devices/token_bucket.h"

#define NANO 1000000000

void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	*b = (struct token_bucket){.rate = rate, .burst = burst ?: 1, .filled_ns = now_ns};
	b->nanotokens = (__int128)b->burst * NANO;
}

static void fill(struct token_bucket *b, uint64_t now_ns)
{
	__int128 most = (__int128)b->burst * NANO;

	if (now_ns <= b->filled_ns)
		return;
	if (b->due_ns && now_ns > b->due_ns)
		most += (__int128)b->rate * MIN(now_ns - b->due_ns, TOKEN_BUCKET_LATE_NS);
	/* Tokens a second are nanotokens a nanosecond. With a rate below 2^62 it fits. */
	most = MIN(b->nanotokens + (__int128)b->rate * (now_ns - b->filled_ns), most);
	/* What was kept for one who came late stays until it is spent. */
	b->nanotokens = MAX(b->nanotokens, most);
	b->filled_ns = now_ns;
}

uint64_t token_bucket_wait_ns(struct token_bucket *b, uint64_t n, uint64_t now_ns)
{
	__int128 missing, wait;

	if (!b->rate)
		return 0;
	fill(b, now_ns);
	b->due_ns = 0;
	missing = (__int128)MIN(n, b->burst) * NANO - b->nanotokens;
	if (missing <= 0)
		return 0;
	wait = MIN((missing + b->rate - 1) / b->rate, (__int128)UINT64_MAX);
	b->due_ns = (uint64_t)MIN(now_ns + wait, (__int128)UINT64_MAX);
	return (uint64_t)wait;
}

void token_bucket_spend(struct token_bucket *b, uint64_t n)
{
	if (b->rate)
		b->nanotokens -= (__int128)n * NANO;
}
