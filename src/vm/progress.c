/* The waiting line. Control thread. */
#include "vm/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

static void put(const char *text)
{
	/* A terminal that is gone is no reason to stop. */
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

void progress_init(struct progress *p, bool enabled)
{
	*p = (struct progress){.enabled = enabled && isatty(STDERR_FILENO)};
}

void progress_set(struct progress *p, const char *what)
{
	if (p->shown)
		put("\r\033[K");
	p->shown = false;
	p->what = what;
	p->since_ns = now_ns();
}

void progress_tick(struct progress *p)
{
	char line[128];
	uint64_t s = (now_ns() - p->since_ns) / 1000000000u;

	if (!p->enabled || !p->what || s < 1)
		return;
	snprintf(line, sizeof(line), "\r\033[Kstasis: %s … %llu s", p->what, (unsigned long long)s);
	put(line);
	p->shown = true;
}
