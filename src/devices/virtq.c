/* The device's side of a split virtqueue: takes chains of descriptors out of the guest's memory
 * and gives them back. Control thread. Whatever is read from a ring is copied once, then checked;
 * the driver at the other end (Linux: drivers/virtio/virtio_ring.c) may be hostile. */
#include "devices/virtq.h"

#include <assert.h>
#include <errno.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are read as they lie in memory");

#define DESC_F_NEXT	1u
#define DESC_F_WRITE	2u
#define DESC_F_INDIRECT 4u

#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY     1u

/* 2.7.5.1: no chain is longer than this. */
#define CHAIN_MAX_BYTES GIB(4)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* Both rings begin with flags and idx; the avail ring's entries are 2 bytes, the used ring's 8,
 * and each ends with the other side's event index. */
struct used_elem {
	uint32_t id, len;
};

struct avail_ring {
	uint16_t flags, idx, ring[];
};

struct used_ring {
	uint16_t flags, idx;
	struct used_elem ring[];
};

struct rings {
	const uint8_t *desc;
	struct avail_ring *avail;
	struct used_ring *used;
};

/* The rings' words that both sides look at while the other writes. The order of a store here before
 * a load there, which suppression needs, comes from both being seq_cst: a full barrier's effect
 * that thread sanitizers understand, too. */
static uint16_t load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

static int map(const struct virtq *q, struct rings *ret)
{
	uint64_t size = q->size;

	if (!size || (size & (size - 1)) || size > q->max_size || size > VIRTQ_MAX_SIZE)
		return -EINVAL;
	if ((q->desc_gpa & 15) || (q->avail_gpa & 1) || (q->used_gpa & 3))
		return -EINVAL;

	struct rings r = {
		.desc = guest_ptr(q->mem, q->desc_gpa, 16 * size),
		.avail = guest_ptr(q->mem, q->avail_gpa, 6 + 2 * size),
		.used = guest_ptr(q->mem, q->used_gpa, 6 + 8 * size),
	};
	if (!r.desc || !r.avail || !r.used)
		return -EFAULT;
	*ret = r;
	return 0;
}

int virtq_check(const struct virtq *q)
{
	struct rings r;

	return map(q, &r);
}

int virtq_start(struct virtq *q)
{
	int rc = virtq_check(q);

	if (rc < 0)
		return rc;
	if (q->in_flight)
		return -EBUSY;
	q->next_avail = q->next_used = q->signalled = 0;
	q->signalled_valid = true;
	q->notify_off = q->polled = false;
	q->ready = true;
	return 0;
}

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){.mem = q->mem, .max_size = q->max_size};
}

static bool busy(const struct virtq *q, uint16_t head)
{
	return q->busy[head / 64] >> (head % 64) & 1;
}

static void set_busy(struct virtq *q, uint16_t head, bool on)
{
	if (on)
		q->busy[head / 64] |= 1ull << (head % 64);
	else
		q->busy[head / 64] &= ~(1ull << (head % 64));
}

/* Entry i of a table. The table need not be aligned: indirect ones are where the driver likes. */
static struct desc fetch(const uint8_t *table, uint32_t i)
{
	struct desc d;

	memcpy(&d, table + (size_t)i * sizeof(d), sizeof(d));
	/* The copy is what gets checked: the compiler may not read the guest's bytes again. */
	__asm__ volatile("" ::: "memory");
	return d;
}

static int add_segment(const struct virtq *q, struct virtq_chain *c, const struct desc *d)
{
	bool writable = d->flags & DESC_F_WRITE;

	/* 2.7.4.2: readable ones come first. */
	if (!writable && c->in)
		return -EINVAL;
	/* Nothing forbids an empty segment, and it has no bytes that could lie anywhere. */
	if (!d->len)
		return 0;
	if (c->out_bytes + c->in_bytes + d->len > CHAIN_MAX_BYTES)
		return -EINVAL;

	void *p = guest_ptr(q->mem, d->addr, d->len);
	if (!p)
		return -EFAULT;
	c->iov[c->out + c->in] = (struct iovec){.iov_base = p, .iov_len = d->len};
	if (writable) {
		c->in++;
		c->in_bytes += d->len;
	} else {
		c->out++;
		c->out_bytes += d->len;
	}
	return 0;
}

/* Follows the chain from entry i of the ring's table, and once into an indirect one. */
static int walk(const struct virtq *q, const uint8_t *table, uint32_t i, struct virtq_chain *c)
{
	uint32_t entries = q->size;
	unsigned steps = 0;
	bool inside = false;

	for (;;) {
		struct desc d = fetch(table, i);

		if (d.flags & DESC_F_INDIRECT) {
			/* 2.7.5.3.1: negotiated, not nested, last of its table, whole entries. What
			 * WRITE says here is to be ignored (2.7.5.3.2). */
			if (!q->indirect || inside || (d.flags & DESC_F_NEXT))
				return -EINVAL;
			if (!d.len || d.len % sizeof(d))
				return -EINVAL;
			table = guest_ptr(q->mem, d.addr, d.len);
			if (!table)
				return -EFAULT;
			entries = d.len / (uint32_t)sizeof(d);
			inside = true;
			i = 0;
			continue;
		}
		/* Longer than the queue, which is forbidden with indirect tables as well
		 * (2.7.5.3.1); a loop ends here too. It also bounds iov[]. */
		if (++steps > q->size)
			return -ELOOP;

		int rc = add_segment(q, c, &d);
		if (rc < 0)
			return rc;
		if (!(d.flags & DESC_F_NEXT))
			return 0;
		if (d.next >= entries)
			return -EINVAL;
		i = d.next;
	}
}

/* Chains offered and not popped, or -EINVAL when the index can't be. */
static int pending(const struct virtq *q, const struct rings *r)
{
	/* Seq_cst: acquire pairs with the write barrier before the driver's store of idx
	 * (virtqueue_add_split), so that the entries and descriptors are read after it; and it
	 * comes after the store in notify_enable. */
	uint16_t idx = load16(&r->avail->idx);
	uint16_t n = (uint16_t)(idx - q->next_avail);

	return n > q->size ? -EINVAL : n;
}

static void notify_suppress(struct virtq *q, const struct rings *r)
{
	/* With the event index, avail_event lies behind as it is. */
	if (q->event_idx || q->notify_off)
		return;
	store16(&r->used->flags, USED_F_NO_NOTIFY);
	q->notify_off = true;
}

static void notify_enable(struct virtq *q, const struct rings *r)
{
	/* Seq_cst, before the next load of avail idx. Pairs with the full barrier in
	 * virtqueue_kick_prepare, which has it the other way round: one side sees the other. */
	if (q->event_idx)
		store16((uint16_t *)&r->used->ring[q->size], q->next_avail);
	else if (q->notify_off)
		store16(&r->used->flags, 0);
	q->notify_off = false;
}

int virtq_pop(struct virtq *q, struct virtq_chain *chain)
{
	struct rings r;

	if (!q->ready)
		return 0;
	int rc = map(q, &r);
	if (rc < 0)
		return rc;

	int n = pending(q, &r);
	if (!n && !q->polled) {
		notify_enable(q, &r);
		n = pending(q, &r);
	}
	if (n <= 0)
		return n;
	notify_suppress(q, &r);

	/* Relaxed: idx was loaded before. Atomic, so that it is read once. */
	uint16_t head =
		__atomic_load_n(&r.avail->ring[q->next_avail & (q->size - 1)], __ATOMIC_RELAXED);
	/* A head that we still hold can't be offered again: whoever indexes requests by head may
	 * rely on it. */
	if (head >= q->size || busy(q, head))
		return -EINVAL;

	chain->head = head;
	chain->out = chain->in = 0;
	chain->out_bytes = chain->in_bytes = 0;
	rc = walk(q, r.desc, head, chain);
	if (rc < 0)
		return rc;

	q->next_avail++;
	q->in_flight++;
	q->last_head = head;
	set_busy(q, head, true);
	return 1;
}

bool virtq_has_more(const struct virtq *q)
{
	struct rings r;

	return q->ready && (map(q, &r) < 0 || pending(q, &r));
}

bool virtq_poll_end(struct virtq *q)
{
	struct rings r;

	q->polled = false;
	if (!q->ready || map(q, &r) < 0)
		return false;
	notify_enable(q, &r);
	return pending(q, &r);
}

void virtq_unpop(struct virtq *q)
{
	assert(q->in_flight && busy(q, q->last_head));
	set_busy(q, q->last_head, false);
	q->in_flight--;
	q->next_avail--;
}

void virtq_rewind(struct virtq *q, uint16_t n)
{
	assert(n == q->in_flight);
	memset(q->busy, 0, sizeof(q->busy));
	q->next_avail -= n;
	q->in_flight = 0;
}

/* Fills the next used entry; false if the queue is gone. */
static bool put(struct virtq *q, uint16_t head, uint32_t written, struct rings *ret_rings)
{
	struct rings r;

	assert(head < VIRTQ_MAX_SIZE && busy(q, head) && q->in_flight);
	set_busy(q, head, false);
	q->in_flight--;
	/* The driver took the queue away meanwhile: there is nowhere to write to. */
	if (!q->ready || map(q, &r) < 0)
		return false;

	struct used_elem *slot = &r.used->ring[q->next_used & (q->size - 1)];
	slot->id = head;
	slot->len = written;
	q->next_used++;
	/* All the way round since the last look: the distance says nothing any more. */
	if (q->next_used == q->signalled)
		q->signalled_valid = false;
	*ret_rings = r;
	return true;
}

void virtq_put(struct virtq *q, uint16_t head, uint32_t written)
{
	struct rings r;

	(void)put(q, head, written, &r);
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	struct rings r;

	/* Release: pairs with the read barrier after the driver's look at idx
	 * (virtqueue_get_buf_ctx_split); it sees the entry and the buffer's bytes. */
	if (put(q, head, written, &r))
		__atomic_store_n(&r.used->idx, q->next_used, __ATOMIC_RELEASE);
}

bool virtq_wants_signal(struct virtq *q)
{
	struct rings r;
	uint16_t now = q->next_used, before = q->signalled;
	bool valid = q->signalled_valid;

	if (valid && now == before)
		return false;
	if (!q->ready || map(q, &r) < 0)
		return false;
	q->signalled = now;
	q->signalled_valid = true;

	/* Once more, as seq_cst: used idx before the load of what the driver wants. Pairs with the
	 * full barrier in virtqueue_enable_cb_prepare and _poll: it stores its wish, then looks at
	 * idx. Once a batch, so that virtq_push needs no more than a release. */
	store16(&r.used->idx, now);
	if (!q->event_idx)
		return !(load16(&r.avail->flags) & AVAIL_F_NO_INTERRUPT);

	/* 2.7.7.2: did idx pass used_event, in 16-bit arithmetic? */
	uint16_t event = load16(&r.avail->ring[q->size]);
	return !valid || (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}
