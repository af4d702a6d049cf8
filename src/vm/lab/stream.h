/* One channel of a session at one of its ends. A source reads a descriptor and sends DATA within
 * the window; a sink keeps DATA until a descriptor takes it, and gives CREDIT back. No descriptor
 * ever blocks the loop. Owned by the thread that owns the wire. */
#ifndef STASIS_VM_LAB_STREAM_H
#define STASIS_VM_LAB_STREAM_H

#include <stdbool.h>

#include "vm/lab/pollset.h"
#include "vm/lab/wire.h"

enum stream_kind {
	STREAM_NONBLOCKING, /* O_NONBLOCK is ours to have */
	STREAM_SOCKET,	    /* somebody else's: MSG_DONTWAIT */
	STREAM_FILE,	    /* never blocks for long */
	STREAM_BLOCKING,    /* somebody else's: what poll promises, and no more */
};

struct stream_fd {
	int fd;
	bool owned;
	enum stream_kind kind;
};

/* Makes fd, which is ours, non-blocking. */
int stream_fd_own(int fd, struct stream_fd *ret) MUST_CHECK;
/* For a descriptor that other processes share and that keeps its flags: pipes and terminals are
 * opened once more where that is allowed. */
struct stream_fd stream_fd_share(int fd, bool writing);
void stream_fd_done(struct stream_fd *s);

struct source {
	struct stream_fd io;
	uint8_t channel;
	uint32_t credit;
	uint64_t left; /* bytes that may still be read */
	bool finished; /* EOF was sent, or nobody reads */
	int slot;
};

void source_init(struct source *s, struct stream_fd io, uint8_t channel);
void source_poll(struct source *s, struct pollset *set, const struct wire *w);
/* Negative: the wire failed. */
int source_work(struct source *s, const struct pollset *set, struct wire *w,
		uint32_t session) MUST_CHECK;
/* From now on no more is read than is there at this moment; then EOF. */
void source_drain(struct source *s);
/* CREDIT came: -EBADMSG where it is more than the window. */
int source_credit(struct source *s, uint32_t bytes) MUST_CHECK;
/* Nobody reads any more, or none should. Accepts one that is finished. */
void source_stop(struct source *s);

struct sink {
	struct stream_fd io;
	uint8_t channel;
	uint8_t *ring; /* FRAME_WINDOW bytes */
	uint32_t head, len;
	uint32_t used; /* of which no CREDIT was sent yet */
	bool eof;      /* no more DATA comes */
	bool broken;   /* the descriptor takes no more; CLOSED is to be sent */
	bool finished;
	int slot;
};

/* Takes io on failure too. */
int sink_init(struct sink *s, struct stream_fd io, uint8_t channel) MUST_CHECK;
void sink_done(struct sink *s); /* accepts a finished one */
/* DATA came: -EBADMSG where it is more than the window. */
int sink_take(struct sink *s, const uint8_t *data, uint32_t len) MUST_CHECK;
/* EOF came. */
void sink_end(struct sink *s);
void sink_poll(struct sink *s, struct pollset *set);
/* Negative: the wire failed. */
int sink_work(struct sink *s, const struct pollset *set, struct wire *w,
	      uint32_t session) MUST_CHECK;

#endif
