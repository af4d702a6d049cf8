/* What a vCPU does, as a sample: where it is, its task and its stack. vCPU thread. */
#include <string.h>

#include "vm/profiling.h"

void profiling_sample(const struct glimpse_kernel *kernel, const struct guest_memory *mem,
		      unsigned vcpu, const struct arch_vcpu_state *state, struct sample *sample)
{
	struct glimpse_at at = {
		.cpu = vcpu,
		.in_kernel = arch_vcpu_in_kernel(state),
		.task_gva = arch_vcpu_task(state),
	};
	struct arch_paging user;
	struct guest_reader reader;
	struct glimpse g;

	arch_vcpu_unwind(state, &at.registers);
	if (!at.in_kernel && arch_vcpu_user_paging(state, &user) == 0)
		at.user = &user;
	guest_reader_init(&reader, mem);
	glimpse_look(kernel, &reader, &at, &g);
	sample->kind = at.in_kernel ? SAMPLE_KERNEL : SAMPLE_USER;
	sample->complete = g.complete;
	sample->has_task = g.has_task;
	sample->pid = g.pid;
	_Static_assert(sizeof(sample->comm) == sizeof(g.comm), "a task's name");
	memcpy(sample->comm, g.comm, sizeof(g.comm));
	_Static_assert(SAMPLE_FRAMES >= GLIMPSE_FRAMES && SAMPLE_FRAMES >= GLIMPSE_USER, "frames");
	sample->frames = (uint8_t)g.count;
	memcpy(sample->frame, g.frame, g.count * sizeof(g.frame[0]));
}
