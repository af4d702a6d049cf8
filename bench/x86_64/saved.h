/* A machine of the measured program that can be saved, with 64 of its 256 MiB in use, and what is
 * saved of it. Main thread. */
#ifndef STASIS_BENCH_SAVED_H
#define STASIS_BENCH_SAVED_H

#include "child.h"
#include "vm/qmp/client.h"

struct saved {
	struct child child; /* pid 0: none */
	struct qmp_client client;
};

/* work: child_folder_make's, where its socket goes. On failure nothing is left. */
int saved_start(const struct bench *b, const char *work, struct saved *ret_saved,
		struct error *err) MUST_CHECK;
/* "stop": its vCPU takes no CPU from then on; "cont": it goes on. */
int saved_tell(struct saved *s, const char *command, struct error *err) MUST_CHECK;
/* From the command to the answer; the machine goes on. */
int saved_save(struct saved *s, const char *folder, struct error *err) MUST_CHECK;
/* Accepts one of zeros. */
void saved_end(struct saved *s);
/* Of the memory in a snapshot's folder, what is no hole. */
int saved_bytes(const char *folder, uint64_t *ret_bytes, struct error *err) MUST_CHECK;
/* The guest that goes on from there begins to touch its working set at once. */
int saved_release(const char *folder, struct error *err) MUST_CHECK;

#endif
