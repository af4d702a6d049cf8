/* What is in the payloads of frames. Encoders write into a buffer of FRAME_PAYLOAD_MAX and return
 * the length; decoders take hostile bytes, and -EBADMSG is all that they say of bad ones. */
#ifndef STASIS_VM_LAB_MESSAGE_H
#define STASIS_VM_LAB_MESSAGE_H

#include <stdbool.h>

#include "base/error.h"
#include "vm/lab/frame.h"

#define MESSAGE_VERSION 1
#define MESSAGE_HASH	16 /* XXH3, 128 bits */

/* The layout stays in every version: another build's lab can be looked at and stopped. */
struct message_hello {
	uint32_t version;
	bool ready;
	uint32_t pid, sessions;
	uint64_t memory_bytes;
	uint64_t boot_ns;	       /* 0 until ready */
	uint8_t program[MESSAGE_HASH]; /* of the stasis that is inside */
};

struct message_want {
	uint8_t hash[MESSAGE_HASH];
	uint64_t size;
};

struct message_open {
	bool terminal; /* standard input and output are one terminal */
	uint16_t rows, cols;
	char **argv, **outputs; /* NULL at their ends; outputs are single path components */
	char *text;		/* decoded: where the strings are, owned */
};

struct message_exit {
	bool signalled;
	uint8_t value; /* status or signal */
};

size_t message_put_hello(uint8_t *payload, const struct message_hello *m);
int message_get_hello(const struct frame *f, struct message_hello *ret) MUST_CHECK;
size_t message_put_want(uint8_t *payload, const struct message_want *m);
int message_get_want(const struct frame *f, struct message_want *ret) MUST_CHECK;
/* -E2BIG when the strings don't fit. */
ssize_t message_put_open(uint8_t *payload, const struct message_open *m) MUST_CHECK;
/* -ENOMEM too. What it gives, message_open_done takes. */
int message_get_open(const struct frame *f, struct message_open *ret) MUST_CHECK;
void message_open_done(struct message_open *m); /* accepts a zeroed one */
size_t message_put_exit(uint8_t *payload, const struct message_exit *m);
int message_get_exit(const struct frame *f, struct message_exit *ret) MUST_CHECK;
/* Kind, text and hint of err. */
size_t message_put_error(uint8_t *payload, const struct error *err);
/* Records what the other end said in err; returns the code that it has there. */
int message_get_error(const struct frame *f, struct error *err);

#endif
