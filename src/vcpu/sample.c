/* The sampler of a vCPU: its timer, its generator and its ring. vCPU thread, but for what starts,
 * stops and reads, which is the control thread's. */
#include "vcpu/sample.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/util.h"
#include "vcpu/pool.h"

#define NS_PER_S     1000000000u
#define INTERVAL_MAX 16 /* times the mean */
#define NEVER	     UINT64_MAX
/* A handler that runs late (a sanitizer defers it to the next call that it knows) can't set
 * immediate_exit in time; the timer comes again. */
#define AGAIN_NS 50000000

/* For the signal handler: what this thread samples, once it has a timer. */
static _Thread_local struct vcpu *volatile sampled_here;

/* ---- intervals --------------------------------------------------------------------------- */

/* By comparisons alone (von Neumann: Various techniques used in connection with random digits,
 * 1951): the fraction is the first of a falling run of odd length; each run of even length before
 * it counts one whole. */
uint64_t sample_interval(uint64_t *state, uint64_t mean)
{
	for (unsigned whole = 0; whole < INTERVAL_MAX; whole++) {
		uint64_t first = random_next(state), last = first, next;
		unsigned len = 1;

		while ((next = random_next(state)) < last) {
			last = next;
			len++;
		}
		if (len % 2)
			return MAX(1u, whole * mean +
					       (uint64_t)((unsigned __int128)first * mean >> 64));
	}
	return INTERVAL_MAX * mean;
}

/* ---- the timer --------------------------------------------------------------------------- */

/* 0: never. */
static void set_timer(struct sampler *s, uint64_t ns)
{
	struct itimerspec at = {.it_interval = {.tv_nsec = AGAIN_NS},
				.it_value = {.tv_sec = (time_t)(ns / NS_PER_S),
					     .tv_nsec = (long)(ns % NS_PER_S)}};

	(void)timer_settime(s->timer, 0, &at, NULL); /* a timer of ours and a sane time */
}

static void arm(struct vcpu *vcpu)
{
	struct sampler *s = vcpu->sampler;
	uint64_t ns = sample_interval(&s->random, s->mean_ns * s->halted);

	/* Relaxed, here and below: this thread's own handler reads it. First, so that the timer's
	 * signal is never early. */
	atomic_store_explicit(&s->due_ns, now_ns() + ns, memory_order_relaxed);
	set_timer(s, ns);
}

static int make_timer(struct vcpu *vcpu)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = VCPU_KICK_SIGNAL,
	};

	event._sigev_un._tid = vcpu->tid;
	return timer_create(CLOCK_MONOTONIC, &event, &vcpu->sampler->timer) < 0 ? -errno : 0;
}

void vcpu_sample_signal(void)
{
	struct vcpu *vcpu = sampled_here;

	if (!vcpu || now_ns() < atomic_load_explicit(&vcpu->sampler->due_ns, memory_order_relaxed))
		return;
	/* Sequentially consistent, in this order: pairs with the clear and the load in look, as a
	 * kick of the control thread does. */
	atomic_fetch_or_explicit(&vcpu->requests, VCPU_REQ_SAMPLE, memory_order_seq_cst);
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

static void note_error(struct sampler *s, int r)
{
	atomic_store_explicit(&s->failure, (uint64_t)s->period << 32 | (uint32_t)-r,
			      memory_order_relaxed);
}

void vcpu_sampler_set(struct vcpu *vcpu)
{
	struct sampler *s = vcpu->sampler;
	/* Acquire: pairs with the release in vcpu_pool_sample_start: the rings are there. */
	uint32_t period = atomic_load_explicit(&vcpu->pool->sample_period, memory_order_acquire);
	int r;

	/* Cleared first: what is asked for from now on is seen again. */
	atomic_fetch_and_explicit(&vcpu->requests, ~(uint32_t)VCPU_REQ_SAMPLER,
				  memory_order_acq_rel);
	if (!s)
		return;
	s->armed = period % 2;
	s->period = period;
	/* Relaxed: a mean that is newer than the period comes with a request of its own. */
	s->mean_ns = atomic_load_explicit(&vcpu->pool->sample_mean_ns, memory_order_relaxed);
	if (!s->has_timer && s->armed) {
		r = make_timer(vcpu);
		if (r < 0) {
			note_error(s, r);
			s->armed = false;
			return;
		}
		s->has_timer = true;
		atomic_store_explicit(&s->due_ns, NEVER, memory_order_relaxed);
		sampled_here = vcpu;
		s->random = now_ns() * UINT64_C(0x9e3779b97f4a7c15) + vcpu->index;
	}
	s->halted = 1;
	if (s->armed) {
		atomic_store_explicit(&s->took_ns, 0, memory_order_relaxed);
		atomic_store_explicit(&s->longest_ns, 0, memory_order_relaxed);
		arm(vcpu);
	} else if (s->has_timer) {
		atomic_store_explicit(&s->due_ns, NEVER, memory_order_relaxed);
		set_timer(s, 0);
	}
}

void vcpu_sampler_park(struct vcpu *vcpu)
{
	struct sampler *s = vcpu->sampler;

	if (!s || !s->armed)
		return;
	atomic_store_explicit(&s->due_ns, NEVER, memory_order_relaxed);
	set_timer(s, 0);
	/* One that was due already would be of after the park. */
	atomic_fetch_and_explicit(&vcpu->requests, ~(uint32_t)VCPU_REQ_SAMPLE,
				  memory_order_acq_rel);
}

void vcpu_sampler_unpark(struct vcpu *vcpu)
{
	if (vcpu->sampler && vcpu->sampler->armed)
		arm(vcpu);
}

void vcpu_sampler_end(struct vcpu *vcpu)
{
	struct sampler *s = vcpu->sampler;

	sampled_here = NULL;
	if (!s)
		return;
	if (s->has_timer)
		timer_delete(s->timer);
	s->has_timer = s->armed = false;
}

/* ---- a sample ---------------------------------------------------------------------------- */

/* One writer. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static void count(_Atomic uint64_t *counter)
{
	add(counter, 1);
}

static void note_cost(struct sampler *s, uint64_t ns)
{
	add(&s->took_ns, ns);
	if (ns > atomic_load_explicit(&s->longest_ns, memory_order_relaxed))
		atomic_store_explicit(&s->longest_ns, ns, memory_order_relaxed);
}

static void put_down(struct vcpu *vcpu, bool halted)
{
	const struct sampling *sampling = &vcpu->pool->sampling;
	struct sampler *s = vcpu->sampler;
	struct sample *sample = spsc_reserve(&s->ring);

	if (!sample) {
		count(&s->dropped);
		return;
	}
	memset(sample, 0, offsetof(struct sample, frame));
	sample->period = s->period;
	sample->weight = s->halted;
	sample->at_ns = now_ns();
	sample->halted = halted && arch_vcpu_halted_deaf(vcpu->sampled);
	if (halted && !sample->halted)
		sample->kind = SAMPLE_IDLE;
	else
		sampling->capture(vcpu->index, vcpu->sampled, sample, sampling->arg);
	spsc_publish(&s->ring);
	count(&s->taken);
}

void vcpu_sample_take(struct vcpu *vcpu)
{
	struct sampler *s = vcpu->sampler;
	uint64_t from;
	bool halted;
	int r;

	/* Cleared first: one that is due from now on is another one. */
	atomic_fetch_and_explicit(&vcpu->requests, ~(uint32_t)VCPU_REQ_SAMPLE,
				  memory_order_acq_rel);
	if (!s || !s->armed)
		return;
	from = now_ns();
	r = arch_vcpu_sample(vcpu->fd, vcpu->run, vcpu->pool->run_registers, vcpu->sampled);
	if (r < 0) {
		note_error(s, r);
		count(&s->dropped);
	} else {
		halted = arch_vcpu_idle(vcpu->sampled);
		put_down(vcpu, halted);
		s->halted = halted ? MIN(2 * s->halted, SAMPLE_HALTED_MAX) : 1;
	}
	note_cost(s, now_ns() - from);
	arm(vcpu);
}

/* ---- control thread ---------------------------------------------------------------------- */

static void tell_all(struct vcpu_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++) {
		/* Sequentially consistent, before the kick: pairs with the load in look. */
		atomic_fetch_or_explicit(&pool->vcpu[i].requests, VCPU_REQ_SAMPLER,
					 memory_order_seq_cst);
		vcpu_kick(&pool->vcpu[i]);
	}
}

int vcpu_pool_sample_init(struct vcpu_pool *pool, const struct sampling *sampling,
			  struct error *err)
{
	if (!pool->immediate_exit)
		return error_contention(err, "sampling: this host's KVM has no immediate exit");
	pool->samplers = aligned_alloc(CACHE_LINE, pool->count * sizeof(*pool->samplers));
	pool->sampled = calloc(pool->count, arch_vcpu_state_size);
	if (!pool->samplers || !pool->sampled) {
		vcpu_pool_sample_free(pool);
		return error_set_shortage(err, -ENOMEM, "making rings for samples");
	}
	pool->sampling = *sampling;
	for (unsigned i = 0; i < pool->count; i++) {
		struct sampler *s = &pool->samplers[i];

		/* Slots stay untouched until they are used. */
		memset(s, 0, offsetof(struct sampler, slot));
		spsc_init(&s->ring, s->slot, SAMPLE_RING, sizeof(s->slot[0]));
		pool->vcpu[i].sampler = s;
		pool->vcpu[i].sampled = (void *)((char *)pool->sampled + i * arch_vcpu_state_size);
	}
	return 0;
}

uint32_t vcpu_pool_sample_start(struct vcpu_pool *pool, uint64_t mean_ns)
{
	/* Relaxed: the control thread's own. Odd while it is on. */
	uint32_t period = atomic_load_explicit(&pool->sample_period, memory_order_relaxed) + 1;

	assert(period % 2 == 1 && pool->samplers && mean_ns >= NS_PER_S / SAMPLE_HZ_MAX);
	/* Relaxed: the period publishes it. */
	atomic_store_explicit(&pool->sample_mean_ns, mean_ns, memory_order_relaxed);
	/* Release: pairs with the acquire in vcpu_sampler_set. */
	atomic_store_explicit(&pool->sample_period, period, memory_order_release);
	tell_all(pool);
	return period;
}

void vcpu_pool_sample_stop(struct vcpu_pool *pool)
{
	uint32_t period = atomic_load_explicit(&pool->sample_period, memory_order_relaxed);

	if (period % 2 == 0)
		return;
	atomic_store_explicit(&pool->sample_period, period + 1, memory_order_release);
	tell_all(pool);
}

const struct sample *vcpu_sample_peek(struct vcpu *vcpu)
{
	return vcpu->sampler ? spsc_peek(&vcpu->sampler->ring) : NULL;
}

void vcpu_sample_release(struct vcpu *vcpu)
{
	spsc_release(&vcpu->sampler->ring);
}

uint64_t vcpu_samples_dropped(const struct vcpu *vcpu)
{
	return vcpu->sampler ? atomic_load_explicit(&vcpu->sampler->dropped, memory_order_relaxed)
			     : 0;
}

int vcpu_sample_error(const struct vcpu *vcpu, uint32_t period)
{
	uint64_t failure =
		vcpu->sampler ? atomic_load_explicit(&vcpu->sampler->failure, memory_order_relaxed)
			      : 0;

	return failure >> 32 == period ? -(int)(uint32_t)failure : 0;
}

void vcpu_sample_cost(const struct vcpu *vcpu, uint64_t *ret_all_ns, uint64_t *ret_longest_ns)
{
	const struct sampler *s = vcpu->sampler;

	*ret_all_ns = s ? atomic_load_explicit(&s->took_ns, memory_order_relaxed) : 0;
	*ret_longest_ns = s ? atomic_load_explicit(&s->longest_ns, memory_order_relaxed) : 0;
}

void vcpu_pool_sample_free(struct vcpu_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++)
		pool->vcpu[i].sampler = NULL;
	free(pool->samplers);
	free(pool->sampled);
	pool->samplers = NULL;
	pool->sampled = NULL;
}
