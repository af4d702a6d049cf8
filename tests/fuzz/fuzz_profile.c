/* A guest that changes its kernel while it is profiled: the true one is opened, then whatever the
 * input says is spoilt, also in the middle of a look, and all that a profile makes of it has to end
 * within bounds and add up.
 *
 * The input: flags of the fake kernel (1 byte), then things to do, by their first byte: spoil
 * (place 3, length 1, byte 1), take a sample, let memory change by itself (1: every so many reads),
 * open the kernel again, look at the run queues. */
#include <errno.h>

#include "fuzz.h"
#include "inspect/glimpse.h"
#include "inspect/runqueues.h"
#include "kernel_fake.h"
#include "vm/profile.h"
#include "vm/profile_out.h"

#define VCPUS	 3u
#define KERNELS	 4u /* openings: each takes long */
#define LOOKS	 64u
#define JSON_MAX MIB(8)

enum act { SPOIL, SAMPLE, CHANGE, REOPEN, QUEUES, STACK, USER, ACTS };

/* A user's page of 2 MiB over physical 0; tables of it, and in it code and a stack. */
#define USER_TABLES 0x40000u
#define USER_GVA    0x400000u
#define USER_CODE   0x44000u
#define USER_STACK  0x45000u

struct subject {
	struct fuzz_input *in;
	struct inspect *inspect;
	struct glimpse_kernel *kernel;
	struct runqueues *queues;
	struct profile *profile;
	unsigned openings;
	uint64_t weight; /* of all samples */
	uint64_t at_ns;
};

static struct kernel_fake fake;
static uint64_t words, change_every, change_state, changes_left;

/* ---- memory that moves ------------------------------------------------------------------- */

static uint64_t change(void)
{
	/* A linear congruence (Knuth, volume 2, 3.3.4). */
	change_state = change_state * 6364136223846793005u + 1442695040888963407u;
	return change_state >> 33;
}

static int moving_read(const void *arg UNUSED, uint64_t gpa, void *dst, uint64_t len)
{
	words += (len + 7) / 8;
	if (change_every && changes_left && words % change_every == 0) {
		fake.ram[change() % FAKE_RAM] ^= (uint8_t)change();
		changes_left--;
	}
	if (gpa > FAKE_RAM || len > FAKE_RAM - gpa)
		return -EFAULT;
	memcpy(dst, fake.ram + gpa, len);
	return 0;
}

static void spoil(struct fuzz_input *in)
{
	uint64_t at = fuzz_take(in, 3) % FAKE_RAM;
	size_t n = MIN((size_t)fuzz_u8(in), (size_t)(FAKE_RAM - at));

	memset(fake.ram + at, fuzz_u8(in), n);
}

/* A stack that is deep for whoever believes it: addresses to return to, and places in itself. */
static void fill_stack(void)
{
	static const uint64_t codes[] = {FAKE_SCHEDULE, FAKE_SCHEDULE, FAKE_DO_IDLE,
					 FAKE_BPF_TEXT, FAKE_MOD_TEXT, FAKE_LOST};

	for (uint64_t i = 0; i < 0x4000 / 8; i++) {
		uint64_t word = change() % 6
					? codes[change() % ARRAY_SIZE(codes)] + 1 + change() % 0x70
					: FAKE_STACK + change() % 0x4000 / 8 * 8;

		memcpy(kernel_fake_at(&fake, FAKE_STACK + 8 * i), &word, sizeof(word));
	}
}

static void fill_user(void)
{
	static const uint8_t call[] = {0xe8, 0, 0, 0, 0};

	memset(fake.ram + USER_TABLES, 0, 0x3000);
	kernel_fake_entry(&fake, USER_TABLES, 0, (USER_TABLES + 0x1000) | 7);
	kernel_fake_entry(&fake, USER_TABLES + 0x1000, 0, (USER_TABLES + 0x2000) | 7);
	kernel_fake_entry(&fake, USER_TABLES + 0x2000, USER_GVA >> 21, 0x87);
	memcpy(fake.ram + USER_CODE + 0x100 - sizeof(call), call, sizeof(call));
	for (uint64_t i = 0; i < 64; i++) {
		const uint64_t record[] = {USER_GVA + USER_STACK + 16 * (i + 1),
					   USER_GVA + USER_CODE + 0x100};

		memcpy(fake.ram + USER_STACK + 16 * i, record, sizeof(record));
	}
}

/* ---- the kernel -------------------------------------------------------------------------- */

static void close_kernel(struct subject *s)
{
	runqueues_free(s->queues);
	glimpse_close(s->kernel);
	inspect_free(s->inspect);
	s->queues = NULL;
	s->kernel = NULL;
	s->inspect = NULL;
}

/* As a machine does it anew, where a sample lay in code that is not known. */
static void open_kernel(struct subject *s)
{
	struct lacks lacks = {0};
	struct error err = {0};

	if (s->openings++ >= KERNELS)
		return;
	close_kernel(s);
	if (inspect_new(&fake.mem, FAKE_ROOT_GPA, &s->inspect, &err))
		return;
	if (glimpse_open(s->inspect, &s->kernel)) {
		close_kernel(s);
		return;
	}
	if (runqueues_open(s->inspect, 16, &lacks, &s->queues, NULL))
		s->queues = NULL;
	s->inspect->mem.read = moving_read;
}

static void name(uint32_t kernel UNUSED, uint64_t gva, char *buf, size_t len, void *arg)
{
	struct subject *s = arg;
	bool known;

	buf[0] = '\0';
	if (s->kernel)
		glimpse_name(s->kernel, gva, buf, len, &known);
	FUZZ_CHECK(memchr(buf, 0, len));
}

/* ---- a sample ---------------------------------------------------------------------------- */

static struct arch_unwind take_registers(struct fuzz_input *in)
{
	static const uint64_t codes[] = {FAKE_SCHEDULE, FAKE_DO_IDLE, FAKE_LOST, FAKE_MOD_TEXT,
					 FAKE_BPF_TEXT};
	uint8_t where = fuzz_u8(in);
	struct arch_unwind u = {.extra_known = true, .exact = true};

	u.pc = codes[where % ARRAY_SIZE(codes)] + fuzz_u8(in) % 0x100;
	u.sp = where & 0x40 ? fuzz_take(in, 8) : FAKE_STACK + fuzz_take(in, 2) % 0x4000;
	u.fp = where & 0x80 ? fuzz_take(in, 8) : FAKE_STACK + fuzz_take(in, 2) % 0x4000;
	for (size_t i = 0; i < ARRAY_SIZE(u.extra); i++)
		u.extra[i] = u.sp + 8 * i;
	return u;
}

static void take_sample(struct subject *s)
{
	const struct arch_paging user = {.root_gpa = fuzz_take(s->in, 2) << 4, .levels = 4};
	uint8_t how = fuzz_u8(s->in);
	struct glimpse_at at = {.cpu = how % VCPUS,
				.in_kernel = how & 0x40,
				.registers = take_registers(s->in),
				.task_gva = how & 0x20 ? fuzz_take(s->in, 8) : 0,
				.user = &user};
	struct guest_reader mem = fake.mem;
	struct sample sample = {.weight = 1 + how / 64u, .kernel = s->kernel ? 1 : 0};
	struct glimpse g;

	mem.read = moving_read;
	words = 0;
	glimpse_look(s->kernel, &mem, &at, &g);
	FUZZ_CHECK(words <= GLIMPSE_WORDS_MAX);
	FUZZ_CHECK(g.count && g.count <= (at.in_kernel ? GLIMPSE_FRAMES : GLIMPSE_USER));
	FUZZ_CHECK(memchr(g.comm, 0, sizeof(g.comm)));
	s->at_ns += fuzz_take(s->in, 3) << 8;
	sample.at_ns = s->at_ns;
	sample.kind = at.in_kernel ? SAMPLE_KERNEL : SAMPLE_USER;
	sample.has_task = g.has_task;
	sample.pid = g.pid;
	memcpy(sample.comm, g.comm, sizeof(sample.comm));
	sample.frames = (uint8_t)g.count;
	memcpy(sample.frame, g.frame, g.count * sizeof(g.frame[0]));
	sample.halted = how & 0x10;
	(void)profile_add(s->profile, at.cpu, &sample);
	s->weight += sample.weight;
}

static void look_at_queues(struct subject *s)
{
	for (unsigned i = 0; s->queues && i < runqueues_cpus(s->queues); i++) {
		struct runqueues_sample sample;

		words = 0;
		(void)!runqueues_look(s->queues, i, &sample);
		FUZZ_CHECK(words <= RUNQUEUES_WORDS_MAX);
	}
}

/* ---- what is made of them ---------------------------------------------------------------- */

static void check_result(struct subject *s)
{
	struct topology topology;
	const struct profile_run run = {.hz = 1000,
					.duration_ns = s->at_ns + 1,
					.topology = &topology,
					.degraded = json_array()};
	struct profile_vcpu sum;
	json_t *json, *speedscope;
	FILE *f;
	char *text = NULL;
	size_t len = 0;

	FUZZ_CHECK(topology_from_cpus(VCPUS, &topology, NULL) == 0);
	profile_sum(s->profile, &sum);
	FUZZ_CHECK(sum.idle + sum.user + sum.kernel == s->weight);
	FUZZ_CHECK(profile_scheduling(&sum) <= sum.kernel && sum.lock <= sum.kernel);
	json = profile_json(s->profile, &run);
	speedscope = profile_speedscope(s->profile, &run, "fuzz");
	FUZZ_CHECK(json && speedscope);
	text = json_dumps(json, JSON_COMPACT);
	FUZZ_CHECK(text && strlen(text) < JSON_MAX);
	free(text);
	f = open_memstream(&text, &len);
	FUZZ_CHECK(f && profile_folded(speedscope, f) == 0 && fclose(f) == 0 && len < JSON_MAX);
	free(text);
	json_decref(json);
	json_decref(speedscope);
	json_decref(run.degraded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct subject s = {.in = &in};

	kernel_fake_build(&fake, fuzz_u8(&in) & 15);
	change_every = 0;
	change_state = size;
	changes_left = 4096;
	FUZZ_CHECK(profile_new(VCPUS, &s.profile) == 0);
	s.profile->name = name;
	s.profile->arg = &s;
	open_kernel(&s);
	FUZZ_CHECK(s.kernel); /* it is true as yet */
	for (unsigned i = 0; i < LOOKS && in.left; i++) {
		switch (fuzz_u8(&in) % ACTS) {
		case SPOIL:
			spoil(&in);
			break;
		case SAMPLE:
			take_sample(&s);
			break;
		case CHANGE:
			change_every = fuzz_u8(&in);
			break;
		case REOPEN:
			open_kernel(&s);
			break;
		case QUEUES:
			look_at_queues(&s);
			break;
		case STACK:
			fill_stack();
			break;
		case USER:
			fill_user();
			break;
		}
	}
	check_result(&s);
	close_kernel(&s);
	profile_free(s.profile);
	return 0;
}
