/* A lab without a machine: a keeper whose "L1" is an agent process on socket pairs that runs
 * /bin/sh in place of stasis, and clients with pipes for their streams. For the lab's tests. */
#ifndef STASIS_TESTS_VM_LAB_FAKE_H
#define STASIS_TESTS_VM_LAB_FAKE_H

#include <sys/types.h>

#include "vm/lab/keeper.h"
#include "vm/lab/lab.h"

struct lab_fake {
	char dir[64]; /* the agent's, and the keeper's socket */
	pid_t keeper;
	int fd; /* the first client's connection, until a run takes it */
};

enum lab_fake_trouble {
	LAB_FAKE_FINE,
	LAB_FAKE_NO_MACHINE, /* start fails */
	LAB_FAKE_DIES,	     /* the machine ends while it boots, after some words */
	LAB_FAKE_NO_AGENT,   /* init says that it could not be started */
	LAB_FAKE_NOISE,	     /* the agent says what is no frame */
};

/* listening: other clients can come, and it outlives the first. */
void lab_fake_start(struct lab_fake *l, bool listening, enum lab_fake_trouble trouble);
/* The keeper has ended, or is made to; the folder goes. */
void lab_fake_stop(struct lab_fake *l);
/* Another connection. */
int lab_fake_connect(const struct lab_fake *l);

/* A client in a process of its own. */
struct lab_client {
	pid_t pid;
	int in, out, err; /* our ends of its standard streams; -1: closed */
};

/* fd is taken. The request runs in /bin/sh: its argv is sh's. */
void lab_client_start(struct lab_client *c, int fd, const struct lab_request *request);
/* Reads standard output and error to their ends (malloc'ed, NUL behind), and gives the status; for
 * a failure of the lab's 300 + its error_exit_status. Input is closed before. */
int lab_client_end(struct lab_client *c, char **ret_out, char **ret_err);

#endif
