/* Writes a core file through the loop, straight from guest memory. Control thread. */
#include "freeze/vmcore.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/util.h"
#include "freeze/snapshot_frame.h"
#include "freeze/snapshot_layers.h"
#include "guest/backing.h"

#define WRITES	 8		  /* in flight */
#define RUN_MAX	 MEMORY_FRAME_MAX /* bytes of one write */
#define GAP_MAX	 KIB(32) /* pages that hold nothing are written where a run goes on so soon */
#define LOOK_MAX MIB(16) /* memory that one turn of the loop may go through … */
#define ABSENT	 16	 /* … where what isn't there counts for so little … */
#define PACKED	 4	 /* … and what is packed for so much */

/* What comes after what. A device (in brackets) has no name that comes last, so its first page is
 * written when all others are there for good, and vouches for them. */
enum phase { WIPE /* [] */, MEMORY, SYNC_MEMORY /* [] */, HEAD, SYNC_ALL, OVER };

struct write {
	struct loop_op op;
	struct vmcore *v;
	const uint8_t *data;
	uint32_t len;
	uint64_t at;	/* in the file */
	uint8_t *frame; /* lz4: owned, of a run's bound; NULL: not used yet */
};

struct vmcore {
	struct vmcore_config config;
	struct vmcore_head head;
	struct guest_backing backing;
	struct beside file;
	struct write write[WRITES];
	struct loop_op other; /* of the whole file */
	struct loop_timer turn;
	enum phase phase;
	unsigned in_flight;
	bool device;
	bool *over; /* set at the end, where somebody waits for that */
	char *path;
	struct error error; /* the first; what is in flight is waited for */

	/* The next page to look at, and what is known of the pages around it. */
	unsigned region;
	uint64_t offset; /* in the region */
	bool there[GUEST_BACKING_PAGES];
	size_t known_from, known; /* pages of the region that there[] tells of */

	uint64_t looked, total, written; /* bytes */
};

/* ---- looking for content ----------------------------------------------------------------- */

static bool is_zero(const uint8_t *page, size_t len)
{
	uint64_t first;

	memcpy(&first, page, sizeof(first));
	return first == 0 && memcmp(page, page + sizeof(first), len - sizeof(first)) == 0;
}

/* Whether page n of the current region is there. */
static bool is_there(struct vmcore *v, size_t n)
{
	const struct guest_region *r = &v->config.mem->region[v->region];

	if (n < v->known_from || n - v->known_from >= v->known) {
		size_t pages = (size_t)(r->range.size / v->backing.page);

		v->known_from = n;
		v->known = MIN(pages - n, (size_t)GUEST_BACKING_PAGES);
		if (v->config.base)
			guest_backing_look_own(&v->backing, r->host + n * v->backing.page, v->known,
					       v->there);
		else
			guest_backing_look(&v->backing, r->host + n * v->backing.page, v->known,
					   v->there);
	}
	return v->there[n - v->known_from];
}

/* Whether page n of the region is to be written. */
static bool is_wanted(struct vmcore *v, const struct guest_region *r, size_t n)
{
	size_t page = v->backing.page;
	const uint8_t *now = r->host + n * page, *before;

	if (!v->config.base)
		return !is_zero(now, page);
	for (size_t at = 0; at < page; at += MEMORY_PAGE) {
		int code =
			layers_reader_page(v->config.base, r->range.gpa + n * page + at, &before);

		if (code < 0) {
			error_set(&v->error, code, "reading what %s differs from", v->path);
			return false;
		}
		if (memcmp(now + at, before, MEMORY_PAGE))
			return true;
	}
	return false;
}

/* The next bytes of the region that are to be written: [*ret_from, *ret_to) pages. False: none
 * within the budget, which has been used up, or the region's end. */
static bool next_run(struct vmcore *v, uint64_t *budget, size_t *ret_from, size_t *ret_to)
{
	const struct guest_region *r = &v->config.mem->region[v->region];
	size_t page = v->backing.page, pages = (size_t)(r->range.size / page);
	size_t n = (size_t)(v->offset / page), from = SIZE_MAX, to = 0;
	/* What differs is all that there is to be. */
	size_t gap_max = v->config.base ? page : GAP_MAX;

	for (; n < pages && *budget >= page && v->error.code == 0; n++) {
		bool there = is_there(v, n);

		/* Never over a page that isn't there: the write would bring it in. */
		if (from != SIZE_MAX && (!there || (n - from) * page >= RUN_MAX))
			break;
		*budget -= there ? page : page / ABSENT;
		if (there && is_wanted(v, r, n)) {
			from = from == SIZE_MAX ? n : from;
			to = n + 1;
		} else if (from != SIZE_MAX && (n + 1 - to) * page >= gap_max) {
			n++;
			break;
		}
	}
	v->offset = n * page;
	if (from == SIZE_MAX)
		return false;
	*ret_from = from;
	*ret_to = to;
	return true;
}

/* ---- writing ------------------------------------------------------------------------------- */

static void go_on(struct vmcore *v);

static const char *what_of(const struct vmcore_config *c)
{
	return c->raw ? "the memory" : "the core";
}

static void fail(struct vmcore *v, int code, const char *doing)
{
	if (code == -ENOSPC || code == -EDQUOT)
		error_hint(&v->error, "it takes up to %" PRIu64 " MiB", v->head.size >> 20);
	error_set(&v->error, code, "%s %s %s", doing, what_of(&v->config), v->path);
}

static void submit(struct write *w)
{
	struct vmcore *v = w->v;
	int r = loop_write(v->config.loop, &w->op, v->file.fd, w->data, w->len, w->at);

	if (r < 0)
		fail(v, r, "writing");
	else
		v->in_flight++;
}

static void on_written(struct loop_op *op, int res)
{
	struct write *w = container_of(op, struct write, op);
	struct vmcore *v = w->v;

	v->in_flight--;
	if (res == 0)
		res = -EIO; /* a file that takes nothing */
	if (res > 0) {
		v->written += v->phase == MEMORY ? (uint32_t)res : 0;
		w->data += res;
		w->len -= (uint32_t)res;
		w->at += (uint32_t)res;
	}
	if (res < 0 && res != -EINTR && res != -EAGAIN)
		fail(v, res, "writing");
	else if (w->len > 0 && v->error.code == 0)
		submit(w);
	go_on(v);
}

static void on_other(struct loop_op *op, int res)
{
	struct vmcore *v = container_of(op, struct vmcore, other);

	v->in_flight--;
	if (res < 0)
		fail(v, res, "writing");
	go_on(v);
}

static struct write *idle_write(struct vmcore *v)
{
	for (unsigned i = 0; i < WRITES; i++)
		if (!v->write[i].op.active)
			return &v->write[i];
	return NULL;
}

static void write_out(struct write *w, const uint8_t *data, size_t len, uint64_t at)
{
	w->data = data;
	w->len = (uint32_t)len;
	w->at = at;
	submit(w);
}

/* Pages [from, to) of the region. */
static void write_run(struct vmcore *v, struct write *w, const struct guest_region *r, size_t from,
		      size_t to)
{
	size_t page = v->backing.page, len = (to - from) * page, stored = 0;
	const uint8_t *data = r->host + from * page;
	uint64_t at = v->head.region_at[v->region] + from * page;
	int code = 0;

	if (v->config.lz4) {
		at = memory_table_end(v->config.table);
		if (!w->frame)
			w->frame = malloc(frame_bound(RUN_MAX));
		code = w->frame ? frame_pack(data, len, w->frame, &stored) : -ENOMEM;
		data = w->frame;
	}
	if (code == 0 && v->config.table)
		code = memory_table_add(v->config.table, r->range.gpa + from * page, len,
					(uint32_t)stored);
	if (code < 0)
		fail(v, code, "writing");
	else
		write_out(w, data, stored ?: len, at);
}

/* Keeps all writes busy. True: everything has been gone through. */
static bool fill(struct vmcore *v)
{
	const struct guest_memory *mem = v->config.mem;
	uint64_t budget = v->config.lz4 ? LOOK_MAX / PACKED : LOOK_MAX;

	while (v->error.code == 0 && v->region < mem->count) {
		const struct guest_region *r = &mem->region[v->region];
		struct write *w = idle_write(v);
		size_t page = v->backing.page, from, to;
		uint64_t before = v->offset;

		if (!w || budget < page)
			break;
		if (next_run(v, &budget, &from, &to))
			write_run(v, w, r, from, to);
		v->looked += v->offset - before;
		if (v->offset == r->range.size) {
			v->region++;
			v->offset = 0;
			v->known = 0;
		}
	}
	return v->region == mem->count;
}

/* What a phase does to the whole file. */
static void work_on_file(struct vmcore *v)
{
	int r;

	if (v->phase == WIPE)
		r = loop_fallocate(v->config.loop, &v->other, v->file.fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, v->head.size);
	else
		r = loop_fdatasync(v->config.loop, &v->other, v->file.fd);
	if (r < 0)
		fail(v, r, "writing");
	else
		v->in_flight++;
}

static void turn_soon(struct vmcore *v)
{
	int r = loop_timer_set(v->config.loop, &v->turn, 0);

	if (r < 0)
		fail(v, r, "writing");
}

/* ---- one after another ------------------------------------------------------------------------
 */

static void end(struct vmcore *v)
{
	int r;

	v->phase = OVER;
	if (v->over)
		*v->over = true;
	loop_timer_clear(v->config.loop, &v->turn);
	if (v->error.code == 0) {
		r = beside_commit(&v->file);
		if (r < 0)
			fail(v, r, "naming");
	}
	beside_abort(&v->file);
	v->config.done(v, v->error.code < 0 ? &v->error : NULL, v->config.arg);
}

/* Nothing is in flight. */
static void next_phase(struct vmcore *v)
{
	v->phase++;
	if (v->phase == SYNC_MEMORY && !v->device)
		v->phase++;
	if (v->phase == HEAD && v->head.len == 0)
		v->phase++;
	if (v->phase == HEAD)
		write_out(&v->write[0], v->head.data, v->head.len, 0);
	else if (v->phase != MEMORY)
		work_on_file(v);
}

/* After everything that happens: the next steps, until something is under way or it is over. May
 * free v. */
static void go_on(struct vmcore *v)
{
	for (;;) {
		if (v->phase == MEMORY && v->error.code == 0 && !fill(v)) {
			if (v->in_flight < WRITES && v->error.code == 0)
				turn_soon(v);
			if (v->error.code == 0)
				return;
		}
		if (v->in_flight > 0)
			return;
		if (v->error.code < 0 || v->phase == SYNC_ALL) {
			end(v);
			return;
		}
		next_phase(v);
	}
}

/* The first begins what there is to do. */
static void on_turn(struct loop_timer *t)
{
	go_on(container_of(t, struct vmcore, turn));
}

/* ---- life ----------------------------------------------------------------------------------- */

/* A file gets its full length at once: what isn't written is a hole. */
static int prepare(struct vmcore *v)
{
	uint64_t size = 0;

	v->device = !v->file.tmp;
	v->phase = v->device ? WIPE : MEMORY;
	if (v->config.lz4)
		return 0;
	if (!v->device)
		return ftruncate(v->file.fd, (off_t)v->head.size) < 0 ? -errno : 0;
	if (ioctl(v->file.fd, BLKGETSIZE64, &size) < 0)
		return -errno;
	if (size < v->head.size)
		return -ENOSPC;
	work_on_file(v);
	return v->error.code;
}

int vmcore_start(const struct vmcore_config *c, struct vmcore **ret_v, struct error *err)
{
	struct vmcore *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return error_set(err, -ENOMEM, "writing %s %s", what_of(c), c->path);
	v->config = *c;
	v->file.fd = -1;
	v->turn.fire = on_turn;
	v->other.done = on_other;
	v->path = strdup(c->path);
	for (unsigned i = 0; i < WRITES; i++)
		v->write[i] = (struct write){.op = {.done = on_written}, .v = v};
	for (unsigned i = 0; i < c->mem->count; i++)
		v->total += c->mem->region[i].range.size;
	guest_backing_init(&v->backing, c->mem);
	r = v->path ? 0 : -ENOMEM;
	if (r == 0 && c->raw)
		vmcore_head_raw(c->mem, &v->head);
	else if (r == 0)
		r = vmcore_head_make(c->mem, c->cpu, c->cpus, c->kernel, &v->head);
	/* It has everything that the guest's programs know: for its owner only. */
	if (r == 0)
		r = beside_open(&v->file, c->path, 0600);
	if (r == 0)
		r = loop_timer_set(c->loop, &v->turn, 0);
	if (r == 0)
		r = prepare(v);
	if (r < 0) {
		error_set(err, r, "writing %s %s", what_of(c), c->path);
		vmcore_free(v);
		return r;
	}
	v->config.path = v->path;
	v->config.cpu = NULL;
	v->config.kernel = NULL;
	*ret_v = v;
	return 0;
}

void vmcore_cancel(struct vmcore *v)
{
	if (v->phase == OVER)
		return;
	error_set(&v->error, -ECANCELED, "writing %s %s", what_of(&v->config), v->path);
	for (unsigned i = 0; i < WRITES; i++)
		loop_cancel(v->config.loop, &v->write[i].op);
	loop_cancel(v->config.loop, &v->other);
	/* Where nothing is in flight, this is what goes on. */
	turn_soon(v);
}

bool vmcore_cancel_wait(struct vmcore *v, uint64_t limit_ns)
{
	struct loop *loop = v->config.loop;
	uint64_t now = now_ns(), end_ns = now + limit_ns;
	bool over = v->phase == OVER;

	v->over = &over;
	vmcore_cancel(v);
	for (; !over && now < end_ns; now = now_ns())
		if (loop_turn(loop, end_ns - now) < 0)
			break;
	if (!over)
		v->over = NULL;
	return over;
}

void vmcore_progress(const struct vmcore *v, uint64_t *ret_done, uint64_t *ret_total)
{
	*ret_done = v->looked;
	*ret_total = v->total;
}

uint64_t vmcore_written(const struct vmcore *v)
{
	return v->written;
}

void vmcore_free(struct vmcore *v)
{
	if (!v)
		return;
	assert(v->in_flight == 0);
	loop_timer_clear(v->config.loop, &v->turn);
	for (unsigned i = 0; i < WRITES; i++)
		free(v->write[i].frame);
	beside_abort(&v->file);
	guest_backing_done(&v->backing);
	vmcore_head_done(&v->head);
	free(v->path);
	free(v);
}
