/* The signals that stop or resize a run: blocked here, read from a descriptor by who runs it. */
#ifndef STASIS_CLI_SIGNALS_H
#define STASIS_CLI_SIGNALS_H

/* In the calling thread, and so in those that it starts. */
void block_signals(void);

#endif
