/* Accounts of exits: what each vCPU's time went into. See account.h for whose thread does what. */
#include "vcpu/account.h"

#include <sys/mman.h>

#define PAGE_BYTES 4096u

/* ---- making ---------------------------------------------------------------------------- */

static size_t account_bytes(unsigned count)
{
	return count * ALIGN_UP(sizeof(struct account), (size_t)PAGE_BYTES);
}

struct account *account_of(struct account *accounts, unsigned index)
{
	return (void *)((char *)accounts + account_bytes(index));
}

struct account *account_new(unsigned count)
{
	void *accounts = mmap(NULL, account_bytes(count), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return accounts == MAP_FAILED ? NULL : accounts;
}

void account_free(struct account *accounts, unsigned count)
{
	if (accounts)
		munmap(accounts, account_bytes(count));
}

/* ---- vCPU thread: times ---------------------------------------------------------------- */

static uint64_t get(const _Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

/* Between clock_open and clock_close. Release: who sees this value sees the odd seq before it, by
 * the acquire in account_times. */
static void put(_Atomic uint64_t *to, uint64_t value)
{
	atomic_store_explicit(to, value, memory_order_release);
}

static void clock_open(struct account_clock *c)
{
	/* Relaxed: the stores that follow are releases. */
	uint32_t seq = atomic_load_explicit(&c->seq, memory_order_relaxed);

	atomic_store_explicit(&c->seq, seq + 1, memory_order_relaxed);
}

static void clock_close(struct account_clock *c)
{
	uint32_t seq = atomic_load_explicit(&c->seq, memory_order_relaxed);

	/* Release: pairs with the first look in account_times. */
	atomic_store_explicit(&c->seq, seq + 1, memory_order_release);
}

static void spend(struct account_clock *c, enum account_phase phase, uint64_t ticks)
{
	put(&c->spent[phase], get(&c->spent[phase]) + ticks);
}

/* From now on in phase; what was spent so far has been put down. */
static void enter(struct account_clock *c, enum account_phase phase, uint64_t now)
{
	atomic_store_explicit(&c->phase, phase, memory_order_release); /* as put */
	put(&c->since, now);
}

/* The phase that it is in ends now, and counts as was. Returns how long it took. */
static uint64_t move(struct account *a, enum account_phase was, enum account_phase phase,
		     uint64_t now)
{
	struct account_clock *c = &a->clock;
	uint64_t ticks = ticks_between(get(&c->since), now);

	clock_open(c);
	spend(c, was, ticks);
	enter(c, phase, now);
	clock_close(c);
	return ticks;
}

static enum account_phase phase_of(const struct account *a)
{
	return atomic_load_explicit(&a->clock.phase, memory_order_relaxed);
}

/* ---- vCPU thread: keys ----------------------------------------------------------------- */

/* linux/kvm.h, struct kvm_run: these members are the same on every architecture. */
static struct account_key key_of(const struct kvm_run *run)
{
	struct account_key key = {.reason = run->exit_reason};

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		key.addr = run->io.port;
		key.access = run->io.direction == KVM_EXIT_IO_OUT ? ACCOUNT_WRITE : ACCOUNT_READ;
		break;
	case KVM_EXIT_MMIO:
		key.addr = run->mmio.phys_addr;
		key.access = run->mmio.is_write ? ACCOUNT_WRITE : ACCOUNT_READ;
		break;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		key.addr = run->msr.index;
		key.access = run->exit_reason == KVM_EXIT_X86_RDMSR ? ACCOUNT_READ : ACCOUNT_WRITE;
		break;
	case KVM_EXIT_HYPERCALL:
		key.addr = run->hypercall.nr;
		key.access = ACCOUNT_EVENT;
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		key.addr = run->system_event.type;
		key.access = ACCOUNT_EVENT;
		break;
	default:
		break;
	}
	return key;
}

static bool same(const struct account_key *a, const struct account_key *b)
{
	return a->addr == b->addr && a->reason == b->reason && a->access == b->access;
}

/* Where key is in slot, or the free place where it would be. There is always a free one: slots are
 * twice as many as keys. */
static unsigned find(const struct account *a, const struct account_key *key)
{
	/* Knuth, The Art of Computer Programming 3, 6.4: the golden ratio spreads neighbours. */
	uint64_t hash = (key->addr * 4 + key->access + ((uint64_t)key->reason << 48)) *
			UINT64_C(0x9e3779b97f4a7c15);
	unsigned at = (unsigned)(hash >> 32) % ACCOUNT_KEY_SLOTS;

	while (a->slot[at] && !same(&a->exit[a->slot[at] - 1].key, key))
		at = (at + 1) % ACCOUNT_KEY_SLOTS;
	return at;
}

static uint16_t add_key(struct account *a, unsigned at, const struct account_key *key)
{
	uint32_t n = atomic_load_explicit(&a->keys, memory_order_relaxed);

	a->exit[n].key = *key;
	a->slot[at] = (uint8_t)(n + 1);
	/* Release: pairs with the acquire of who reads keys. */
	atomic_store_explicit(&a->keys, n + 1, memory_order_release);
	return (uint16_t)n;
}

static uint16_t key_index(struct account *a, struct account_key key)
{
	uint32_t n = atomic_load_explicit(&a->keys, memory_order_relaxed);
	unsigned at = find(a, &key);

	if (likely(a->slot[at]))
		return (uint16_t)(a->slot[at] - 1);
	if (n >= ACCOUNT_KEYS_ADDR && key.access != ACCOUNT_NO_ADDRESS) {
		key = (struct account_key){.reason = key.reason};
		at = find(a, &key);
	}
	if (!a->slot[at] && n >= ACCOUNT_KEYS - 1) {
		key = (struct account_key){.reason = ACCOUNT_ANY};
		at = find(a, &key);
	}
	return a->slot[at] ? (uint16_t)(a->slot[at] - 1) : add_key(a, at, &key);
}

/* ---- vCPU thread: edges ---------------------------------------------------------------- */

void account_begin(struct account *a, bool runs_at_once)
{
	struct account_clock *c = &a->clock;
	uint64_t now = ticks_now();

	histogram_pool_init(&a->exit_pool, a->exit_steps, ACCOUNT_POOL_CHUNKS);
	a->has_run = runs_at_once;
	a->in_guest = UINT64_MAX;
	a->key = a->done_key = ACCOUNT_KEYS;
	clock_open(c);
	put(&c->began, now);
	enter(c, runs_at_once ? ACCOUNT_GUEST : ACCOUNT_IDLE, now);
	clock_close(c);
}

/* Out of the guest, for what key says, and now in phase. */
static void left(struct account *a, struct account_key key, enum account_phase phase)
{
	a->left = ticks_now();
	a->has_run = true;
	a->in_guest = move(a, ACCOUNT_GUEST, phase, a->left);
	if (same(&key, &a->last) && a->key < ACCOUNT_KEYS)
		return;
	a->key = key_index(a, key);
	a->last = key;
}

/* Relaxed: one writer; readers want a recent value only. */
static void put_done(struct account *a)
{
	struct account_exit *e;

	if (a->done_key == ACCOUNT_KEYS)
		return;
	e = &a->exit[a->done_key];
	atomic_store_explicit(&e->waited, get(&e->waited) + a->done_waited, memory_order_relaxed);
	histogram_add(&e->hand_off, &a->exit_pool, a->done_hand_off);
	a->done_key = ACCOUNT_KEYS;
}

void account_put(struct account *a)
{
	struct account_exit *e;

	put_done(a);
	if (a->in_guest == UINT64_MAX)
		return;
	e = &a->exit[a->key];
	/* Relaxed: one writer; readers want a recent value only. */
	atomic_store_explicit(&e->count, get(&e->count) + 1, memory_order_relaxed);
	histogram_add(&e->guest, &a->exit_pool, a->in_guest);
	a->in_guest = UINT64_MAX;
}

void account_found_running(struct account *a)
{
	struct account_clock *c = &a->clock;

	a->has_run = true;
	clock_open(c);
	enter(c, ACCOUNT_GUEST, get(&c->since));
	clock_close(c);
}

void account_exit(struct account *a, const struct kvm_run *run)
{
	left(a, key_of(run), ACCOUNT_HAND_OFF);
}

void account_interrupted(struct account *a, bool woken)
{
	/* Until it runs, a kick does not tell whether it was started meanwhile. */
	if (woken || !a->has_run) {
		a->has_run = a->has_run || woken;
		move(a, ACCOUNT_IDLE, woken ? ACCOUNT_GUEST : ACCOUNT_IDLE, ticks_now());
		return;
	}
	/* One reading: the way back, or to a park, is short. */
	left(a, (struct account_key){.reason = KVM_EXIT_INTR}, ACCOUNT_GUEST);
	account_put(a);
}

void account_waits(struct account *a, uint64_t now)
{
	move(a, ACCOUNT_HAND_OFF, ACCOUNT_WAITING, now);
}

void account_return(struct account *a, uint64_t now, uint64_t served_from, uint64_t served_to)
{
	struct account_clock *c = &a->clock;
	uint64_t posted, waiting, served = 0, behind;

	if (a->in_guest != UINT64_MAX)
		account_put(a);
	a->done_key = a->key;
	if (phase_of(a) != ACCOUNT_WAITING) {
		a->done_hand_off = move(a, ACCOUNT_HAND_OFF, ACCOUNT_GUEST, now);
		a->done_waited = 0;
		return;
	}
	posted = get(&c->since);
	waiting = ticks_between(posted, now);
	if (served_from >= posted && served_to >= served_from && served_to <= now) {
		waiting = served_from - posted;
		served = served_to - served_from;
	}
	behind = ticks_between(posted + waiting + served, now);
	clock_open(c);
	spend(c, ACCOUNT_WAITING, waiting);
	spend(c, ACCOUNT_SERVED, served);
	spend(c, ACCOUNT_HAND_OFF, behind);
	enter(c, ACCOUNT_GUEST, now);
	clock_close(c);
	a->done_waited = waiting + served;
	a->done_hand_off = ticks_between(a->left, posted) + behind;
}

void account_aside(struct account *a)
{
	move(a, phase_of(a), ACCOUNT_SAMPLED, ticks_now());
}

void account_back(struct account *a)
{
	move(a, ACCOUNT_SAMPLED, a->has_run ? ACCOUNT_GUEST : ACCOUNT_IDLE, ticks_now());
}

void account_park(struct account *a)
{
	account_put(a);
	move(a, phase_of(a), ACCOUNT_PARKED, ticks_now());
}

void account_unpark(struct account *a)
{
	move(a, ACCOUNT_PARKED, a->has_run ? ACCOUNT_GUEST : ACCOUNT_IDLE, ticks_now());
}

void account_end(struct account *a)
{
	account_put(a);
	move(a, phase_of(a), ACCOUNT_ENDED, ticks_now());
}

/* ---- control thread -------------------------------------------------------------------- */

void account_served(struct account *a, unsigned key, uint64_t posted, uint64_t from, uint64_t to)
{
	struct account_service *s;

	if (unlikely(key >= ACCOUNT_KEYS))
		return;
	s = &a->service[key];
	if (unlikely(!a->service_pool.memory))
		histogram_pool_init(&a->service_pool, a->service_steps, ACCOUNT_POOL_CHUNKS);
	histogram_add(&s->waiting, &a->service_pool, ticks_between(posted, from));
	histogram_add(&s->served, &a->service_pool, ticks_between(from, to));
}

/* ---- any thread ------------------------------------------------------------------------ */

static void read_times(const struct account_clock *c, uint64_t *ret_began, uint64_t *ret_since,
		       uint32_t *ret_phase, uint64_t spent[ACCOUNT_PHASES])
{
	/* Acquire, all: a value of a write under way brings that write's odd seq with it, so the
	 * second look differs. */
	*ret_began = atomic_load_explicit(&c->began, memory_order_acquire);
	*ret_since = atomic_load_explicit(&c->since, memory_order_acquire);
	*ret_phase = atomic_load_explicit(&c->phase, memory_order_acquire);
	for (unsigned i = 0; i < ACCOUNT_PHASES; i++)
		spent[i] = atomic_load_explicit(&c->spent[i], memory_order_acquire);
}

void account_times(const struct account *a, struct account_times *ret_times)
{
	const struct account_clock *c = &a->clock;
	uint64_t began, since, now;
	struct account_times t;
	uint32_t seq, phase;

	do {
		/* Acquire: pairs with clock_close. */
		seq = atomic_load_explicit(&c->seq, memory_order_acquire);
		read_times(c, &began, &since, &phase, t.spent);
	} while (seq % 2 || atomic_load_explicit(&c->seq, memory_order_relaxed) != seq);
	now = phase < ACCOUNT_PHASES ? ticks_now() : since;
	if (phase < ACCOUNT_PHASES && began)
		t.spent[phase] += ticks_between(since, now);
	t.wall = began ? ticks_between(began, now) : 0;
	*ret_times = t;
}
