/* The sum of how clones ended: a status and a line. Plain data. */
#include "cli/clone_tally.h"

#include <stdio.h>
#include <stdlib.h>

#define STATUSES 256
#define NAMED	 8 /* at most, of those that ended alike */

/* Higher is worse. Statuses that CLI.md gives a meaning of stasis's own are not COMMAND's. */
static int rank(int status)
{
	switch (status) {
	case 125:
		return STATUSES + 4;
	case 126:
		return STATUSES + 3;
	case 124:
		return STATUSES + 2;
	case 120:
		return STATUSES + 1;
	case 77:
		return 1;
	default:
		return status ? status + 1 : 0;
	}
}

static const char *meaning(int status)
{
	switch (status) {
	case 125:
		return ", failed";
	case 126:
		return ", panicked or died";
	case 124:
		return ", timed out";
	case 120:
		return ", ended by a hit";
	case 77:
		return ", could not run here now";
	default:
		return "";
	}
}

int clone_tally_status(const struct clone_end *ends, size_t n)
{
	int worst = 0;

	for (size_t i = 0; i < n; i++)
		if (rank(ends[i].status) > rank(worst))
			worst = ends[i].status;
	return worst;
}

/* " (a-1, a-2, …)": which ended with that. */
static void put_names(FILE *f, const struct clone_end *ends, size_t n, int status)
{
	unsigned named = 0;

	for (size_t i = 0; i < n; i++) {
		if (ends[i].status != status)
			continue;
		if (named == NAMED) {
			fputs(", ...", f);
			break;
		}
		fprintf(f, "%s%s", named++ ? ", " : " (", ends[i].name);
	}
	fputc(')', f);
}

char *clone_tally_text(const struct clone_end *ends, size_t n)
{
	unsigned count[STATUSES] = {0};
	const char *comma = ": ", *ended = " ended";
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "%zu clone%s", n, n == 1 ? "" : "s");
	for (size_t i = 0; i < n; i++)
		count[ends[i].status & (STATUSES - 1)]++;
	for (int status = 0; status < STATUSES; status++) {
		if (!count[status])
			continue;
		fprintf(f, "%s%u%s with %d%s", comma, count[status], ended, status,
			meaning(status));
		if (status)
			put_names(f, ends, n, status);
		comma = ", ";
		ended = "";
	}
	if (fclose(f) == EOF) {
		free(text);
		return NULL;
	}
	return text;
}
