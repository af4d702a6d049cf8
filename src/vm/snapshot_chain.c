/* Opens a snapshot's folder, and the folders of its bases. */
#include "vm/snapshot_chain.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/snapshot_file.h"
#include "vm/snapshot_names.h"

#define STATE_MAX GIB(1)

/* What the memory ends with is what the description says. An older one has no id. */
static int check_id(int fd, const char *id, struct error *err)
{
	char end[SNAPSHOT_ID_LEN] = "";
	struct stat st;

	if (!id[0])
		return 0;
	if (fstat(fd, &st) < 0 || st.st_size < SNAPSHOT_ID_LEN ||
	    pread(fd, end, sizeof(end), st.st_size - SNAPSHOT_ID_LEN) != SNAPSHOT_ID_LEN)
		return error_usage(err, SNAPSHOT_MEMORY ": its end can't be read");
	return memcmp(end, id, SNAPSHOT_ID_LEN) == 0
		       ? 0
		       : error_usage(err, SNAPSHOT_MEMORY ": it is another snapshot's, or cut off");
}

static int take_table(struct snapshot_top *top, const struct vm_config *c, struct memory_table *t,
		      struct error *err)
{
	struct state_io io;
	int r;

	if (!snapshot_has(&top->state, SNAPSHOT_TABLE))
		return c->snapshot_base ? error_usage(err, "section " SNAPSHOT_TABLE " is missing")
					: 0;
	r = snapshot_take(&top->state, SNAPSHOT_TABLE, SNAPSHOT_TABLE_VERSION, &io, err);
	if (r < 0)
		return r;
	memory_table_state(t, &io);
	r = state_result(&io, err);
	if (r == 0 && t->partial != (c->snapshot_base != NULL))
		r = error_usage(err, "section " SNAPSHOT_TABLE
				     " and the description don't agree on whether it has a base");
	return r;
}

static int read_files(const struct snapshot_files *files, struct vm_config *c,
		      struct snapshot_top *top, struct memory_table *table, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	size_t text_len = 0;
	int code = snapshot_file_read(files->description, SNAPSHOT_DESCRIPTION,
				      SNAPSHOT_DESCRIPTION_MAX, &text, &text_len, err);

	if (code == 0)
		code = snapshot_file_read(files->state, SNAPSHOT_STATE, STATE_MAX,
					  (char **)&top->data, &top->len, err);
	/* First that it is whole, then what it says. */
	if (code == 0)
		code = snapshot_decode(top->data, top->len, text, text_len, &top->state, err);
	if (code == 0)
		code = snapshot_read_description(text, text_len, c, err);
	if (code == 0)
		code = take_table(top, c, table, err);
	return code < 0 ? code : check_id(files->memory, c->snapshot_id, err);
}

/* The folder at path as the next layer. */
static int read_folder(const char *path, struct vm_config *c, struct snapshot_top *top,
		       struct snapshot_layers *layers, struct error *err)
{
	struct snapshot_layer *layer = &layers->layer[layers->count];
	struct snapshot_files files;
	int code = snapshot_files_open(path, &files, err);

	if (code < 0)
		return code;
	*layer = (struct snapshot_layer){.path = strdup(path), .fd = -1};
	layers->count++;
	code = layer->path ? read_files(&files, c, top, &layer->table, err)
			   : error_set(err, -ENOMEM, "reading a snapshot");
	if (code == 0) {
		memcpy(layer->id, c->snapshot_id, sizeof(layer->id));
		layer->fd = files.memory;
		files.memory = -1;
	}
	snapshot_files_close(&files);
	return code;
}

/* … of what the one at path, which c describes, differs from. The caller frees *ret_path. */
static int read_base(const char *path, const struct vm_config *c, struct vm_config *base,
		     struct snapshot_layers *layers, char **ret_path, struct error *err)
{
	char *at = c->snapshot_base[0] == '/' ? strdup(c->snapshot_base)
					      : text_format("%s/%s", path, c->snapshot_base);
	struct snapshot_top top = {0};
	struct error inner = {0};
	int code;

	if (!at)
		return error_set(err, -ENOMEM, "reading a snapshot");
	*ret_path = at;
	if (layers->count == SNAPSHOT_LAYERS_MAX)
		return error_usage(err,
				   "more than %d snapshots, each of which differs from the next",
				   SNAPSHOT_LAYERS_MAX);
	code = read_folder(at, base, &top, layers, &inner);
	snapshot_top_done(&top);
	if (code == 0 && strcmp(base->snapshot_id, c->snapshot_base_id))
		code = error_usage(&inner, "it is another snapshot than the one that was saved "
					   "there");
	if (code == 0)
		return 0;
	return inner.kind == ERROR_USAGE ? error_usage(err, "its base %s: %s", at, inner.what)
					 : error_set(err, code, "its base %s: %s", at, inner.what);
}

int snapshot_chain_open(const char *path, struct vm_config *c, struct snapshot_top *ret_top,
			struct snapshot_layers *ret_layers, struct error *err)
{
	CLEANUP_FREE char *at = NULL;
	struct vm_config below = {0};
	int r = read_folder(path, c, ret_top, ret_layers, err);

	if (r == 0 && c->snapshot_base)
		r = read_base(path, c, &below, ret_layers, &at, err);
	while (r == 0 && below.snapshot_base) {
		struct vm_config next = {0};
		char *next_at = NULL;

		r = read_base(at, &below, &next, ret_layers, &next_at, err);
		vm_config_done(&below);
		below = next;
		free(at);
		at = next_at;
	}
	vm_config_done(&below);
	return r;
}

void snapshot_top_done(struct snapshot_top *top)
{
	snapshot_state_done(&top->state);
	free(top->data);
	*top = (struct snapshot_top){0};
}
