/* Payloads to bytes and back, bounded. Any thread. */
#include "vm/lab/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* ---- writing: the callers know that it fits ------------------------------------------------ */

struct writer {
	uint8_t *data;
	size_t len;
};

static void put_bytes(struct writer *w, const void *data, size_t len)
{
	memcpy(w->data + w->len, data, len);
	w->len += len;
}

static void put_number(struct writer *w, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		w->data[w->len++] = (uint8_t)(v >> (8 * i));
}

static void put_string(struct writer *w, const char *text)
{
	put_bytes(w, text, strlen(text) + 1);
}

/* ---- reading: past the end it gives zeros, and is not ok ----------------------------------- */

struct reader {
	const uint8_t *data;
	size_t left;
	bool ok;
};

static struct reader reader_of(const struct frame *f)
{
	return (struct reader){.data = f->payload, .left = f->len, .ok = true};
}

static const uint8_t *get_bytes(struct reader *r, size_t len)
{
	const uint8_t *data = r->data;

	if (len > r->left) {
		r->ok = false;
		r->left = 0;
		return NULL;
	}
	r->data += len;
	r->left -= len;
	return data;
}

static uint64_t get_number(struct reader *r, unsigned bytes)
{
	const uint8_t *data = get_bytes(r, bytes);
	uint64_t v = 0;

	for (unsigned i = 0; data && i < bytes; i++)
		v |= (uint64_t)data[i] << (8 * i);
	return v;
}

/* A string with its NUL, still in the payload; "" where there is none. */
static const char *get_string(struct reader *r)
{
	const uint8_t *end = r->left ? memchr(r->data, 0, r->left) : NULL;

	if (!end) {
		r->ok = false;
		r->left = 0;
		return "";
	}
	return (const char *)get_bytes(r, (size_t)(end - r->data) + 1);
}

static void get_text(struct reader *r, char *text, size_t size)
{
	const char *from = get_string(r);

	if (strlen(from) >= size)
		r->ok = false;
	else
		strcpy(text, from);
}

static void get_hash(struct reader *r, uint8_t *hash)
{
	const uint8_t *data = get_bytes(r, MESSAGE_HASH);

	if (data)
		memcpy(hash, data, MESSAGE_HASH);
}

static int finish(const struct reader *r)
{
	return r->ok ? 0 : -EBADMSG;
}

/* ---- messages ------------------------------------------------------------------------------ */

size_t message_put_hello(uint8_t *payload, const struct message_hello *m)
{
	struct writer w = {.data = payload};

	put_number(&w, m->version, 4);
	put_number(&w, m->ready, 4);
	put_number(&w, m->pid, 4);
	put_number(&w, m->sessions, 4);
	put_number(&w, m->memory_bytes, 8);
	put_number(&w, m->boot_ns, 8);
	put_bytes(&w, m->program, MESSAGE_HASH);

	return w.len;
}

int message_get_hello(const struct frame *f, struct message_hello *ret)
{
	struct reader r = reader_of(f);
	struct message_hello m = {0};

	m.version = (uint32_t)get_number(&r, 4);
	m.ready = get_number(&r, 4) != 0;
	m.pid = (uint32_t)get_number(&r, 4);
	m.sessions = (uint32_t)get_number(&r, 4);
	m.memory_bytes = get_number(&r, 8);
	m.boot_ns = get_number(&r, 8);
	get_hash(&r, m.program);

	if (r.ok)
		*ret = m;
	return finish(&r);
}

size_t message_put_want(uint8_t *payload, const struct message_want *m)
{
	struct writer w = {.data = payload};

	put_bytes(&w, m->hash, MESSAGE_HASH);
	put_number(&w, m->size, 8);

	return w.len;
}

int message_get_want(const struct frame *f, struct message_want *ret)
{
	struct reader r = reader_of(f);
	struct message_want m = {0};

	get_hash(&r, m.hash);
	m.size = get_number(&r, 8);

	if (r.ok)
		*ret = m;
	return finish(&r);
}

static size_t count_strings(char *const *strings, size_t *len)
{
	size_t n = 0;

	for (; strings && strings[n]; n++)
		*len += strlen(strings[n]) + 1;
	return n;
}

ssize_t message_put_open(uint8_t *payload, const struct message_open *m)
{
	struct writer w = {.data = payload};
	size_t len = 4 + 2 + 2 + 4 + 4;
	size_t argc = count_strings(m->argv, &len), outputs = count_strings(m->outputs, &len);

	if (len > FRAME_PAYLOAD_MAX)
		return -E2BIG;
	put_number(&w, m->terminal, 4);
	put_number(&w, m->rows, 2);
	put_number(&w, m->cols, 2);
	put_number(&w, argc, 4);
	put_number(&w, outputs, 4);
	for (size_t i = 0; i < argc; i++)
		put_string(&w, m->argv[i]);
	for (size_t i = 0; i < outputs; i++)
		put_string(&w, m->outputs[i]);
	return (ssize_t)w.len;
}

/* The next count strings of r, which has been checked to hold at least as many bytes. */
static char **get_vector(struct reader *r, size_t count)
{
	char **vector = calloc(count + 1, sizeof(*vector));

	for (size_t i = 0; vector && i < count; i++)
		vector[i] = (char *)get_string(r);
	return vector;
}

static bool is_file_name(const char *name)
{
	return name[0] && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

int message_get_open(const struct frame *f, struct message_open *ret)
{
	struct reader r = reader_of(f);
	struct message_open m = {0};
	size_t argc, outputs, len;

	m.terminal = get_number(&r, 4) != 0;
	m.rows = (uint16_t)get_number(&r, 2);
	m.cols = (uint16_t)get_number(&r, 2);

	argc = (size_t)get_number(&r, 4);
	outputs = (size_t)get_number(&r, 4);
	/* Each string takes at least its NUL. */
	if (!r.ok || argc > r.left || outputs > r.left)
		return -EBADMSG;
	len = r.left;
	m.text = malloc(len);
	if (!m.text)
		return -ENOMEM;
	memcpy(m.text, r.data, len);
	r.data = (const uint8_t *)m.text;
	m.argv = get_vector(&r, argc);
	m.outputs = get_vector(&r, outputs);
	for (size_t i = 0; m.outputs && i < outputs; i++)
		r.ok = r.ok && is_file_name(m.outputs[i]);
	if (!m.argv || !m.outputs || !r.ok) {
		int err = m.argv && m.outputs ? -EBADMSG : -ENOMEM;

		message_open_done(&m);
		return err;
	}
	*ret = m;
	return 0;
}

void message_open_done(struct message_open *m)
{
	free(m->argv);
	free(m->outputs);
	free(m->text);
	*m = (struct message_open){0};
}

size_t message_put_exit(uint8_t *payload, const struct message_exit *m)
{
	payload[0] = m->signalled;
	payload[1] = m->value;
	return 2;
}

int message_get_exit(const struct frame *f, struct message_exit *ret)
{
	if (f->len != 2)
		return -EBADMSG;
	ret->signalled = f->payload[0] != 0;
	ret->value = f->payload[1];
	return 0;
}

size_t message_put_error(uint8_t *payload, const struct error *err)
{
	struct writer w = {.data = payload};

	put_number(&w, (uint64_t)err->kind, 1);
	put_number(&w, (uint64_t)-err->code, 4);
	put_string(&w, err->what);
	put_string(&w, err->hint);
	return w.len;
}

int message_get_error(const struct frame *f, struct error *err)
{
	struct reader r = reader_of(f);
	struct error m = {0};
	uint64_t kind = get_number(&r, 1), code = get_number(&r, 4);

	get_text(&r, m.what, sizeof(m.what));
	get_text(&r, m.hint, sizeof(m.hint));
	if (!r.ok || kind > ERROR_CONTENTION || code == 0 || code > 4095)
		return error_set(err, -EBADMSG, "hearing what went wrong in the lab");
	text_one_line(m.what);
	text_one_line(m.hint);
	m.kind = (enum error_kind)kind;
	m.code = -(int)code;
	if (err && !err->code)
		*err = m;
	return m.code;
}
