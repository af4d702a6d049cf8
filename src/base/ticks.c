/* Which clock ticks are, and how long they last. ticks_init: control thread. */
#include "base/ticks.h"

#include <string.h>

#define CLOCKSOURCE	 "/sys/devices/system/clocksource/clocksource0/current_clocksource"
#define MEASURE_LEAST_NS 20000u

bool ticks_are_tsc;

static bool chosen;
static uint64_t began_ns, began_ticks;

/* Both clocks at one moment: the closest of a few tries, since the host may come in between. */
static void read_both(uint64_t *ret_ns, uint64_t *ret_ticks)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t before = ticks_now(), ns = now_ns(), after = ticks_now();

		if (ticks_between(before, after) >= least)
			continue;
		least = ticks_between(before, after);
		*ret_ns = ns;
		*ret_ticks = before + least / 2;
	}
}

void ticks_init(void)
{
	CLEANUP_FREE char *name = NULL;
	size_t len;

	if (chosen)
		return;
	chosen = true;
	/* The kernel has found it to be steady, and the same on every CPU. */
	ticks_are_tsc = file_read(CLOCKSOURCE, 64, &name, &len) == 0 && !strcmp(name, "tsc\n");
	read_both(&began_ns, &began_ticks);
}

double ticks_per_ns(void)
{
	uint64_t ns = 0, ticks = 0;

	if (!ticks_are_tsc)
		return 1;
	do
		read_both(&ns, &ticks);
	while (ns - began_ns < MEASURE_LEAST_NS);
	return (double)ticks_between(began_ticks, ticks) / (double)(ns - began_ns);
}
