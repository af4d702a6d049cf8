/* A session as the agent has it: its files, then a program with its streams, then its output
 * files, then its status. Owned by the agent's thread. */
#ifndef STASIS_VM_LAB_JOB_H
#define STASIS_VM_LAB_JOB_H

#include <sys/queue.h>
#include <sys/types.h>

#include "vm/lab/cache.h"
#include "vm/lab/stream.h"

#define JOB_FILES_MAX 64

enum job_state {
	JOB_FILES,   /* the client brings what it needs */
	JOB_RUNNING, /* the program runs, or its last output is on its way */
	JOB_OUTPUTS, /* output files are on their way */
	JOB_OVER,    /* EXIT or ERROR was sent; to be freed when no process is left */
};

struct job {
	LIST_ENTRY(job) link;
	uint32_t id;
	enum job_state state;
	struct cache *cache;
	struct wire *wire; /* to the keeper */
	char *dir;	   /* the program's working directory, and its alone */
	struct cache_entry *file[JOB_FILES_MAX];
	unsigned file_count;
	struct cache_upload *upload; /* the next file, while it comes */
	pid_t pid;		     /* 0: none */
	struct message_exit exit;
	struct sink in;
	struct source out, err;
	int tty;		  /* the program's terminal, our side; -1: none */
	struct message_open open; /* what was asked for */
	size_t next_output;
	struct source output; /* the output file under way */
};

/* dir must not be there; its parent is. */
int job_new(uint32_t id, const char *dir, struct cache *cache, struct wire *wire,
	    struct job **ret_job, struct error *err) MUST_CHECK;
/* No process is left. Accepts NULL. */
void job_free(struct job *j);

/* A frame of this session. program: what runs. A failure of the session's
 * own is told to the client and ends the job; negative only where the wire failed. */
int job_frame(struct job *j, const struct frame *f, const char *program) MUST_CHECK;
/* The client is gone, or the session failed: nothing is sent any more. */
void job_kill(struct job *j);
/* The program has ended. */
void job_ended(struct job *j, int wait_status);
void job_poll(struct job *j, struct pollset *set);
/* Moves what can be moved. Negative: the wire failed. */
int job_work(struct job *j, const struct pollset *set) MUST_CHECK;

#endif
