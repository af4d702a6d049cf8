/* Requests from the rings to the file under the disk and back. Control thread.
 * A request is found by its queue and its chain's head, so that there is one for each; what is in
 * flight pins it, the guest's memory and the device. Limits hold a request back in the ring. */
#include "devices/virtio_blk.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "devices/blk_chain.h"
#include "devices/block_io.h"
#include "devices/token_bucket.h"
#include "devices/virtio_poll.h"

#define QUEUE_SIZE 256
/* A chain is as long as the queue at most; header and status take one each. */
#define SEGMENTS_MAX (QUEUE_SIZE - 2)
#define FEW_SEGMENTS 2
/* One turn of the loop takes no more from one queue, however fast the driver is. */
#define TURN_CHAINS QUEUE_SIZE

/* Of all requests under way, but for one that is larger by itself: what the page cache has is
 * copied in one turn of the loop, and a freeze waits for it. */
#define UNDER_WAY_BYTES (32u << 20)

#define RANGES_MAX	  32
#define RANGE_SECTORS_MAX (1u << 22) /* of one range of discard: 2 GiB */
#define BURST_NS	  100000000u
#define MAX_RATE	  (1ull << 61)

/* Zeros may have to be written, and a freeze waits for them: of one request there are 64 MiB, and
 * as many requests are under way as charges fit into UNDER_WAY_BYTES. */
#define ZERO_RANGES_MAX	 4
#define ZERO_SECTORS_MAX (1u << 15)
#define ZERO_CHARGE	 (8u << 20)

/* What a request that doesn't fit into FEW_SEGMENTS needs; touched only by those. */
union blk_vector {
	struct iovec iov[QUEUE_SIZE];
	struct blk_range range[RANGES_MAX];
};

struct blk_request {
	struct block_io_op op;
	struct virtio_blk *blk;
	uint8_t *status; /* in the guest */
	uint32_t type;
	uint32_t written; /* bytes of data that go into the guest */
	uint64_t bytes;
	uint64_t charge; /* of what may be under way */
	uint64_t price;	 /* bytes, for the limit of bytes a second */
	uint16_t queue, head;
	uint16_t range_at, ranges;
	uint8_t refusal; /* ranges: the status if it is not to be done */
	bool syncing;	 /* a write without write cache: its flush is under way */
	struct iovec few[FEW_SEGMENTS];
};

struct blk_queue {
	struct blk_request *request; /* QUEUE_SIZE, by head */
	union blk_vector *vector;    /* QUEUE_SIZE, by head; untouched pages cost nothing */
};

struct virtio_blk {
	struct virtio_device dev;
	struct virtio_ops ops; /* the features differ from disk to disk */
	struct loop *loop;
	struct block_file file;
	struct block_io io;
	struct blk_config config;
	struct blk_queue queue[VIRTIO_BLK_MAX_QUEUES];
	char id[VIRTIO_BLK_ID_BYTES];
	unsigned in_flight;
	uint64_t under_way;	 /* the charges of those in flight */
	bool full;		 /* what is in the rings waits for one of them to end */
	bool given_up;		 /* virtio_blk_free came while operations were in flight */
	struct loop_timer batch; /* the end of a turn in which requests were given back */
	bool batching;

	struct token_bucket ops_limit, bytes_limit;
	struct loop_timer again; /* goes on with what was left in the rings */
	bool throttled;		 /* … until again */
	struct virtio_poll poll;
	unsigned first; /* the queue that again begins with */
	struct virtio_blk_stats stats;
};

static struct virtio_blk *from_device(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_blk, dev);
}

/* Chains stay in the rings while either is so. */
static void set_held(struct virtio_blk *blk, bool throttled, bool full)
{
	blk->throttled = throttled;
	blk->full = full;
	blk->poll.held = throttled || full;
}

/* ---- giving back -------------------------------------------------------------------------- */

static void come_again(struct virtio_blk *blk, uint64_t at_ns);

/* One update of each used ring and one interrupt for all that came back in this turn. */
static void end_batch(struct virtio_blk *blk)
{
	if (blk->full)
		come_again(blk, 0);
	set_held(blk, blk->throttled, false);
	blk->batching = false;
	loop_timer_clear(blk->loop, &blk->batch);
	blk->stats.interrupts += virtio_signal_all(&blk->dev);
}

static void batch_ended(struct loop_timer *t)
{
	end_batch(container_of(t, struct virtio_blk, batch));
}

static void destroy(struct virtio_blk *blk);

static void in_flight_ended(struct virtio_blk *blk)
{
	if (--blk->in_flight > 0)
		return;
	if (blk->given_up) {
		destroy(blk);
	} else if (blk->dev.quiescing) {
		if (blk->batching)
			end_batch(blk);
		virtio_quiesced(&blk->dev);
	}
}

static void finish(struct blk_request *req, uint8_t status)
{
	struct virtio_blk *blk = req->blk;

	blk->under_way -= req->charge;
	/* What follows data that may not be there is not counted as written. */
	if (!blk->given_up) {
		*req->status = status;
		virtq_put(&blk->dev.queue[req->queue], req->head,
			  status == VIRTIO_BLK_S_OK ? req->written + 1 : !req->written);
		blk->stats.completions++;
		/* Due at once: it fires in this turn, behind the other completions. */
		if (!blk->batching && loop_timer_set(blk->loop, &blk->batch, 0) < 0)
			end_batch(blk);
		else
			blk->batching = true;
	}
	in_flight_ended(blk);
}

static void count(struct virtio_blk *blk, const struct blk_request *req)
{
	struct virtio_blk_stats *s = &blk->stats;

	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		s->reads++;
		s->bytes_read += req->bytes;
		break;
	case VIRTIO_BLK_T_OUT:
		s->writes++;
		s->bytes_written += req->bytes;
		break;
	case VIRTIO_BLK_T_FLUSH:
		s->flushes++;
		break;
	case VIRTIO_BLK_T_DISCARD:
		s->discards++;
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		s->zeroes++;
		break;
	default:
		break;
	}
}

static union blk_vector *vector_of(const struct blk_request *req)
{
	return &req->blk->queue[req->queue].vector[req->head];
}

static void next_range(struct blk_request *req)
{
	struct virtio_blk *blk = req->blk;
	const struct blk_range *range = &vector_of(req)->range[req->range_at++];
	uint64_t offset = range->sector * BLOCK_SECTOR;
	uint64_t len = (uint64_t)range->sectors * BLOCK_SECTOR;

	if (req->type == VIRTIO_BLK_T_DISCARD)
		block_io_discard(&blk->io, &req->op, offset, len);
	else
		block_io_zero(&blk->io, &req->op, offset, len, range->flags & BLK_RANGE_F_UNMAP);
}

/* Without F_FLUSH the driver takes a completed write for a durable one (5.2.6.2). */
static bool must_sync(const struct virtio_blk *blk, const struct blk_request *req)
{
	return !(blk->dev.features >> VIRTIO_BLK_F_FLUSH & 1) && !req->syncing &&
	       (req->type == VIRTIO_BLK_T_OUT || req->type == VIRTIO_BLK_T_WRITE_ZEROES);
}

static bool is_stopping(struct block_io *io)
{
	const struct virtio_blk *blk = container_of(io, struct virtio_blk, io);

	return blk->given_up || virtio_unanswered(&blk->dev);
}

static void on_done(struct block_io_op *op, int res)
{
	struct blk_request *req = container_of(op, struct blk_request, op);
	struct virtio_blk *blk = req->blk;

	if (res == -ECANCELED && is_stopping(&blk->io)) {
		finish(req, VIRTIO_BLK_S_IOERR);
	} else if (res < 0) {
		blk->stats.errors++;
		log_guest(&blk->dev.fault_log, "disk %.*s: %s failed: %s", VIRTIO_BLK_ID_BYTES,
			  blk->id,
			  req->type == VIRTIO_BLK_T_IN	    ? "a read"
			  : req->type == VIRTIO_BLK_T_OUT   ? "a write"
			  : req->type == VIRTIO_BLK_T_FLUSH ? "a flush"
							    : "a discard or write of zeroes",
			  res == -ENODATA ? "the file ends before" : strerror(-res));
		finish(req, VIRTIO_BLK_S_IOERR);
	} else if (req->range_at < req->ranges &&
		   !(req->type == VIRTIO_BLK_T_DISCARD && blk->dev.quiescing)) {
		/* Discards are hints: a freeze doesn't wait for all of them. */
		if (is_stopping(&blk->io))
			finish(req, VIRTIO_BLK_S_IOERR);
		else
			next_range(req);
	} else if (must_sync(blk, req)) {
		req->syncing = true;
		block_io_flush(&blk->io, &req->op);
	} else {
		count(blk, req);
		finish(req, VIRTIO_BLK_S_OK);
	}
}

/* ---- taking ------------------------------------------------------------------------------- */

/* Sectors within the disk, and whole blocks of the host's. */
static bool in_disk(const struct virtio_blk *blk, uint64_t sector, uint64_t bytes)
{
	uint64_t mask = blk->file.block_bytes - 1;

	return sector <= blk->config.capacity && !(bytes & mask) &&
	       !((sector * BLOCK_SECTOR) & mask) &&
	       bytes / BLOCK_SECTOR <= blk->config.capacity - sector;
}

static void start_transfer(struct blk_request *req, const struct blk_chain *p)
{
	struct virtio_blk *blk = req->blk;
	bool write = req->type == VIRTIO_BLK_T_OUT;
	unsigned n = write ? p->outs : p->ins;
	struct iovec *iov = n <= FEW_SEGMENTS ? req->few : vector_of(req)->iov;
	uint64_t offset = p->header.sector * BLOCK_SECTOR;

	req->bytes = write ? p->out_bytes : p->in_bytes;
	if ((write && blk->file.read_only) || !in_disk(blk, p->header.sector, req->bytes)) {
		blk->stats.refused++;
		finish(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (!n) {
		count(blk, req);
		finish(req, VIRTIO_BLK_S_OK);
		return;
	}
	memcpy(iov, write ? p->out : p->in, n * sizeof(*iov));
	if (write)
		block_io_write(&blk->io, &req->op, iov, n, offset);
	else
		block_io_read(&blk->io, &req->op, iov, n, offset);
}

/* 5.2.6.2. Every range is checked before the first is touched. */
static uint8_t check_ranges(const struct blk_request *req)
{
	const struct virtio_blk *blk = req->blk;
	bool zeroes = req->type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint32_t known = zeroes ? BLK_RANGE_F_UNMAP : 0;
	uint32_t most = zeroes ? ZERO_SECTORS_MAX : RANGE_SECTORS_MAX;

	for (unsigned i = 0; i < req->ranges; i++) {
		const struct blk_range *r = &vector_of(req)->range[i];

		if (r->flags & ~known)
			return VIRTIO_BLK_S_UNSUPP;
		if (!r->sectors || r->sectors > most ||
		    !in_disk(blk, r->sector, (uint64_t)r->sectors * BLOCK_SECTOR))
			return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

/* Copies the ranges and checks them. The copy is what counts from here on. */
static uint8_t take_ranges(struct blk_request *req, const struct blk_chain *p)
{
	uint8_t *to = (uint8_t *)vector_of(req)->range;
	unsigned most = req->type == VIRTIO_BLK_T_DISCARD ? RANGES_MAX : ZERO_RANGES_MAX;

	if (req->blk->file.read_only)
		return VIRTIO_BLK_S_UNSUPP;
	if (!p->out_bytes || p->out_bytes % sizeof(struct blk_range) ||
	    p->out_bytes > most * sizeof(struct blk_range))
		return VIRTIO_BLK_S_IOERR;
	for (unsigned i = 0; i < p->outs; i++) {
		memcpy(to, p->out[i].iov_base, p->out[i].iov_len);
		to += p->out[i].iov_len;
	}
	/* As in blk_chain_parse. */
	__asm__ volatile("" ::: "memory");
	req->ranges = (uint16_t)(p->out_bytes / sizeof(struct blk_range));
	return check_ranges(req);
}

/* Bytes of zeros that will have to be written. */
static uint64_t zeros_of(const struct blk_request *req)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < req->ranges; i++) {
		const struct blk_range *r = &vector_of(req)->range[i];

		if (block_io_writes_zeros(&req->blk->io, r->flags & BLK_RANGE_F_UNMAP))
			bytes += (uint64_t)r->sectors * BLOCK_SECTOR;
	}
	return bytes;
}

static void start_ranges(struct blk_request *req)
{
	if (req->refusal == VIRTIO_BLK_S_OK) {
		next_range(req);
		return;
	}
	req->ranges = 0;
	req->blk->stats.refused++;
	finish(req, req->refusal);
}

static void give_id(struct blk_request *req, const struct blk_chain *p)
{
	const char *from = req->blk->id;
	size_t left = sizeof(req->blk->id);

	for (unsigned i = 0; i < p->ins && left; i++) {
		size_t n = MIN(left, p->in[i].iov_len);

		memcpy(p->in[i].iov_base, from, n);
		from += n;
		left -= n;
	}
	req->written = (uint32_t)(sizeof(req->blk->id) - left);
	/* The status lies behind what was not written. */
	if (p->in_bytes > req->written)
		req->written--;
	finish(req, VIRTIO_BLK_S_OK);
}

/* Makes a request of a chain, which may yet go back to the ring. */
static struct blk_request *prepare(struct virtio_blk *blk, unsigned q, uint16_t head,
				   const struct blk_chain *p)
{
	struct blk_request *req = &blk->queue[q].request[head];

	req->op.done = on_done;
	req->blk = blk;
	req->status = p->status;
	req->type = p->header.type;
	/* Bounded by the longest chain, 4 GiB with the header. */
	req->written = req->type == VIRTIO_BLK_T_IN ? (uint32_t)p->in_bytes : 0;
	req->bytes = req->charge = req->price = 0;
	req->queue = (uint16_t)q;
	req->head = head;
	req->range_at = req->ranges = 0;
	req->syncing = false;
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		req->charge = req->price = p->in_bytes;
		break;
	case VIRTIO_BLK_T_OUT:
		req->charge = req->price = p->out_bytes;
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		req->refusal = take_ranges(req, p);
		req->charge = ZERO_CHARGE;
		if (req->refusal == VIRTIO_BLK_S_OK)
			req->price = zeros_of(req);
		break;
	case VIRTIO_BLK_T_DISCARD:
		req->refusal = take_ranges(req, p);
		break;
	default:
		break;
	}
	return req;
}

static void start(struct blk_request *req, const struct blk_chain *p)
{
	struct virtio_blk *blk = req->blk;

	blk->in_flight++;
	blk->under_way += req->charge;
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		start_transfer(req, p);
		break;
	case VIRTIO_BLK_T_FLUSH:
		block_io_flush(&blk->io, &req->op);
		break;
	case VIRTIO_BLK_T_GET_ID:
		give_id(req, p);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		start_ranges(req);
		break;
	default:
		blk->stats.refused++;
		finish(req, VIRTIO_BLK_S_UNSUPP);
		break;
	}
}

/* ---- serving ------------------------------------------------------------------------------ */

static void come_again(struct virtio_blk *blk, uint64_t at_ns)
{
	/* Without memory for a timer, the driver's next notification has to do. */
	if (loop_timer_set(blk->loop, &blk->again, at_ns) < 0) {
		set_held(blk, false, blk->full);
		log_warn("disk %.*s: no memory for a timer", VIRTIO_BLK_ID_BYTES, blk->id);
	}
}

/* Pays for a request, or says no and comes again when it can be paid. */
static bool admit(struct virtio_blk *blk, const struct blk_request *req)
{
	uint64_t now, wait_ns;

	if (blk->under_way > 0 && blk->under_way + req->charge > UNDER_WAY_BYTES) {
		set_held(blk, blk->throttled, true);
		return false;
	}
	if (!blk->ops_limit.rate && !blk->bytes_limit.rate)
		return true;
	now = now_ns();
	wait_ns = token_bucket_wait_ns(&blk->ops_limit, 1, now);
	wait_ns = MAX(wait_ns, token_bucket_wait_ns(&blk->bytes_limit, req->price, now));
	if (wait_ns) {
		blk->stats.throttled++;
		set_held(blk, true, blk->full);
		come_again(blk, now + MIN(wait_ns, (uint64_t)INT64_MAX));
		return false;
	}
	token_bucket_spend(&blk->ops_limit, 1);
	token_bucket_spend(&blk->bytes_limit, req->price);
	return true;
}

static void serve(struct virtio_blk *blk, unsigned index)
{
	struct virtq *q = &blk->dev.queue[index];
	struct virtq_chain chain;
	struct blk_request *req;
	struct blk_chain p;

	virtio_poll_begin(&blk->poll, index);
	for (unsigned n = 0; virtio_running(&blk->dev) && !blk->poll.held; n++) {
		if (n == TURN_CHAINS) {
			blk->first = index + 1;
			come_again(blk, 0);
			break;
		}

		int rc = virtq_pop(q, &chain);
		if (!rc)
			break;
		if (rc > 0) {
			rc = blk_chain_parse(&chain, &p);
			if (rc < 0)
				virtq_unpop(q);
		}
		if (rc < 0) {
			virtio_fault(&blk->dev, "disk %.*s: bad chain (%d)", VIRTIO_BLK_ID_BYTES,
				     blk->id, rc);
			break;
		}
		req = prepare(blk, index, chain.head, &p);
		if (!admit(blk, req)) {
			virtq_unpop(q);
			/* Who got something lets the next begin; who got nothing keeps its place.
			 */
			blk->first = index + (n > 0);
			break;
		}
		start(req, &p);
	}
}

static void serve_again(struct loop_timer *t)
{
	struct virtio_blk *blk = container_of(t, struct virtio_blk, again);
	unsigned first = blk->first;

	set_held(blk, false, blk->full);
	for (unsigned i = 0; i < blk->dev.queue_count; i++)
		virtio_notify(&blk->dev, (first + i) % blk->dev.queue_count);
}

/* ---- the device --------------------------------------------------------------------------- */

static void config_read(struct virtio_device *dev, uint64_t offset, void *data, unsigned len)
{
	const struct virtio_blk *blk = from_device(dev);

	memset(data, 0, len);
	if (offset < sizeof(blk->config))
		memcpy(data, (const uint8_t *)&blk->config + offset,
		       MIN(len, sizeof(blk->config) - offset));
}

static void notify(struct virtio_device *dev, unsigned q)
{
	serve(from_device(dev), q);
}

/* What is in flight ends by itself, soon or when the disk lets it; nothing new begins meanwhile.
 * Soon: it is bounded for a freeze, and where nobody is answered, it ends with its step. */
static void quiesce(struct virtio_device *dev)
{
	struct virtio_blk *blk = from_device(dev);

	loop_timer_clear(blk->loop, &blk->again);
	set_held(blk, false, false);
	virtio_poll_stop(&blk->poll);
	if (blk->in_flight > 0)
		return;
	if (blk->batching)
		end_batch(blk);
	virtio_quiesced(dev);
}

static void reset(struct virtio_device *dev)
{
	from_device(dev)->first = 0;
}

/* The limits are the host's: a restored machine begins with a full bucket. */
static void blk_state(struct virtio_device *dev, struct state_io *io)
{
	struct virtio_blk *blk = from_device(dev);
	uint64_t capacity = blk->config.capacity;
	uint32_t block = blk->config.blk_size, first = blk->first;
	bool read_only = blk->file.read_only;

	assert(!blk->in_flight);
	if (state_begin(io, "virtio-blk", 1)) {
		state_u64(io, "capacity", &capacity);
		state_check(io, "capacity", capacity == blk->config.capacity);
		state_u32(io, "blk_size", &block);
		state_check(io, "blk_size", block == blk->config.blk_size);
		state_bool(io, "read_only", &read_only);
		state_check(io, "read_only", read_only == blk->file.read_only);
		state_u32(io, "first", &first);
		state_check(io, "first", first <= dev->queue_count);
	}
	state_end(io);
	if (state_restoring(io))
		blk->first = first;
}

static const struct virtio_ops blk_ops = {
	.name = "virtio-blk",
	.device_id = 2,
	.features = 1u << VIRTIO_BLK_F_SEG_MAX | 1u << VIRTIO_BLK_F_BLK_SIZE |
		    1u << VIRTIO_BLK_F_FLUSH | 1u << VIRTIO_BLK_F_TOPOLOGY | 1u << VIRTIO_BLK_F_MQ,
	.queues = 1,
	.queue_size = QUEUE_SIZE,
	.config_read = config_read,
	/* Only the cache mode could be written, and CONFIG_WCE is not offered. */
	.notify = notify,
	.quiesce = quiesce,
	.reset = reset,
	.state = blk_state,
};

static struct blk_config describe(const struct block_file *f, unsigned queues)
{
	struct blk_config c = {
		.capacity = f->bytes / BLOCK_SECTOR,
		.seg_max = SEGMENTS_MAX,
		.blk_size = f->block_bytes,
		.physical_block_exp = (uint8_t)__builtin_ctz(f->physical_bytes / f->block_bytes),
		.min_io_size = (uint16_t)(f->physical_bytes / f->block_bytes),
		.opt_io_size = f->optimal_bytes / f->block_bytes,
		.writeback = 1,
		.num_queues = (uint16_t)queues,
	};

	if (f->read_only)
		return c;
	c.max_discard_sectors = RANGE_SECTORS_MAX;
	c.max_discard_seg = RANGES_MAX;
	c.max_write_zeroes_sectors = ZERO_SECTORS_MAX;
	c.max_write_zeroes_seg = ZERO_RANGES_MAX;
	c.discard_sector_alignment = f->physical_bytes / BLOCK_SECTOR;
	c.write_zeroes_may_unmap = 1;
	return c;
}

static uint64_t burst_of(uint64_t rate, uint64_t burst_ns)
{
	return (uint64_t)((unsigned __int128)rate * (burst_ns ?: BURST_NS) / 1000000000u);
}

static void destroy(struct virtio_blk *blk)
{
	virtio_poll_done(&blk->poll);
	loop_timer_clear(blk->loop, &blk->again);
	loop_timer_clear(blk->loop, &blk->batch);
	block_io_done(&blk->io);
	block_file_close(&blk->file);
	for (unsigned i = 0; i < VIRTIO_BLK_MAX_QUEUES; i++) {
		free(blk->queue[i].request);
		free(blk->queue[i].vector);
	}
	free(blk);
}

/* Everything but the file. */
static int set_up(struct virtio_blk *blk, struct loop *loop, const struct guest_memory *mem,
		  int irq_fd, const struct virtio_blk_config *config)
{
	uint64_t now = now_ns();

	blk->ops = blk_ops;
	if (config->file.read_only)
		blk->ops.features |= 1u << VIRTIO_BLK_F_RO;
	else
		blk->ops.features |= 1u << VIRTIO_BLK_F_DISCARD | 1u << VIRTIO_BLK_F_WRITE_ZEROES;
	virtio_init(&blk->dev, &blk->ops, mem, irq_fd);
	blk->dev.queue_count = config->queues;
	blk->loop = loop;
	blk->batch.fire = batch_ended;
	blk->again.fire = serve_again;
	block_io_init(&blk->io, loop, &blk->file);
	blk->io.stopping = is_stopping;
	memcpy(blk->id, config->id, strnlen(config->id, sizeof(blk->id)));
	token_bucket_init(&blk->ops_limit, MIN(config->iops, MAX_RATE),
			  burst_of(config->iops, config->burst_ns), now);
	token_bucket_init(&blk->bytes_limit, MIN(config->bps, MAX_RATE),
			  burst_of(config->bps, config->burst_ns), now);
	for (unsigned i = 0; i < config->queues; i++) {
		blk->queue[i].request = calloc(QUEUE_SIZE, sizeof(*blk->queue[i].request));
		blk->queue[i].vector = malloc(QUEUE_SIZE * sizeof(*blk->queue[i].vector));
		if (!blk->queue[i].request || !blk->queue[i].vector)
			return -ENOMEM;
	}
	return 0;
}

int virtio_blk_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		   const struct virtio_blk_config *config, struct virtio_blk **ret_blk,
		   struct error *err)
{
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	int r = -ENOMEM;

	assert(config->queues >= 1 && config->queues <= VIRTIO_BLK_MAX_QUEUES && config->id);
	if (blk) {
		blk->file.fd = -1;
		r = set_up(blk, loop, mem, irq_fd, config);
	}
	if (r < 0)
		error_set_shortage(err, r, "making a virtio block device");
	else
		r = block_file_open(&config->file, &blk->file, err);
	if (r < 0) {
		if (blk)
			destroy(blk);
		return r;
	}
	blk->config = describe(&blk->file, config->queues);
	virtio_poll_init(&blk->poll, loop, &blk->dev);
	*ret_blk = blk;
	return 0;
}

void virtio_blk_free(struct virtio_blk *blk)
{
	if (!blk)
		return;
	if (!blk->in_flight) {
		destroy(blk);
		return;
	}
	log_warn("disk %.*s: %u operations are still in flight; it is given up",
		 VIRTIO_BLK_ID_BYTES, blk->id, blk->in_flight);
	loop_timer_clear(blk->loop, &blk->again);
	loop_timer_clear(blk->loop, &blk->batch);
	virtio_poll_done(&blk->poll);
	blk->given_up = true;
}

struct virtio_device *virtio_blk_device(struct virtio_blk *blk)
{
	return &blk->dev;
}

int virtio_blk_fd(const struct virtio_blk *blk)
{
	return blk->file.fd;
}

struct virtio_blk_stats virtio_blk_stats(const struct virtio_blk *blk)
{
	struct virtio_blk_stats s = blk->stats;

	s.faults = blk->dev.faults;
	s.bounced = blk->io.bounced;
	s.continued = blk->io.continued;
	return s;
}
