/* What a guest's kernel doesn't tell, each named once. */
#ifndef STASIS_INSPECT_LACKS_H
#define STASIS_INSPECT_LACKS_H

#include <string.h>

#define LACKS_MAX 64

struct lacks {
	const char *what[LACKS_MAX]; /* static texts */
	unsigned count;
};

static inline void lacks_add(struct lacks *l, const char *what)
{
	for (unsigned i = 0; i < l->count; i++)
		if (!strcmp(l->what[i], what))
			return;
	if (l->count < LACKS_MAX)
		l->what[l->count++] = what;
}

#endif
