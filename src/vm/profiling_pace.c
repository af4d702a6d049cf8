/* Waits that double. Pure. */
#include "vm/profiling_pace.h"

#include "base/util.h"

bool profiling_pace_due(const struct profiling_pace *p, enum profiling_reason why, uint64_t now_ns)
{
	switch (why) {
	case PROFILING_SEEK:
		return now_ns >= p->read_ns + p->seek_wait_ns;
	case PROFILING_COME:
		return now_ns >= p->read_ns + MAX(p->come_wait_ns, PROFILING_PACE_FIRST_NS);
	case PROFILING_NONE:
		break;
	}
	return false;
}

static uint64_t doubled(uint64_t wait_ns)
{
	return MIN(MAX(2 * wait_ns, PROFILING_PACE_FIRST_NS), PROFILING_PACE_LAST_NS);
}

static void note_come(struct profiling_pace *p, uint64_t now_ns)
{
	/* A guest that goes on is read so often that no pause is as long. */
	bool paused = now_ns - p->came_ns > p->come_wait_ns + PROFILING_PACE_LAST_NS;

	p->row = p->came_ns && !paused ? p->row + 1 : 1;
	p->come_wait_ns =
		p->row > PROFILING_PACE_FREE ? doubled(p->come_wait_ns) : PROFILING_PACE_FIRST_NS;
	p->came_ns = now_ns;
}

void profiling_pace_read(struct profiling_pace *p, enum profiling_reason why, bool found,
			 uint64_t now_ns)
{
	if (why == PROFILING_COME)
		note_come(p, now_ns);
	p->seek_wait_ns =
		found ? MAX(p->come_wait_ns, PROFILING_PACE_FIRST_NS) : doubled(p->seek_wait_ns);
	p->read_ns = now_ns;
}
