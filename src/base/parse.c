/* Numbers, sizes, durations, lists and near misses, as a person types them. Any thread. */
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Longer words have no near miss. */
#define WORD_MAX 128

/* Digits at *text; moves it past them. */
static int take_number(const char **text, uint64_t *ret_value)
{
	const char *p = *text;
	uint64_t v = 0;
	bool over = false;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			over = true;
	}
	*text = p;
	*ret_value = v;
	return over ? -ERANGE : 0;
}

int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
	uint64_t v;
	int r = take_number(&text, &v);

	if (*text)
		return -EINVAL;
	if (r < 0)
		return r;
	if (v < min || v > max)
		return -ERANGE;
	*ret_value = v;
	return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	uint64_t v, unit = 1;
	int r = take_number(&text, &v);

	if (r == -EINVAL)
		return r;
	if (*text) {
		const char *u = strchr(units, *text);

		if (!u || text[1])
			return -EINVAL;
		unit = 1ull << (10 * (u - units + 1));
	}
	if (r < 0)
		return r;
	if (__builtin_mul_overflow(v, unit, &v))
		return -ERANGE;
	*ret_bytes = v;
	return 0;
}

int parse_duration(const char *text, uint64_t *ret_ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000u}, {"m", 60000000000u},
	};
	uint64_t v;
	int r = take_number(&text, &v);

	if (r == -EINVAL)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(text, units[i].name))
			continue;
		if (r < 0)
			return r;
		if (__builtin_mul_overflow(v, units[i].ns, &v))
			return -ERANGE;
		*ret_ns = v;
		return 0;
	}
	return -EINVAL;
}

static int walk_list(const char *text, uint64_t max, int (*each)(uint64_t n, void *arg), void *arg)
{
	for (;;) {
		uint64_t first, last;
		int r = take_number(&text, &first);

		if (r < 0)
			return r;
		last = first;
		if (*text == '-') {
			text++;
			r = take_number(&text, &last);
			if (r < 0)
				return r;
			if (last < first)
				return -EINVAL;
		}
		if (last > max)
			return -ERANGE;
		/* Counted by distance: last may be UINT64_MAX. */
		for (uint64_t i = 0; each && i <= last - first; i++) {
			r = each(first + i, arg);
			if (r)
				return r;
			if (i == UINT64_MAX)
				break;
		}
		if (!*text)
			return 0;
		if (*text++ != ',')
			return -EINVAL;
	}
}

int parse_list(const char *text, uint64_t max, int (*each)(uint64_t n, void *arg), void *arg)
{
	int r = walk_list(text, max, NULL, NULL);

	return r < 0 ? r : walk_list(text, max, each, arg);
}

/* Insertions, deletions, substitutions and swaps of neighbours that turn a into b, or bound + 1
 * as soon as it must be more than bound. Both are at most WORD_MAX long. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len, size_t bound)
{
	size_t rows[3][WORD_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];

	for (size_t j = 0; j <= b_len; j++)
		above[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t *spare, best;

		row[0] = best = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t d = above[j - 1] + (a[i - 1] != b[j - 1]);

			d = MIN(d, above[j] + 1);
			d = MIN(d, row[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d = MIN(d, before[j - 2] + 1);
			row[j] = d;
			best = MIN(best, d);
		}
		/* A swap reaches back two rows and costs one, so one row above bound is proof. */
		if (best > bound)
			return bound + 1;
		spare = before;
		before = above;
		above = row;
		row = spare;
	}
	return above[b_len];
}

const char *parse_nearest(const char *word, const char *const *words, size_t n)
{
	size_t len = strlen(word);
	/* A third of the word may be wrong, and never all of it. */
	size_t bound = len < 2 ? 0 : MAX(len / 3, 1);
	const char *nearest = NULL;

	if (len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t other = strlen(words[i]);
		size_t d;

		if (other > WORD_MAX || (other > len ? other - len : len - other) > bound)
			continue;
		d = edit_distance(word, len, words[i], other, bound);
		if (d > bound)
			continue;
		nearest = words[i];
		if (d == 0)
			break;
		/* Only a nearer one may take its place. */
		bound = d - 1;
	}
	return nearest;
}

const char *format_size(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned u = 0;

	while (bytes && !(bytes & 1023) && u + 1 < ARRAY_SIZE(units)) {
		bytes >>= 10;
		u++;
	}
	snprintf(buf, len, "%llu %s", (unsigned long long)bytes, units[u]);
	return buf;
}
