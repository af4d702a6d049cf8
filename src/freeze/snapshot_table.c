/* The table of what a snapshot's memory has. */
#include "freeze/snapshot_table.h"

#include <errno.h>
#include <stdlib.h>

#include "freeze/snapshot_frame.h"

#define GPA_MAX	     (UINT64_C(1) << 52)
#define RAW_BYTES    16 /* of a run's row */
#define PACKED_BYTES 20

uint64_t memory_table_end(const struct memory_table *t)
{
	const struct memory_run *last = t->count ? &t->run[t->count - 1] : NULL;

	return last ? last->at + last->stored : 0;
}

int memory_table_add(struct memory_table *t, uint64_t gpa, uint64_t len, uint32_t stored)
{
	struct memory_run *last = t->count ? &t->run[t->count - 1] : NULL;

	if (last && !stored && last->gpa + last->len == gpa) {
		last->len += len;
		return 0;
	}
	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 64;
		struct memory_run *more = reallocarray(t->run, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		t->run = more;
		t->room = room;
	}
	t->run[t->count] = (struct memory_run){.gpa = gpa,
					       .len = len,
					       .at = stored ? memory_table_end(t) : gpa,
					       .stored = stored};
	t->count++;
	return 0;
}

const struct memory_run *memory_table_find(const struct memory_table *t, uint64_t gpa)
{
	size_t from = 0, to = t->count;

	while (from < to) {
		size_t mid = from + (to - from) / 2;
		const struct memory_run *run = &t->run[mid];

		if (gpa < run->gpa)
			to = mid;
		else if (gpa - run->gpa >= run->len)
			from = mid + 1;
		else
			return run;
	}
	return NULL;
}

/* One run; end: of the one before. */
static void run_state(struct memory_table *t, struct memory_run *run, uint64_t end,
		      struct state_io *io)
{
	state_u64(io, "gpa", &run->gpa);
	state_u64(io, "bytes", &run->len);
	if (t->lz4)
		state_u32(io, "stored", &run->stored);
	state_check(io, "gpa",
		    run->gpa % MEMORY_PAGE == 0 && run->gpa >= end && run->gpa < GPA_MAX);
	state_check(io, "bytes",
		    run->len > 0 && run->len % MEMORY_PAGE == 0 && run->len <= GPA_MAX &&
			    (!t->lz4 || run->len <= MEMORY_FRAME_MAX));
	if (t->lz4)
		state_check(io, "stored",
			    run->stored > 0 && run->stored <= frame_bound((size_t)run->len));
}

void memory_table_state(struct memory_table *t, struct state_io *io)
{
	uint32_t count = (uint32_t)t->count;
	uint64_t end = 0;

	if (state_begin(io, "memory", 1)) {
		state_bool(io, "partial", &t->partial);
		state_bool(io, "lz4", &t->lz4);
		state_check(io, "lz4", t->partial || t->lz4);
		state_check(io, "runs", t->count <= UINT32_MAX);
		state_u32(io, "runs", &count);
		if (state_restoring(io))
			/* No more than there are bytes for. */
			state_check(io, "runs",
				    count <= (io->len - io->at) /
						     (t->lz4 ? PACKED_BYTES : RAW_BYTES));
		for (uint32_t i = 0; i < count && !io->err.code; i++) {
			struct memory_run run = {0};

			if (!io->restoring)
				run = t->run[i];
			run_state(t, &run, end, io);
			end = run.gpa + run.len;
			if (state_restoring(io) &&
			    memory_table_add(t, run.gpa, run.len, run.stored) < 0)
				state_fail(io, -ENOMEM, "reading a snapshot");
		}
	}
	state_end(io);
}

void memory_table_done(struct memory_table *t)
{
	free(t->run);
	*t = (struct memory_table){0};
}
