/* COMMAND's life, served: its streams, its signals, its end; and every orphan's end. Knows file
 * descriptors and not what is behind them. One thread: init's. */
#ifndef STASIS_GUEST_INIT_SERVE_H
#define STASIS_GUEST_INIT_SERVE_H

#include <stdbool.h>
#include <sys/types.h>

#include "guest/init/command.h"
#include "guest/init/control.h"
#include "guest/init/relay.h"

enum serve_stream { SERVE_STDIN, SERVE_STDOUT, SERVE_STDERR, SERVE_STREAMS };

struct serve {
	struct control control;
	struct relay relay[SERVE_STREAMS]; /* finished ones where COMMAND has the terminal */
	int child_fd;			   /* signalfd of SIGCHLD */
	int tty;			   /* the console that has a size; -1: none */
	pid_t command;			   /* 0: not running */
	bool ended;			   /* wait_status is COMMAND's */
	int wait_status;
	bool stdin_told; /* "closed stdin" has been sent, or need not be */
	bool go;	 /* the host wants COMMAND started */
	bool bye;	 /* the host wants the machine off */
};

/* Blocks SIGCHLD and ignores SIGPIPE for the process. control_fd is borrowed. */
int serve_init(struct serve *s, int control_fd) MUST_CHECK;
void serve_done(struct serve *s);

/* Starts a command with pipes for streams, relayed to and from ports[SERVE_STREAMS] (borrowed,
 * non-blocking); or, with ports NULL, on c's own stdio. Says started or failed.
 * False: it couldn't be started. */
bool serve_start(struct serve *s, struct command *c, const int *ports);
/* Until COMMAND has ended and what it wrote has been sent. Background children that hold the
 * pipes are not waited for. False: the host said bye, or is gone; COMMAND may still run. */
bool serve_run(struct serve *s);
/* Says exited or signalled. */
void serve_tell_end(struct serve *s);
/* Until the host says go. False: it said bye, or is gone. */
bool serve_wait_go(struct serve *s);
/* Until the host says bye or is gone. */
void serve_wait_bye(struct serve *s);

#endif
