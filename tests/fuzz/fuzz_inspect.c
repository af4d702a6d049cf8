/* A guest's kernel that lies: a small true one, spoilt by the input. Opening it and every question
 * must end, within bounds, and answers must keep their promises; ASan sees the rest.
 *
 * The input: flags of the fake kernel (1 byte), then records of place (3), length (1), bytes.
 * Lengths below 0x80 write so many bytes of the input; above, length & 0x7f times 32 bytes of one
 * value. Places are in RAM; a first record at 0xffffff ends them; then come a CPU's registers, and
 * the rest is an expression. */
#include "fuzz.h"
#include "inspect/glimpse.h"
#include "inspect/runqueues.h"
#include "inspect/sched.h"
#include "inspect/sched_classes.h"
#include "inspect/stack.h"
#include "kernel_fake.h"

static struct kernel_fake fake;

static void spoil(struct fuzz_input *in)
{
	while (in->left) {
		uint64_t at = fuzz_take(in, 3);
		uint8_t len = fuzz_u8(in);

		if (at == 0xffffff)
			return;
		at %= FAKE_RAM;
		if (len & 0x80) {
			size_t n = MIN((size_t)(len & 0x7f) * 32, (size_t)(FAKE_RAM - at));

			memset(fake.ram + at, fuzz_u8(in), n);
			continue;
		}
		for (; len && at < FAKE_RAM; len--)
			fake.ram[at++] = fuzz_u8(in);
	}
}

static void ask_symbols(const struct inspect *in)
{
	static const char *const names[] = {"_stext", "init_task", "runqueues", "missing"};
	struct kallsyms_hit hit;
	char text[80];
	uint64_t gva;

	FUZZ_CHECK(in->symbols.count && in->symbols.count <= KALLSYMS_MAX_SYMBOLS);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct error err = {0};

		if (inspect_symbol(in, names[i], &gva, &err)) {
			FUZZ_CHECK(err.kind == ERROR_USAGE);
			continue;
		}
		for (unsigned cpu = 0; cpu < 3; cpu++) {
			uint64_t at;

			(void)!inspect_percpu(in, gva, cpu, &at);
		}
		for (int add = -1; add <= 1; add++) {
			uint64_t asked = gva + (uint64_t)(int64_t)add;

			inspect_format(in, asked, text, sizeof(text));
			if (!kallsyms_name(&in->symbols, asked, &hit))
				continue;
			FUZZ_CHECK(hit.offset <= asked);
			FUZZ_CHECK(!hit.size || hit.offset < hit.size);
			FUZZ_CHECK(strlen(hit.name) < KALLSYMS_NAME_MAX);
		}
	}
}

static void ask_place(const struct inspect *in, const char *expr)
{
	struct inspect_place place;
	struct types_value v;
	struct error err = {0};
	uint64_t gpa, word;

	if (inspect_place(in, expr, 1, &place, &err) == 0) {
		FUZZ_CHECK(place.pointers <= INSPECT_MAX_POINTERS);
		FUZZ_CHECK(!space_translate(&in->space, place.gva, &gpa));
		(void)!space_read_uint(&in->space, place.gva, 8, &word);
		if (place.value.bit_size)
			FUZZ_CHECK(place.value.size <= 8 &&
				   place.value.bit_offset + place.value.bit_size <=
					   8 * place.value.size);
	} else {
		FUZZ_CHECK(err.code < 0 && err.what[0]);
	}
	(void)!inspect_member(in, expr, &v, NULL);
}

static void see_number(const char *name, int64_t value UNUSED, void *arg)
{
	FUZZ_CHECK(name[0] && ++*(unsigned *)arg < 1000);
}

static void see_text(const char *name, const char *value, void *arg)
{
	FUZZ_CHECK(name[0] && strlen(value) < 4096 && ++*(unsigned *)arg < 1000);
}

static void ask_sched(const struct inspect *in, struct lacks *lacks, uint64_t task)
{
	unsigned seen = 0;
	const struct sched_sink sink = {see_number, see_text, &seen};
	struct sched *sched;

	if (sched_open(in, lacks, &sched))
		return;
	for (unsigned cpu = 0; cpu < 3; cpu++) {
		sched_task(sched, cpu, cpu ? 0 : task, &sink);
		sched_queue(sched, cpu, &sink);
		sched_queue_ext(sched, cpu, &sink);
	}
	sched_ext(sched, &sink);
	sched_ext_events(sched, &sink);
	sched_free(sched);
}

/* Two looks each: the second is from what the first has found. */
static void ask_queues(const struct inspect *in, struct lacks *lacks)
{
	struct runqueues_level level[RUNQUEUES_LEVELS];
	struct runqueues_sample sample;
	struct runqueues *q;
	char name[32];

	if (runqueues_open(in, 16, lacks, &q, NULL))
		return;
	for (unsigned i = 0; i < 2 * runqueues_cpus(q); i++) {
		/* Nobody writes meanwhile. */
		FUZZ_CHECK(!runqueues_look(q, i / 2, &sample) || !sample.repeats);
		FUZZ_CHECK(runqueues_domains(q, i / 2, level) <= RUNQUEUES_LEVELS);
		(void)runqueues_flag_name(q, i, name, sizeof(name));
	}
	(void)runqueues_schedstats(q);
	runqueues_free(q);
}

static void ask_stack(const struct inspect *in, struct lacks *lacks, const struct arch_unwind *at)
{
	static struct stack stack;
	char text[700];
	struct code *code;

	if (code_open(in, lacks, &code))
		return;
	stack_walk(code, in, at, &stack);
	FUZZ_CHECK(stack.count && stack.count <= STACK_FRAMES_MAX);
	FUZZ_CHECK(stack.frame[0].pc == at->pc);
	for (unsigned i = 0; i < stack.count; i++) {
		code_format(code, stack.frame[i].pc, stack.frame[i].back, text, sizeof(text));
		FUZZ_CHECK(text[0] && stack_by_name(stack.frame[i].by)[0]);
	}
	code_free(code);
}

/* As a profile does, while memory changes. */
static void ask_glimpse(const struct inspect *in, struct fuzz_input *input,
			const struct arch_unwind *at)
{
	const struct arch_paging user = in->space.paging;
	struct glimpse_at where = {.in_kernel = true, .registers = *at, .user = &user};
	struct glimpse_kernel *kernel;
	struct glimpse g;
	uint64_t spoiled;
	char text[64];
	bool known;

	if (glimpse_open(in, &kernel))
		return;
	for (unsigned i = 0; i < 4; i++) {
		where.cpu = i % 3;
		where.in_kernel = i != 3;
		glimpse_look(i == 2 ? NULL : kernel, &in->mem, &where, &g);
		FUZZ_CHECK(g.count && g.count <= GLIMPSE_FRAMES);
		FUZZ_CHECK(memchr(g.comm, 0, sizeof(g.comm)));
		for (unsigned k = 0; k < g.count; k++) {
			glimpse_name(kernel, g.frame[k], text, sizeof(text), &known);
			FUZZ_CHECK(text[0] && sched_class_of(text) <= SCHED_IS_LOCK);
		}
		spoiled = fuzz_take(input, 3) % FAKE_RAM;
		fake.ram[spoiled] = fuzz_u8(input);
	}
	glimpse_close(kernel);
}

/* Where a CPU is: in the fake's code and on its stack, if it doesn't go out of its way. */
static struct arch_unwind take_registers(struct fuzz_input *in)
{
	static const uint64_t codes[] = {FAKE_SCHEDULE, FAKE_DO_IDLE, FAKE_LOST, FAKE_MOD_TEXT,
					 FAKE_BPF_TEXT};
	uint8_t where = fuzz_u8(in);
	struct arch_unwind u = {.extra_known = true, .exact = true};

	u.pc = codes[where % ARRAY_SIZE(codes)] + fuzz_u8(in) % 0x100;
	u.sp = FAKE_STACK + fuzz_take(in, 2) % 0x4000;
	u.fp = FAKE_STACK + fuzz_take(in, 2) % 0x4000;
	if (where & 0x80)
		u.fp = fuzz_take(in, 8);
	if (where & 0x40)
		u.sp = fuzz_take(in, 8);
	for (size_t i = 0; i < ARRAY_SIZE(u.extra); i++)
		u.extra[i] = u.sp + 8 * i;
	return u;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const exprs[] = {
		"scx_root->exit_kind", "init_task.parent->parent->comm[2]",
		"runqueues.curr->pid", "task_struct.b",
		"_stext.exit_kind",    "task_struct.tasks.next",
	};
	struct fuzz_input in = {data, size};
	struct lacks lacks = {0};
	struct inspect *kernel = NULL;
	struct arch_unwind at;
	struct error err = {0};
	char expr[200];
	size_t len;

	kernel_fake_build(&fake, fuzz_u8(&in) & 15);
	spoil(&in);
	if (inspect_new(&fake.mem, size & 1 ? FAKE_ROOT_GPA : 0, &kernel, &err)) {
		FUZZ_CHECK(!kernel && err.code < 0 && err.what[0]);
		return 0;
	}
	FUZZ_CHECK(strlen(kernel->release) < sizeof(kernel->release));
	FUZZ_CHECK(kernel->types || kernel->types_lack.code < 0);
	ask_symbols(kernel);
	for (size_t i = 0; i < ARRAY_SIZE(exprs); i++)
		ask_place(kernel, exprs[i]);
	at = take_registers(&in);
	ask_stack(kernel, &lacks, &at);
	ask_sched(kernel, &lacks, at.sp);
	ask_queues(kernel, &lacks);
	ask_glimpse(kernel, &in, &at);
	FUZZ_CHECK(lacks.count <= LACKS_MAX);
	len = MIN(in.left, sizeof(expr) - 1);
	memcpy(expr, in.data, len);
	expr[len] = '\0';
	ask_place(kernel, expr);
	inspect_free(kernel);
	return 0;
}
