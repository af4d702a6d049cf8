/* The signals that end or resize a run: blocked here; read from a descriptor by who runs it, and
 * taken one by one by who makes it ready. */
#ifndef STASIS_VM_SIGNALS_H
#define STASIS_VM_SIGNALS_H

#include <stdint.h>

/* In the calling thread, and so in those that it starts. */
void signals_block(void);
/* Waits for so long for one that ends a run (SIGINT, SIGTERM, SIGHUP, SIGQUIT), which are blocked,
 * and takes it. Its number; 0: none came. Control thread. */
int signals_take(uint64_t ns);

#endif
