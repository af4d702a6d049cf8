/* Looks at run queues of the tiny kernel: whole, torn, and in memory that lies. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/util.h"
#include "inspect/runqueues.h"
#include "queues_fake.h"

static struct kernel_fake fake;

static struct runqueues *open_queues(struct inspect *in)
{
	struct runqueues *q = NULL;
	struct lacks lacks = {0};
	struct error err = {0};

	if (runqueues_open(in, 4096, &lacks, &q, &err))
		fail_msg("%s", err.what);
	assert_int_equal(lacks.count, 0);
	return q;
}

static void a_look_is_what_the_queue_holds(void **state)
{
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues *q = open_queues(in);
	struct runqueues_sample s;

	(void)state;
	assert_int_equal(runqueues_cpus(q), 2);
	assert_true(runqueues_look(q, 0, &s));
	assert_int_equal(s.have, (1u << RUNQUEUES_FIELDS) - 1);
	assert_int_equal(s.value[RUNQUEUES_RUNNING], 3);
	assert_int_equal(s.value[RUNQUEUES_CLOCK], 1000);
	assert_int_equal(s.value[RUNQUEUES_SWITCHES], 500);
	assert_int_equal(s.value[RUNQUEUES_WAKEUPS], 60);
	assert_int_equal(s.value[RUNQUEUES_WAKEUPS_LOCAL], 40);
	assert_int_equal(s.value[RUNQUEUES_RUN_DELAY], 123456789);
	assert_int_equal(s.value[RUNQUEUES_SCX_LOCAL], 4);
	assert_int_equal(s.value[RUNQUEUES_SCX_RUNNING], 5);
	assert_int_equal(s.value[RUNQUEUES_SCX_FLAGS], 1);
	assert_int_equal(s.pid, 77);
	assert_string_equal(s.comm, "worker");
	assert_false(s.idle || s.torn || s.tickless);
	assert_int_equal(s.repeats, 0);
	assert_true(runqueues_look(q, 1, &s));
	assert_true(s.idle);
	assert_string_equal(s.comm, "swapper/0");
	assert_int_equal(s.value[RUNQUEUES_CLOCK], 1001);
	assert_false(runqueues_look(q, 2, &s));
	/* What it finds once, it reads anew. */
	queues_fake_set(&fake, 0, QUEUE_RUNNING, 9, 4);
	queues_fake_set(&fake, 0, QUEUE_CURR, FAKE_INIT_TASK, 8);
	assert_true(runqueues_look(q, 0, &s));
	assert_int_equal(s.value[RUNQUEUES_RUNNING], 9);
	assert_true(s.idle);
	assert_int_equal(s.pid, 0);
	runqueues_free(q);
	inspect_free(in);
}

/* The kernel has the numbers, and doesn't count. */
static void what_is_not_counted_is_not_there(void **state)
{
	const uint32_t counted = 1u << RUNQUEUES_WAKEUPS | 1u << RUNQUEUES_WAKEUPS_LOCAL;
	const uint32_t delay = 1u << RUNQUEUES_RUN_DELAY;
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues *q = open_queues(in);
	struct runqueues_sample s;

	(void)state;
	memset(kernel_fake_at(&fake, FAKE_SCHEDSTATS), 0, 4);
	assert_true(runqueues_look(q, 0, &s));
	assert_int_equal(s.have, ((1u << RUNQUEUES_FIELDS) - 1) & ~counted);
	assert_int_equal(s.value[RUNQUEUES_WAKEUPS], 0);
	/* Newer kernels count delays all the same. */
	assert_int_equal(s.value[RUNQUEUES_RUN_DELAY], 123456789);
	queues_fake_set(&fake, 0, QUEUE_DELAY, 0, 8);
	assert_true(runqueues_look(q, 0, &s));
	assert_int_equal(s.have, ((1u << RUNQUEUES_FIELDS) - 1) & ~(counted | delay));
	/* Somebody turns them on. */
	*(uint32_t *)kernel_fake_at(&fake, FAKE_SCHEDSTATS) = 1;
	assert_true(runqueues_look(q, 0, &s));
	assert_int_equal(s.have, (1u << RUNQUEUES_FIELDS) - 1);
	assert_int_equal(s.value[RUNQUEUES_WAKEUPS], 60);
	runqueues_free(q);
	inspect_free(in);
}

static void a_tick_may_be_off(void **state)
{
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues *q = open_queues(in);
	struct runqueues_sample s;

	(void)state;
	/* Not where no CPU has full dynticks. */
	queues_fake_set(&fake, 0, QUEUE_RT, 1, 4);
	queues_fake_set(&fake, 0, QUEUE_SCX_FLAGS, 3, 4);
	assert_true(runqueues_look(q, 0, &s));
	assert_false(s.tickless);
	runqueues_free(q);
	*(uint8_t *)kernel_fake_at(&fake, FAKE_DYNTICKS) = 1;
	q = open_queues(in);
	assert_true(runqueues_look(q, 0, &s));
	assert_true(s.tickless);
	/* SCHED_RR has a tick, and so has everyone else. */
	queues_fake_set(&fake, 0, QUEUE_RR, 1, 4);
	queues_fake_set(&fake, 0, QUEUE_SCX_FLAGS, 1, 4);
	assert_true(runqueues_look(q, 0, &s));
	assert_false(s.tickless);
	queues_fake_set(&fake, 0, QUEUE_SCX_FLAGS, 2, 4);
	assert_true(runqueues_look(q, 0, &s));
	assert_true(s.tickless);
	runqueues_free(q);
	inspect_free(in);
}

static void domains_are_read(void **state)
{
	struct runqueues_level level[RUNQUEUES_LEVELS];
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues *q = open_queues(in);
	char name[32];

	(void)state;
	assert_int_equal(runqueues_domains(q, 0, level), 2);
	assert_string_equal(level[0].name, "MC");
	assert_int_equal(level[0].flags, 5);
	assert_int_equal(level[0].span[0], 1);
	assert_string_equal(level[1].name, "PKG");
	assert_int_equal(level[1].span[0], 3);
	assert_true(runqueues_flag_name(q, 1, name, sizeof(name)));
	assert_string_equal(name, "SD_NUMA");
	assert_false(runqueues_flag_name(q, 32, name, sizeof(name)));
	assert_true(runqueues_schedstats(q));
	memset(kernel_fake_at(&fake, FAKE_SCHEDSTATS), 0, 4);
	assert_false(runqueues_schedstats(q));
	/* A level above itself. */
	memcpy(kernel_fake_at(&fake, FAKE_DOMAIN(1)), &(uint64_t){FAKE_DOMAIN(1)}, 8);
	assert_int_equal(runqueues_domains(q, 0, level), RUNQUEUES_LEVELS);
	runqueues_free(q);
	inspect_free(in);
}

/* ---- torn looks -------------------------------------------------------------------------- */

/* A reader that changes the queue's clock as its number of tasks is read. */
static unsigned changes, reads;

static int changing_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	struct kernel_fake *f = &fake;

	reads++;
	if (gpa == queues_fake_gpa(0, QUEUE_RUNNING) && changes) {
		changes--;
		queues_fake_set(f, 0, QUEUE_CLOCK, 2000 + changes, 8);
		queues_fake_set(f, 0, QUEUE_SWITCHES, 600 + changes, 8);
	}
	return f->mem.read(arg, gpa, dst, len);
}

static void a_torn_look_is_repeated(void **state)
{
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues *q = open_queues(in);
	struct runqueues_sample s;

	(void)state;
	in->mem.read = changing_read;
	changes = 1;
	assert_true(runqueues_look(q, 0, &s));
	assert_false(s.torn);
	assert_int_equal(s.repeats, 1);
	assert_int_equal(s.value[RUNQUEUES_CLOCK], 2000);
	assert_int_equal(s.value[RUNQUEUES_SWITCHES], 600);
	/* One that never holds still is told as such, and costs no more than it may. */
	changes = UINT32_MAX;
	reads = 0;
	assert_true(runqueues_look(q, 0, &s));
	assert_true(s.torn);
	assert_int_equal(s.repeats, RUNQUEUES_REPEATS);
	assert_in_range(reads, 1, (RUNQUEUES_REPEATS + 1) * (RUNQUEUES_FIELDS + 6) + 32);
	changes = 0;
	assert_true(runqueues_look(q, 0, &s));
	assert_false(s.torn);
	runqueues_free(q);
	inspect_free(in);
}

/* A CPU that works on its queue as the kernel does: the clock first, then the rest, then the count
 * of switches. */
static atomic_bool over;

static void store(unsigned offset, uint64_t value)
{
	/* Release: pairs with the acquire of atomic_read. */
	__atomic_store_n((uint64_t *)(void *)(fake.ram + queues_fake_gpa(0, offset)), value,
			 __ATOMIC_RELEASE);
}

static void *work(void *arg)
{
	for (uint64_t n = 1; !atomic_load(&over); n++) {
		store(QUEUE_CLOCK, 1000 + n);
		store(QUEUE_DELAY, 1000 + n);
		store(QUEUE_SWITCHES, n);
		/* Looks take turns with it, or fall between. */
		if (n % 16 == 0)
			nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
	}
	return arg;
}

static int atomic_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	const struct kernel_fake *f = &fake;

	if (++reads % 64 == 0)
		sched_yield();
	if (len == 8 && gpa % 8 == 0 && gpa < FAKE_RAM) {
		uint64_t v = __atomic_load_n((const uint64_t *)(const void *)(f->ram + gpa),
					     __ATOMIC_ACQUIRE);

		memcpy(dst, &v, sizeof(v));
		return 0;
	}
	return f->mem.read(arg, gpa, dst, len);
}

static void a_look_at_a_busy_queue_is_whole_or_torn(void **state)
{
	struct inspect *in = queues_fake_open(&fake);
	uint64_t whole = 0, repeats = 0, torn = 0, end_ns;
	struct runqueues *q = open_queues(in);
	struct runqueues_sample s;
	pthread_t thread;

	(void)state;
	queues_fake_set(&fake, 0, QUEUE_DELAY, 1000, 8);
	in->mem.read = atomic_read;
	atomic_store(&over, false);
	assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
	end_ns = now_ns() + 10 * UINT64_C(1000000000);
	while (now_ns() < end_ns && (whole < 1000 || repeats < 10)) {
		assert_true(runqueues_look(q, 0, &s));
		repeats += s.repeats;
		torn += s.torn;
		if (s.torn)
			continue;
		whole++;
		/* Of the clock's moment, or of just before it: behind the clock is where the rest
		 * follows. */
		assert_in_range(s.value[RUNQUEUES_RUN_DELAY], s.value[RUNQUEUES_CLOCK] - 1,
				s.value[RUNQUEUES_CLOCK]);
	}
	atomic_store(&over, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	print_message("%llu whole, %llu repeats, %llu torn\n", (unsigned long long)whole,
		      (unsigned long long)repeats, (unsigned long long)torn);
	assert_true(whole >= 1000 && repeats >= 10);
	runqueues_free(q);
	inspect_free(in);
}

/* ---- memory that lies -------------------------------------------------------------------- */

static void what_leads_nowhere_is_left_out(void **state)
{
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues *q = open_queues(in);
	struct runqueues_level level[RUNQUEUES_LEVELS];
	struct runqueues_sample s = {.pid = 5};

	(void)state;
	queues_fake_set(&fake, 0, QUEUE_CURR, 0xdead000000000000, 8);
	queues_fake_set(&fake, 0, QUEUE_RUNNING, UINT32_MAX, 4);
	queues_fake_set(&fake, 0, QUEUE_SD, UINT64_MAX - 3, 8);
	assert_true(runqueues_look(q, 0, &s));
	assert_int_equal(s.pid, -1);
	assert_string_equal(s.comm, "");
	assert_int_equal(s.value[RUNQUEUES_RUNNING], UINT32_MAX);
	assert_int_equal(runqueues_domains(q, 0, level), 0);
	memset(kernel_fake_at(&fake, FAKE_WORKER + 16), '\n', 16);
	queues_fake_set(&fake, 0, QUEUE_CURR, FAKE_WORKER, 8);
	assert_true(runqueues_look(q, 0, &s));
	assert_string_equal(s.comm, "????????????????");
	runqueues_free(q);
	/* Per-CPU data that isn't there. */
	memcpy(kernel_fake_at(&fake, FAKE_PERCPU), &(uint64_t){UINT64_MAX / 3}, 8);
	q = open_queues(in);
	s.pid = 5;
	assert_false(runqueues_look(q, 0, &s));
	assert_int_equal(s.pid, 5);
	assert_true(runqueues_look(q, 1, &s));
	runqueues_free(q);
	inspect_free(in);
}

static void the_kernel_may_say_nothing(void **state)
{
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues *q = NULL;
	struct lacks lacks = {0};
	struct error err = {0};

	(void)state;
	memcpy(kernel_fake_at(&fake, FAKE_CPU_IDS), &(uint32_t){UINT32_MAX}, 4);
	assert_int_equal(runqueues_open(in, 2, &lacks, &q, &err), -ENODATA);
	inspect_free(in);
	kernel_fake_build(&fake, FAKE_NO_BTF);
	assert_int_equal(inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, NULL), 0);
	assert_int_equal(runqueues_open(in, 2, &lacks, &q, &err), -ENODATA);
	assert_non_null(strstr(err.what, "BTF"));
	inspect_free(in);
	/* The tiny kernel's own types have little of a queue. */
	kernel_fake_build(&fake, 0);
	assert_int_equal(inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, NULL), 0);
	assert_int_equal(runqueues_open(in, 2, &lacks, &q, &err), 0);
	assert_in_range(lacks.count, 4, 10);
	runqueues_free(q);
	inspect_free(in);
}

static int counting_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	reads++;
	return fake.mem.read(arg, gpa, dst, len);
}

/* Bytes of queues, tasks, domains and page tables turned at random: nothing crashes, nothing takes
 * long. */
static void turned_bytes_are_bounded(void **state)
{
	static const struct {
		uint32_t gpa, len;
	} area[] = {{FAKE_PERCPU_GPA(0), 0x2000},
		    {0x2000, 0x7000},
		    {FAKE_IMAGE_GPA + 0x1000, 0x1400},
		    {FAKE_IMAGE_GPA + 0x18000, 0x500}};
	uint32_t x = 12345;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct inspect *in = queues_fake_open(&fake);
		struct runqueues_level level[RUNQUEUES_LEVELS];
		struct runqueues_sample s;
		struct lacks lacks = {0};
		struct runqueues *q;

		in->mem.read = counting_read;
		if (round % 2 == 0)
			assert_int_equal(runqueues_open(in, 4096, &lacks, &q, NULL), 0);
		for (unsigned i = 0; i < 40; i++) {
			unsigned a = (x >> 8) % ARRAY_SIZE(area);

			x = x * 1103515245 + 12345;
			fake.ram[area[a].gpa + (x >> 4) % area[a].len] = (uint8_t)(x >> 20);
		}
		if (round % 2 && runqueues_open(in, 4096, &lacks, &q, NULL) < 0) {
			inspect_free(in);
			continue;
		}
		reads = 0;
		for (unsigned cpu = 0; cpu < MIN(runqueues_cpus(q), 4u); cpu++) {
			char name[32];

			(void)runqueues_look(q, cpu, &s);
			(void)runqueues_domains(q, cpu, level);
			(void)runqueues_flag_name(q, cpu, name, sizeof(name));
		}
		assert_in_range(reads, 0, 4000);
		runqueues_free(q);
		inspect_free(in);
	}
}

/* ---- what it costs ----------------------------------------------------------------------- */

static void many_cpus_cost_little(void **state)
{
	struct inspect *in = queues_fake_open(&fake);
	struct runqueues_sample s;
	struct runqueues *q;
	uint64_t ns;

	(void)state;
	queues_fake_many(&fake, in, 1024);
	q = open_queues(in);
	assert_int_equal(runqueues_cpus(q), 1024);
	for (unsigned cpu = 0; cpu < 1024; cpu++)
		assert_true(runqueues_look(q, cpu, &s));
	in->mem.read = counting_read;
	reads = 0;
	assert_true(runqueues_look(q, 1023, &s));
	/* Each field, three marks twice, the task and the idle one, whether the kernel counts:
	 * nothing is searched for. */
	assert_int_equal(reads, RUNQUEUES_FIELDS + 6 + 3 + 1);
	in->mem.read = fake.mem.read;
	ns = now_ns();
	for (unsigned i = 0; i < 100 * 1024; i++)
		assert_true(runqueues_look(q, i % 1024, &s));
	ns = now_ns() - ns;
	print_message("%llu ns a look\n", (unsigned long long)(ns / (100 * 1024)));
	runqueues_free(q);
	inspect_free(in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_look_is_what_the_queue_holds),
		cmocka_unit_test(what_is_not_counted_is_not_there),
		cmocka_unit_test(a_tick_may_be_off),
		cmocka_unit_test(domains_are_read),
		cmocka_unit_test(a_torn_look_is_repeated),
		cmocka_unit_test(a_look_at_a_busy_queue_is_whole_or_torn),
		cmocka_unit_test(what_leads_nowhere_is_left_out),
		cmocka_unit_test(the_kernel_may_say_nothing),
		cmocka_unit_test(turned_bytes_are_bounded),
		cmocka_unit_test(many_cpus_cost_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
