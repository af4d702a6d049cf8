/* A vCPU's thread: set-up, the run loop around KVM_RUN, and the kick that ends KVM_RUN.
 * vcpu_kick is the control thread's; everything else runs on the vCPU thread. */
#include "vcpu/vcpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vcpu/futex.h"
#include "vcpu/pin.h"
#include "vcpu/pool.h"

/* Bytes of the kernel's sigset: one bit per signal, the first is signal 1. */
#define KERNEL_SIGSET 8

/* ---- the kick -------------------------------------------------------------------------- */

/* Being there is enough for a kick: the signal ends KVM_RUN. It may be a sampler's timer's. */
static void on_kick(int signo UNUSED)
{
	vcpu_sample_signal();
}

int vcpu_kick_install(void)
{
	struct sigaction action = {.sa_handler = on_kick}; /* no SA_RESTART */

	sigemptyset(&action.sa_mask);
	return sigaction(VCPU_KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

void vcpu_kick(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	/* Sequentially consistent, after the request: pairs with the clear in look. KVM looks
	 * at it in KVM_RUN, so a kick that the vCPU thread's look at its requests has missed is
	 * not lost before entry; the signal ends a KVM_RUN that is past it. */
	if (vcpu->pool->immediate_exit)
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(vcpu->thread, VCPU_KICK_SIGNAL);
}

void vcpu_nmi(struct vcpu *vcpu)
{
	/* Sequentially consistent, before the kick: pairs with the load in look. */
	atomic_fetch_or_explicit(&vcpu->requests, VCPU_REQ_NMI, memory_order_seq_cst);
	vcpu_kick(vcpu);
}

/* With immediate_exit the handler takes the signal wherever it lands. Without, it stays blocked
 * but within KVM_RUN, so that it can't be taken between the look at the requests and KVM_RUN. */
static int kick_accept(struct vcpu *vcpu)
{
	struct { /* struct kvm_signal_mask with its array's length */
		uint32_t len;
		uint8_t sigset[KERNEL_SIGSET];
	} mask = {.len = KERNEL_SIGSET};
	sigset_t set;

	if (vcpu->pool->immediate_exit) {
		sigemptyset(&set);
		sigaddset(&set, VCPU_KICK_SIGNAL);
		return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	}
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	sigdelset(&set, VCPU_KICK_SIGNAL);
	memcpy(mask.sigset, &set, KERNEL_SIGSET); /* glibc's set begins with the kernel's */
	return ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask) < 0 ? -errno : 0;
}

/* A vCPU's own thread alone may inject it. */
static void inject_nmi(struct vcpu *vcpu)
{
	/* Cleared first: one that is asked for from now on is another one. */
	atomic_fetch_and_explicit(&vcpu->requests, ~(uint32_t)VCPU_REQ_NMI, memory_order_acq_rel);
	if (ioctl(vcpu->fd, KVM_NMI) < 0)
		log_warn("injecting an NMI into vCPU %u: %s", vcpu->index, strerror(errno));
}

/* Forgets kicks so far, then looks for what they were about: enum vcpu_request. */
static uint32_t look(struct vcpu *vcpu)
{
	uint32_t requests;

	if (vcpu->pool->immediate_exit) {
		/* Clear, then look: pairs with request, then set in vcpu_kick. */
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	} else {
		const struct timespec now = {0};
		sigset_t kick;

		sigemptyset(&kick);
		sigaddset(&kick, VCPU_KICK_SIGNAL);
		while (sigtimedwait(&kick, NULL, &now) > 0)
			;
	}
	requests = atomic_load_explicit(&vcpu->requests, memory_order_seq_cst);
	if (unlikely(requests & VCPU_REQ_NMI))
		inject_nmi(vcpu);
	if (unlikely(requests & VCPU_REQ_WATCH))
		vcpu_watch_arm(vcpu);
	if (unlikely(requests & VCPU_REQ_SAMPLER))
		vcpu_sampler_set(vcpu);
	/* Release: who sees it cleared sees what this thread did before. */
	if (requests & VCPU_REQ_LOOK)
		atomic_fetch_and_explicit(&vcpu->requests, ~(uint32_t)VCPU_REQ_LOOK,
					  memory_order_acq_rel);
	return requests;
}

/* ---- the run loop ---------------------------------------------------------------------- */

/* Relaxed, and no read-modify-write: one writer; readers want a recent value only. */
static void count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static void hand_off(struct vcpu *vcpu)
{
	struct vcpu_stats *stats = &vcpu->stats;
	const size_t other = ARRAY_SIZE(stats->by_reason) - 1;
	struct arch_exit exit = {0};

	account_exit(vcpu->account, vcpu->run);
	arch_exit_capture(vcpu->run, &exit);
	count(&stats->exits);
	count(&stats->by_reason[MIN(exit.reason, other)]);
	if (unlikely(exit.reason == KVM_EXIT_DEBUG)) {
		exit.addr = vcpu_watch_exit(vcpu);
		if (!exit.addr) {
			account_return(vcpu->account, ticks_now(), 0, 0);
			return;
		}
	}
	switch (vcpu_exits_post(&vcpu->exits, &exit)) {
	case VCPU_EXITS_WENT_ON:
		count(&stats->posted);
		break;
	case VCPU_EXITS_SLEPT:
		count(&stats->slept);
		count(&stats->handed_off);
		break;
	case VCPU_EXITS_WAITED:
		count(&stats->handed_off);
		break;
	}
	account_return(vcpu->account, vcpu->exits.seen, vcpu->exits.served_from,
		       vcpu->exits.served_to);
}

/* The last post of this vCPU: in order after its exits. */
static void post_failure(struct vcpu *vcpu)
{
	const struct arch_exit exit = {.reason = VCPU_EXIT_FAILED};

	vcpu->account->key = ACCOUNT_KEYS; /* no exit of the guest's */
	vcpu_exits_post(&vcpu->exits, &exit);
}

/* What one KVM_RUN came to. */
enum ran { RAN_EXITED, RAN_INTERRUPTED, RAN_FAILED };

static enum ran run_once(struct vcpu *vcpu)
{
	arch_run_forget(vcpu->run);
	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
		hand_off(vcpu);
		return RAN_EXITED;
	}
	if (errno == EINTR || errno == EAGAIN) {
		/* EAGAIN: it was woken while it waited for its start-up IPI; arm64 just runs. */
		bool woken = errno == EAGAIN;

		if (unlikely(!vcpu->account->has_run) && !woken && !arch_vcpu_unstarted(vcpu->fd))
			account_found_running(vcpu->account);
		account_interrupted(vcpu->account, woken);
		if (!woken)
			count(&vcpu->stats.kicked);
		return RAN_INTERRUPTED;
	}
	error_set_shortage(&vcpu->error, -errno, "running vCPU %u (KVM's exit reason %u)",
			   vcpu->index, vcpu->run->exit_reason);
	post_failure(vcpu);
	return RAN_FAILED;
}

/* KVM completes an exit's PIO or MMIO on the next entry: enters without running the guest, until
 * nothing is left (an access that crosses pages is several exits). */
static enum ran complete(struct vcpu *vcpu)
{
	enum ran ran;

	do {
		if (vcpu->pool->immediate_exit)
			__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		else
			pthread_kill(vcpu->thread, VCPU_KICK_SIGNAL);
		ran = run_once(vcpu);
	} while (ran == RAN_EXITED);
	return ran;
}

/* On this thread, because the call waits while the vCPU runs; not before it ran, because it takes
 * time that the machine's start does not need. */
static void open_stats(struct vcpu *vcpu)
{
	vcpu->stats_asked = true;
	/* Relaxed: a descriptor's number is all that is told. */
	atomic_store_explicit(&vcpu->stats_fd, ioctl(vcpu->fd, KVM_GET_STATS_FD),
			      memory_order_relaxed);
}

static void park(struct vcpu *vcpu)
{
	account_park(vcpu->account);
	vcpu_sampler_park(vcpu);
	vcpu_park(vcpu);
	vcpu_sampler_unpark(vcpu);
	account_unpark(vcpu->account);
}

static void take_sample(struct vcpu *vcpu)
{
	account_aside(vcpu->account);
	vcpu_sample_take(vcpu);
	account_back(vcpu->account);
}

static void run(struct vcpu *vcpu)
{
	enum ran ran = RAN_INTERRUPTED;
	uint32_t requests;

	/* One that is restored may have been started long ago. */
	account_begin(vcpu->account, vcpu->index == 0 || (vcpu->pool->config.set_up &&
							  !arch_vcpu_unstarted(vcpu->fd)));
	while (ran != RAN_FAILED && !((requests = look(vcpu)) & VCPU_REQ_STOP)) {
		if (likely(!(requests & (VCPU_REQ_PARK | VCPU_REQ_SAMPLE))))
			ran = run_once(vcpu);
		else if (ran == RAN_EXITED)
			ran = complete(vcpu);
		else if (requests & VCPU_REQ_PARK)
			park(vcpu);
		else
			take_sample(vcpu);
		if (unlikely(!vcpu->stats_asked))
			open_stats(vcpu);
	}
	account_end(vcpu->account);
	vcpu_sampler_end(vcpu);
}

/* ---- the thread ------------------------------------------------------------------------ */

static int set_up(struct vcpu *vcpu)
{
	const struct vcpu_pool_config *config = &vcpu->pool->config;
	int r, cpu = vcpu_pin_of(vcpu);
	char name[16];

	vcpu->tid = gettid();
	snprintf(name, sizeof(name), "vcpu/%u", vcpu->index);
	/* A name is for people only. */
	(void)pthread_setname_np(pthread_self(), name);
	/* First, so that what KVM allocates for it lies near. */
	r = cpu < 0 ? 0 : pin_self(cpu, &vcpu->error);
	if (r == 0)
		r = config->set_up
			    ? config->set_up(vcpu, config->arg, &vcpu->error)
			    : arch_vcpu_setup(vcpu->pool->vm, vcpu->index, vcpu->fd, &vcpu->error);
	if (r == 0) {
		r = kick_accept(vcpu);
		if (r < 0)
			error_set(&vcpu->error, r, "setting up the kick signal of vCPU %u",
				  vcpu->index);
	}
	return r;
}

/* The last to be ready lets all go, unless somebody has a word to say before. */
static void ready(struct vcpu *vcpu, int result)
{
	struct vcpu_pool *pool = vcpu->pool;
	uint32_t none = 0;

	/* Relaxed: ordered by the step below. */
	if (result < 0)
		atomic_compare_exchange_strong_explicit(&pool->first_failed, &none, vcpu->index + 1,
							memory_order_relaxed, memory_order_relaxed);
	/* Release: vcpu_pool_start, and the last one, see the error. One wake-up, by the last. */
	if (atomic_fetch_sub_explicit(&pool->unready, 1, memory_order_acq_rel) != 1)
		return;
	if (!pool->config.all_set_up &&
	    !atomic_load_explicit(&pool->first_failed, memory_order_relaxed))
		vcpu_gate_open(pool);
	futex_wake(&pool->unready, 1);
}

static bool waits_in_kvm(const struct vcpu *vcpu)
{
	return !vcpu->pool->config.set_up && arch_vcpu_waits(vcpu->index);
}

void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vcpu_pool *pool = vcpu->pool;
	int r = set_up(vcpu);

	if (r < 0)
		error_set(&vcpu->error, r, "setting up vCPU %u", vcpu->index);
	ready(vcpu, r);
	if (r < 0)
		return NULL;
	/* Acquire: pairs with the release in vcpu_gate_open. */
	while (!waits_in_kvm(vcpu) &&
	       atomic_load_explicit(&pool->gate, memory_order_acquire) == VCPU_GATE_SHUT)
		futex_wait(&pool->gate, VCPU_GATE_SHUT);
	run(vcpu);
	return NULL;
}
