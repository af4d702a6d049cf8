/* The pool: makes, starts, stops and frees vCPUs. Control thread. */
#include "vcpu/pool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "vcpu/futex.h"
#include "vcpu/pin.h"

/* A vCPU thread needs a signal frame (up to 11 KiB with the widest vector state), the tables of
 * arch_vcpu_setup and one formatted message. Small, because a thousand of them are made. */
#if defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
#if SANITIZED
#define STACK_BYTES KIB(512)
#else
#define STACK_BYTES KIB(64)
#endif

/* ---- making ---------------------------------------------------------------------------- */

static void serve(struct vcpu_exits *from, const struct arch_exit *exit)
{
	struct vcpu *vcpu = container_of(from, struct vcpu, exits);
	const struct vcpu_pool_config *config = &vcpu->pool->config;

	if (exit->reason == VCPU_EXIT_FAILED)
		config->failed(vcpu, config->arg);
	else
		config->serve(vcpu, exit->wants_reply ? vcpu->run : NULL, exit, config->arg);
}

/* Before any is created, so that a refusal is quick and says what it is about. */
static int check_limits(const struct kvm *kvm, const struct vcpu_pool_config *config,
			struct error *err)
{
	if (config->count > kvm->max_vcpus)
		return error_contention(err, "%u vCPUs are more than the %u of this host's KVM",
					config->count, kvm->max_vcpus);
	for (unsigned i = 0; i < config->count; i++) {
		uint32_t id = arch_vcpu_id(config->topology, i);

		if (id >= kvm->max_vcpu_id)
			return error_contention(err,
						"vCPU %u has id %u in this topology, and this "
						"host's KVM takes ids below %u",
						i, id, kvm->max_vcpu_id);
	}
	return 0;
}

static int create(struct vcpu_pool *pool, const struct kvm *kvm, unsigned index, struct error *err)
{
	struct vcpu *vcpu = &pool->vcpu[index];
	void *run;
	int fd;

	vcpu->id = arch_vcpu_id(pool->config.topology, index);
	fd = kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu->id);
	if (fd < 0)
		return error_set_shortage(err, fd, "creating vCPU %u (id %u)", index, vcpu->id);
	vcpu->fd = fd;
	run = mmap(NULL, pool->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run == MAP_FAILED)
		return error_set_shortage(err, -errno, "mapping the run page of vCPU %u", index);
	vcpu->run = run;
	return 0;
}

/* The process's descriptor table grows at once by what the vCPUs will need: by itself it doubles
 * again and again, and the kernel waits for a grace period each time that threads (io_uring's
 * workers are some) share it. Only time is lost where it fails. */
static void grow_descriptor_table(int any_fd, unsigned more)
{
	int fd = fcntl(any_fd, F_DUPFD_CLOEXEC, any_fd + (int)more);

	if (fd >= 0)
		close(fd);
}

static int create_all(struct vcpu_pool *pool, struct loop *loop, const struct kvm *kvm,
		      struct error *err)
{
	int r = vcpu_exits_hub_init(&pool->hub, loop, pool->count, serve, err);

	if (r < 0)
		return r;
	pool->hub.may_spin = pin_may_spin(pool->count, pool->config.pin);
	loop_set_spin(loop, pool->hub.may_spin ? VCPU_EXITS_SPIN_NS : 0);
	r = vcpu_kick_install();
	if (r < 0)
		return error_set(err, r, "installing the handler of the kick signal");
	grow_descriptor_table(kvm->vm_fd, 2 * pool->count); /* each has two */
	for (unsigned i = 0; r == 0 && i < pool->count; i++)
		r = create(pool, kvm, i, err);
	return r;
}

/* Without vCPUs. NULL when out of memory. */
static struct vcpu_pool *allocate(const struct vcpu_pool_config *config)
{
	size_t pins = config->pin ? config->count * sizeof(*config->pin) : 0;
	struct vcpu_pool *pool = aligned_alloc(CACHE_LINE, sizeof(*pool));
	struct vcpu *vcpu = aligned_alloc(CACHE_LINE, config->count * sizeof(*vcpu));
	void *states = calloc(config->count, arch_vcpu_state_size);
	struct account *accounts = account_new(config->count);
	int *pin = pins ? malloc(pins) : NULL;

	if (!pool || !vcpu || !states || !accounts || (pins && !pin)) {
		free(pool);
		free(vcpu);
		free(states);
		account_free(accounts, config->count);
		free(pin);
		return NULL;
	}
	memset(pool, 0, sizeof(*pool));
	memset(vcpu, 0, config->count * sizeof(*vcpu));
	if (pins)
		memcpy(pin, config->pin, pins);
	pool->vcpu = vcpu;
	pool->states = states;
	pool->accounts = accounts;
	pool->count = config->count;
	pool->config = *config;
	pool->config.pin = pin;
	for (unsigned i = 0; i < pool->count; i++) {
		vcpu[i].index = i;
		vcpu[i].fd = -1;
		atomic_init(&vcpu[i].stats_fd, -1);
		vcpu[i].pool = pool;
		vcpu[i].state = (void *)((char *)states + i * arch_vcpu_state_size);
		vcpu[i].account = account_of(accounts, i);
		vcpu_exits_init(&vcpu[i].exits, &pool->hub);
		vcpu[i].exits.account = vcpu[i].account;
	}
	return pool;
}

int vcpu_pool_new(struct loop *loop, struct kvm *kvm, const struct vcpu_pool_config *config,
		  struct vcpu_pool **ret_pool, struct error *err)
{
	struct vcpu_pool *pool;
	int r;

	assert(config->count > 0);
	r = check_limits(kvm, config, err);
	if (r < 0)
		return r;
	pool = allocate(config);
	if (!pool)
		return error_set_shortage(err, -ENOMEM, "making %u vCPUs", config->count);
	pool->immediate_exit = kvm->immediate_exit;
	pool->run_size = kvm->run_size;
	pool->run_registers = arch_run_registers(kvm);
	r = create_all(pool, loop, kvm, err);
	if (r < 0) {
		vcpu_pool_free(pool);
		return r;
	}
	*ret_pool = pool;
	return 0;
}

/* ---- starting -------------------------------------------------------------------------- */

/* Every signal but those that a fault raises: blocked, they would kill without a trace. */
static void signals_block(sigset_t *ret_old)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(&set, faults[i]);
	pthread_sigmask(SIG_SETMASK, &set, ret_old);
}

static int create_threads(struct vcpu_pool *pool, struct error *err)
{
	size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN) + KIB(16);
	pthread_attr_t attr;
	sigset_t old;
	int r;

	r = pthread_attr_init(&attr);
	if (r)
		return error_set_shortage(err, -r, "starting vCPU threads");
	pthread_attr_setstacksize(&attr, MAX(STACK_BYTES, ALIGN_UP(least, KIB(4))));
	/* Threads inherit the mask: no window in which another's signal can land on one. */
	signals_block(&old);
	for (unsigned i = 0; i < pool->count && r == 0; i++) {
		struct vcpu *vcpu = &pool->vcpu[i];

		r = pthread_create(&vcpu->thread, &attr, vcpu_thread, vcpu);
		if (r)
			error_set_shortage(err, -r, "starting the thread of vCPU %u", i);
		else
			vcpu->started = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

void vcpu_gate_open(struct vcpu_pool *pool)
{
	/* Release: pairs with the acquire in vcpu_thread. One call; nobody takes a lock after it.
	 */
	atomic_store_explicit(&pool->gate, VCPU_GATE_OPEN, memory_order_release);
	futex_wake(&pool->gate, INT_MAX);
}

/* Waits until every thread is set up; the first error of theirs. */
static int all_set_up(struct vcpu_pool *pool, struct error *err)
{
	uint64_t limit_ns = pool->config.set_up_limit_ns, end_ns = now_ns() + limit_ns;
	uint32_t left, failed;

	/* Acquire: pairs with the release in ready. */
	while ((left = atomic_load_explicit(&pool->unready, memory_order_acquire)) > 0) {
		uint64_t now = now_ns();

		if (!limit_ns)
			futex_wait(&pool->unready, left);
		else if (now < end_ns)
			futex_wait_for(&pool->unready, left, end_ns - now);
		else
			return error_set(err, -ETIMEDOUT,
					 "setting up vCPUs: %u are not within %llu ms", left,
					 (unsigned long long)(limit_ns / 1000000));
	}
	/* Relaxed: ordered by unready. Only who failed here has ended; others may run and fail. */
	failed = atomic_load_explicit(&pool->first_failed, memory_order_relaxed);
	if (failed > 0) {
		const struct error *error = &pool->vcpu[failed - 1].error;

		if (err && err->code == 0)
			*err = *error;
		return error->code;
	}
	return 0;
}

int vcpu_pool_start(struct vcpu_pool *pool, struct arch_vm *vm, struct error *err)
{
	int r;

	assert(!pool->stopped && !pool->vcpu[0].started);
	pool->vm = vm;
	atomic_store_explicit(&pool->unready, pool->count, memory_order_relaxed);
	r = create_threads(pool, err);
	if (r == 0)
		r = all_set_up(pool, err);
	if (r == 0 && pool->config.all_set_up) {
		r = pool->config.all_set_up(pool->config.arg, err);
		if (r == 0)
			vcpu_gate_open(pool);
	}
	if (r < 0)
		vcpu_pool_stop(pool);
	return r;
}

/* ---- stopping -------------------------------------------------------------------------- */

void vcpu_pool_stop(struct vcpu_pool *pool)
{
	if (pool->stopped)
		return;
	pool->stopped = true;
	vcpu_exits_hub_close(&pool->hub);
	/* All requests and kicks first, so that the threads end side by side. */
	for (unsigned i = 0; i < pool->count; i++) {
		struct vcpu *vcpu = &pool->vcpu[i];

		/* Sequentially consistent, before the kick: pairs with the load in look. */
		atomic_fetch_or_explicit(&vcpu->requests, VCPU_REQ_STOP, memory_order_seq_cst);
		vcpu_kick(vcpu);
		vcpu_exits_release(&vcpu->exits);
	}
	vcpu_gate_open(pool);
	/* After the requests: who is let go sees them. */
	vcpu_pool_unpark(pool);
	for (unsigned i = 0; i < pool->count; i++) {
		if (pool->vcpu[i].started)
			pthread_join(pool->vcpu[i].thread, NULL);
		pool->vcpu[i].started = false;
	}
}

void vcpu_pool_free(struct vcpu_pool *pool)
{
	if (!pool)
		return;
	vcpu_pool_stop(pool);
	vcpu_exits_hub_done(&pool->hub);
	for (unsigned i = 0; i < pool->count; i++) {
		struct vcpu *vcpu = &pool->vcpu[i];
		int stats_fd;

		if (vcpu->run)
			munmap(vcpu->run, pool->run_size);
		stats_fd = atomic_load_explicit(&vcpu->stats_fd, memory_order_relaxed);
		fd_close(&stats_fd);
		fd_close(&vcpu->fd);
	}
	vcpu_pool_sample_free(pool);
	free(pool->states);
	account_free(pool->accounts, pool->count);
	free((int *)pool->config.pin);
	free(pool->vcpu);
	free(pool);
}

unsigned vcpu_pool_count(const struct vcpu_pool *pool)
{
	return pool->count;
}

struct vcpu *vcpu_pool_get(struct vcpu_pool *pool, unsigned index)
{
	assert(index < pool->count);
	return &pool->vcpu[index];
}
