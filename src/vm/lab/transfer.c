/* Files of a session, at the client's end. Control thread. */
#include "vm/lab/transfer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "vm/lab/digest.h"

void sending_init(struct sending *s, const struct lab_file *files, size_t count)
{
	*s = (struct sending){.files = files, .count = count};
}

static int ask_for_next(struct sending *s, struct wire *w, struct error *err)
{
	const struct lab_file *file = &s->files[s->next];
	uint8_t payload[sizeof(struct message_want)];
	struct message_want m = {0};
	struct stat st;
	int r = digest_from_hex(file->hash, m.hash);

	if (r == 0)
		r = fstat(file->fd, &st) < 0 ? -errno : 0;
	if (r < 0)
		return error_set(err, r, "reading a file for the lab");
	m.size = (uint64_t)st.st_size;
	s->left = m.size;
	s->at = 0;
	s->asked = true;
	s->next++;
	r = wire_send(w, 0, FRAME_WANT, 0, payload, message_put_want(payload, &m));
	return r < 0 ? error_set(err, r, "sending a file to the lab") : 0;
}

static int send_some(struct sending *s, struct wire *w, struct error *err)
{
	size_t len = (size_t)MIN(s->left, (uint64_t)FRAME_PAYLOAD_MAX);
	uint8_t chunk[FRAME_PAYLOAD_MAX];
	ssize_t n = pread(s->files[s->next - 1].fd, chunk, len, (off_t)s->at);
	int r;

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0)
		return error_set(err, -errno, "reading a file for the lab");
	/* Shorter than it was: its digest won't fit either, and the agent says so. */
	if ((size_t)n < len)
		memset(chunk + n, 0, len - (size_t)n);
	s->at += len;
	s->left -= len;
	r = wire_send(w, 0, FRAME_DATA, FRAME_FILES, chunk, len);
	return r < 0 ? error_set(err, r, "sending a file to the lab") : 0;
}

int sending_work(struct sending *s, struct wire *w, struct error *err)
{
	int r = 0;

	while (r == 0 && !s->asked && !wire_busy(w)) {
		if (s->left)
			r = send_some(s, w, err);
		else if (s->next < s->count)
			r = ask_for_next(s, w, err);
		else
			break;
	}
	return r;
}

int sending_have(struct sending *s, const struct frame *f)
{
	if (!s->asked || f->len != 1)
		return -EBADMSG;
	s->asked = false;
	if (f->payload[0])
		s->left = 0;
	return 0;
}

/* ---- back ---------------------------------------------------------------------------------- */

void receiving_init(struct receiving *v, const struct lab_output *outputs, size_t count)
{
	*v = (struct receiving){.outputs = outputs, .count = count, .number = count};
}

int receiving_frame(struct receiving *v, const struct frame *f, struct wire *w)
{
	bool begun = v->number < v->count;
	int r;

	if (f->type == FRAME_OUTFILE) {
		if (begun || f->len != 4 || frame_get32(f->payload) >= v->count)
			return -EBADMSG;
		v->number = frame_get32(f->payload);
		return 0;
	}
	if (!begun)
		return -EBADMSG;
	if (f->type == FRAME_EOF) {
		v->number = v->count;
		return 0;
	}
	if (v->failed == 0)
		v->failed = fd_write_all(v->outputs[v->number].fd, f->payload, f->len);
	v->used += f->len;
	if (v->used < FRAME_WINDOW / 4)
		return 0;
	r = wire_send32(w, 0, FRAME_CREDIT, FRAME_FILES, v->used);
	v->used = 0;
	return r;
}
