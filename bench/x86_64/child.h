/* Programs that run a VM of their own and say when: the product's, and the floor's. A program says
 * it by writing a struct child_stamp to the descriptor that CHILD_FD names. Main thread. */
#ifndef STASIS_BENCH_CHILD_H
#define STASIS_BENCH_CHILD_H

#include <sys/types.h>

#include "bench.h"

#define CHILD_FD "STASIS_BENCH_FD"

/* In the child, before its first KVM_RUN; once. Any thread. */
void child_stamp(void);

struct child {
	pid_t pid;
	int fd; /* the stamp comes from here; a stream socket */
	uint64_t began_ns, entered_ns;
};

/* Between child_folder_make and _remove: starts argv, on both host CPUs of b, and waits for its
 * stamp. out_fd: its standard output; -1: none. On failure it has ended. */
int child_start(const struct bench *b, char *const *argv, int out_fd, struct child *ret_child,
		struct error *err) MUST_CHECK;
/* The first line of what the last one that was started wrote to its standard error: it says why.
 * malloc'ed; NULL: nothing. */
char *child_said(void);
/* Waits for its end; signo is sent before, if not 0. */
void child_end(struct child *child, int signo);
/* Memory that is its alone and not its guest's, in bytes: private dirty pages, but for mappings
 * that neither cores nor forked children get. */
int child_private(const struct child *child, double *ret_bytes, struct error *err) MUST_CHECK;

/* The product's command line: so many vCPUs with 256 MiB on a guest that is beside this program
 * ("bench-halt.elf"). program is beside it, too; NULL: the one that --stasis names, or
 * bench-stasis. Entries are freed by child_argv_free. */
char **child_product_argv(const struct bench *b, const char *program, unsigned vcpus,
			  const char *guest, struct error *err) MUST_CHECK;
char **child_floor_argv(const struct bench *b, unsigned vcpus, const char *guest,
			struct error *err) MUST_CHECK;
/* The floor whose memory is that of a snapshot's folder. */
char **child_floor_restore_argv(const struct bench *b, const char *folder,
				struct error *err) MUST_CHECK;
/* QEMU's smallest machine with the same guest; preload, beside this program, is loaded into it. */
#define CHILD_PEER "qemu-system-x86_64"
char **child_peer_argv(const struct bench *b, const char *preload, unsigned vcpus,
		       const char *guest, struct error *err) MUST_CHECK;
/* Whether there is a CHILD_PEER on the PATH. */
bool child_peer_is_there(void);
/* Words are malloc'ed, and taken, even on failure. */
char **child_argv(char *const *words, size_t n, struct error *err) MUST_CHECK;
/* Adds n words. Takes argv, which may be NULL, and the words, which are malloc'ed, even on
 * failure: NULL, with err set. */
char **child_argv_add(char **argv, char *const *words, size_t n, struct error *err) MUST_CHECK;
void child_argv_free(char **argv);

/* An empty folder for what the product's processes leave, as XDG_RUNTIME_DIR. The name is
 * malloc'ed. */
int child_folder_make(const struct bench *b, char **ret_path, struct error *err) MUST_CHECK;
void child_folder_remove(char *path); /* accepts NULL; frees */

#endif
