/* A client's files: those that go to the lab, and those that come back. Control thread. */
#ifndef STASIS_VM_LAB_TRANSFER_H
#define STASIS_VM_LAB_TRANSFER_H

#include "vm/lab/lab.h"
#include "vm/lab/message.h"
#include "vm/lab/wire.h"

/* One after another: WANT, the agent's HAVE, and the bytes if it lacks them. */
struct sending {
	const struct lab_file *files;
	size_t count, next; /* files before next are there, or the last of them is under way */
	uint64_t left, at;  /* of the one under way */
	bool asked;	    /* WANT was sent, HAVE not heard */
};

void sending_init(struct sending *s, const struct lab_file *files, size_t count);
/* Does what can be done now. */
int sending_work(struct sending *s, struct wire *w, struct error *err) MUST_CHECK;
int sending_have(struct sending *s, const struct frame *f) MUST_CHECK;
static inline bool sending_finished(const struct sending *s)
{
	return s->next == s->count && !s->asked && s->left == 0;
}

struct receiving {
	const struct lab_output *outputs;
	size_t count;
	size_t number; /* of the one under way; count: none */
	uint32_t used; /* bytes without CREDIT yet */
	int failed;    /* the first output that could not be written: a negative errno */
};

void receiving_init(struct receiving *v, const struct lab_output *outputs, size_t count);
/* OUTFILE, and DATA and EOF on FILES. Negative: the other end breaks the rules, or the wire
 * failed. What can't be written here is passed over and kept in mind. */
int receiving_frame(struct receiving *v, const struct frame *f, struct wire *w) MUST_CHECK;

#endif
