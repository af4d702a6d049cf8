/* Lays the memory of snapshots under a guest, and reads it. */
#include "freeze/snapshot_layers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/text.h"
#include "freeze/snapshot_frame.h"

#define UNPACKERS_MAX 8
#define WINDOW	      KIB(64) /* of a raw file that is read at once */
#define HOLE_SMALL    KIB(64) /* mapped with the data beside it */
#define COPY_BELOW    KIB(64) /* runs that are copied before others, where not all can be mapped */
#define MAPS_DEFAULT  65530   /* DEFAULT_MAX_MAP_COUNT (Linux, include/linux/mm.h) */

void snapshot_layers_done(struct snapshot_layers *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		free(l->layer[i].path);
		fd_close(&l->layer[i].fd);
		memory_table_done(&l->layer[i].table);
	}
	l->count = 0;
}

static bool has_all_raw(const struct snapshot_layer *layer)
{
	return !layer->table.partial && !layer->table.lz4;
}

/* ---- whether it fits ------------------------------------------------------------------------- */

/* Bytes that the file has to have. */
static uint64_t size_of(const struct snapshot_layer *layer, const struct guest_memory *mem)
{
	const struct guest_range *last = &mem->region[mem->count - 1].range;
	uint64_t id = layer->id[0] ? SNAPSHOT_ID_LEN : 0;

	return layer->table.lz4 ? memory_table_end(&layer->table) + FRAME_SKIP_LEN + id
				: last->gpa + last->size + id;
}

static int check_layer(const struct snapshot_layer *layer, const struct guest_memory *mem,
		       struct error *err)
{
	uint64_t size = size_of(layer, mem);
	struct stat st;

	if (fstat(layer->fd, &st) < 0)
		return error_set(err, -errno, "%s/" SNAPSHOT_MEMORY, layer->path);
	if ((uint64_t)st.st_size != size)
		return error_usage(err,
				   "%s: " SNAPSHOT_MEMORY ": it has %lld bytes, and %llu are "
				   "needed",
				   layer->path, (long long)st.st_size, (unsigned long long)size);
	for (size_t i = 0; i < layer->table.count; i++) {
		const struct memory_run *run = &layer->table.run[i];

		if (!guest_ptr(mem, run->gpa, run->len))
			return error_usage(err,
					   "%s: section memory: this machine has no RAM of %" PRIu64
					   " bytes at 0x%" PRIx64,
					   layer->path, run->len, run->gpa);
	}
	return 0;
}

/* ---- frames ---------------------------------------------------------------------------------- */

struct unpacking {
	const struct snapshot_layer *layer;
	const struct guest_memory *mem;
	atomic_size_t next;    /* run that nobody has taken; relaxed: it orders nothing */
	atomic_int failed;     /* a negative errno; relaxed: it is looked at after the join */
	atomic_size_t bad_run; /* … of one that did */
};

static int read_whole(int fd, uint8_t *data, size_t len, uint64_t at)
{
	while (len > 0) {
		ssize_t n = pread(fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		data += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* A thread of its own, and the control thread. Runs don't overlap, so neither do their writes. */
static void *unpack(void *arg)
{
	struct unpacking *u = arg;
	const struct memory_table *t = &u->layer->table;
	size_t room = frame_bound(MEMORY_FRAME_MAX), i;
	CLEANUP_FREE uint8_t *frame = malloc(room);
	struct frame_unpacker *unpacker = NULL;
	int r = frame ? frame_unpacker_new(&unpacker) : -ENOMEM;

	if (r < 0)
		atomic_store_explicit(&u->failed, r, memory_order_relaxed);
	while (atomic_load_explicit(&u->failed, memory_order_relaxed) == 0 &&
	       (i = atomic_fetch_add_explicit(&u->next, 1, memory_order_relaxed)) < t->count) {
		const struct memory_run *run = &t->run[i];

		r = read_whole(u->layer->fd, frame, run->stored, run->at);
		if (r == 0)
			r = frame_unpack(unpacker, frame, run->stored,
					 guest_ptr(u->mem, run->gpa, run->len), (size_t)run->len);
		if (r < 0) {
			atomic_store_explicit(&u->bad_run, i, memory_order_relaxed);
			atomic_store_explicit(&u->failed, r, memory_order_relaxed);
		}
	}
	frame_unpacker_free(unpacker);
	return NULL;
}

static int unpack_layer(const struct snapshot_layer *layer, const struct guest_memory *mem,
			struct error *err)
{
	struct unpacking u = {.layer = layer, .mem = mem};
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t more = MIN((size_t)MAX(cpus, 1L), (size_t)UNPACKERS_MAX) - 1;
	pthread_t thread[UNPACKERS_MAX];
	size_t threads = 0;
	sigset_t all, before;
	int r;

	/* Signals are for the control thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (threads < MIN(more, layer->table.count) &&
	       pthread_create(&thread[threads], NULL, unpack, &u) == 0)
		threads++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	unpack(&u);
	while (threads > 0)
		pthread_join(thread[--threads], NULL);
	r = atomic_load_explicit(&u.failed, memory_order_relaxed);
	if (r == -EBADMSG)
		return error_usage(err,
				   "%s: " SNAPSHOT_MEMORY ": the frame for 0x%" PRIx64
				   " is damaged",
				   layer->path, layer->table.run[u.bad_run].gpa);
	return r < 0 ? error_set_shortage(err, r, "%s: reading " SNAPSHOT_MEMORY, layer->path) : 0;
}

/* ---- mappings -------------------------------------------------------------------------------- */

/* How many runs may be mappings of their own: each may split another in two, and half of all are
 * for the rest of the process. */
static size_t maps_budget(void)
{
	CLEANUP_FREE char *text = NULL;
	size_t len, most = MAPS_DEFAULT;

	if (file_read("/proc/sys/vm/max_map_count", 64, &text, &len) == 0)
		most = strtoul(text, NULL, 10);
	return most / 4;
}

/* A hole of a tmpfs file gets a page of its own when a mapping of it is read: there, what is empty
 * stays the guest's own zeros. */
static bool holes_fill(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* What is not empty of [at, end), in *ret: holes that are small are taken along. */
static bool next_data(int fd, uint64_t at, uint64_t end, struct guest_range *ret)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

	if (data < 0 || (uint64_t)data >= end)
		return false;
	ret->gpa = MAX(at, ALIGN_DOWN((uint64_t)data, HOLE_SMALL));
	for (;;) {
		hole = lseek(fd, data, SEEK_HOLE);
		ret->size = ALIGN_UP(MIN(hole < 0 ? end : (uint64_t)hole, end), HOLE_SMALL);
		ret->size = MIN(ret->size, end) - ret->gpa;
		if (hole < 0 || ret->gpa + ret->size == end)
			return true;
		data = lseek(fd, hole, SEEK_DATA);
		if (data < 0 || (uint64_t)data > ret->gpa + ret->size)
			return true;
	}
}

/* *budget: of mappings; the last of them has all that is left. */
static int map_data(const struct snapshot_layer *layer, struct guest_memory *mem,
		    const struct guest_range *range, size_t *budget, struct error *err)
{
	uint64_t at = range->gpa, end = at + range->size;
	struct guest_range data;
	int r = 0;

	for (; r == 0 && at < end && next_data(layer->fd, at, end, &data);
	     at = data.gpa + data.size) {
		if (*budget <= 1)
			data.size = end - data.gpa;
		else
			(*budget)--;
		r = guest_map_private_at(mem, data.gpa, data.size, layer->fd, data.gpa, err);
	}
	return r;
}

static int map_all(const struct snapshot_layer *layer, struct guest_memory *mem, size_t *budget,
		   struct error *err)
{
	bool data_alone = holes_fill(layer->fd) && !mem->hugepages;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < mem->count; i++) {
		const struct guest_range *range = &mem->region[i].range;

		r = data_alone ? map_data(layer, mem, range, budget, err)
			       : guest_map_private_at(mem, range->gpa, range->size, layer->fd,
						      range->gpa, err);
	}
	return r;
}

static int map_run(const struct snapshot_layer *layer, const struct guest_memory *mem,
		   const struct memory_run *run, struct error *err)
{
	if (mmap(guest_ptr(mem, run->gpa, run->len), (size_t)run->len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, layer->fd, (off_t)run->at) == MAP_FAILED)
		return error_set_shortage(err, -errno, "%s: mapping " SNAPSHOT_MEMORY, layer->path);
	return 0;
}

static int copy_run(const struct snapshot_layer *layer, const struct guest_memory *mem,
		    const struct memory_run *run, struct error *err)
{
	int r = read_whole(layer->fd, guest_ptr(mem, run->gpa, run->len), (size_t)run->len,
			   run->at);

	return r < 0 ? error_set_shortage(err, r, "%s: reading " SNAPSHOT_MEMORY, layer->path) : 0;
}

/* Pages of the file and of memory are another host's: where this one's are larger, a run may lie
 * across them. */
static bool can_map(const struct memory_run *run)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return run->gpa % page == 0 && run->len % page == 0 && run->at % page == 0;
}

/* few: all of them may be mapped. *budget: what is left of it. */
static int lay_runs(const struct snapshot_layer *layer, struct guest_memory *mem, bool few,
		    size_t *budget, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < layer->table.count; i++) {
		const struct memory_run *run = &layer->table.run[i];

		if (mem->hugepages || *budget == 0 || (!few && run->len < COPY_BELOW) ||
		    !can_map(run)) {
			r = copy_run(layer, mem, run, err);
		} else {
			r = map_run(layer, mem, run, err);
			(*budget)--;
		}
	}
	return r;
}

int snapshot_layers_lay(const struct snapshot_layers *l, struct guest_memory *mem,
			struct error *err)
{
	size_t budget = maps_budget(), runs = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < l->count; i++) {
		r = check_layer(&l->layer[i], mem, err);
		runs += l->layer[i].table.lz4 ? 0 : l->layer[i].table.count;
	}
	for (unsigned i = l->count; r == 0 && i-- > 0;) {
		const struct snapshot_layer *layer = &l->layer[i];

		if (has_all_raw(layer))
			r = map_all(layer, mem, &budget, err);
		else if (layer->table.lz4)
			r = unpack_layer(layer, mem, err);
		else
			r = lay_runs(layer, mem, runs <= budget, &budget, err);
	}
	for (unsigned i = 0; r == 0 && l->count > 1 && i < mem->count; i++)
		guest_advise(mem->region[i].host, (size_t)mem->region[i].range.size);
	return r;
}

/* ---- page by page --------------------------------------------------------------------------- */

struct window {
	uint8_t *data; /* owned; NULL: not used yet */
	uint64_t from, to;
};

struct layers_reader {
	const struct snapshot_layers *layers;
	struct window window[SNAPSHOT_LAYERS_MAX];
	struct frame_unpacker *unpacker;
	uint8_t *frame;
};

int layers_reader_new(const struct snapshot_layers *l, struct layers_reader **ret_r)
{
	struct layers_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->layers = l;
	r->frame = malloc(frame_bound(MEMORY_FRAME_MAX));
	if (!r->frame || frame_unpacker_new(&r->unpacker) < 0) {
		layers_reader_free(r);
		return -ENOMEM;
	}
	*ret_r = r;
	return 0;
}

void layers_reader_free(struct layers_reader *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < SNAPSHOT_LAYERS_MAX; i++)
		free(r->window[i].data);
	frame_unpacker_free(r->unpacker);
	free(r->frame);
	free(r);
}

static int fill_raw(const struct snapshot_layer *layer, struct window *w, uint64_t gpa)
{
	uint64_t from = ALIGN_DOWN(gpa, (uint64_t)WINDOW);
	ssize_t n;

	do
		n = pread(layer->fd, w->data, WINDOW, (off_t)from);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	w->from = from;
	w->to = from + ALIGN_DOWN((uint64_t)n, (uint64_t)MEMORY_PAGE);
	return gpa < w->to ? 0 : -ENODATA;
}

static int fill_frame(struct layers_reader *r, const struct snapshot_layer *layer, struct window *w,
		      const struct memory_run *run)
{
	int code = read_whole(layer->fd, r->frame, run->stored, run->at);

	if (code == 0)
		code = frame_unpack(r->unpacker, r->frame, run->stored, w->data, (size_t)run->len);
	if (code < 0)
		return code;
	w->from = run->gpa;
	w->to = run->gpa + run->len;
	return 0;
}

int layers_reader_page(struct layers_reader *r, uint64_t gpa, const uint8_t **ret_page)
{
	static const uint8_t zeros[MEMORY_PAGE];

	assert(gpa % MEMORY_PAGE == 0);
	for (unsigned i = 0; i < r->layers->count; i++) {
		const struct snapshot_layer *layer = &r->layers->layer[i];
		const struct memory_run *run = memory_table_find(&layer->table, gpa);
		struct window *w = &r->window[i];
		int code = 0;

		if (!run && !has_all_raw(layer)) {
			if (layer->table.partial)
				continue;
			*ret_page = zeros;
			return 0;
		}
		if (!w->data) {
			w->data = malloc(layer->table.lz4 ? MEMORY_FRAME_MAX : WINDOW);
			if (!w->data)
				return -ENOMEM;
		}
		if (gpa < w->from || gpa >= w->to) {
			/* What it had is gone, also where it can't be filled. */
			w->from = w->to = 0;
			code = layer->table.lz4 ? fill_frame(r, layer, w, run)
						: fill_raw(layer, w, gpa);
		}
		if (code == 0)
			*ret_page = w->data + (gpa - w->from);
		return code;
	}
	return -ENODATA;
}
