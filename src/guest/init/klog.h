/* Init's own problems: lines in the kernel's log, "stasis-init: …". One thread: init's. */
#ifndef STASIS_GUEST_INIT_KLOG_H
#define STASIS_GUEST_INIT_KLOG_H

#include "base/compiler.h"

/* Needs /dev. Before it, and where /dev/kmsg can't be opened, lines go to standard error. */
void klog_open(void);
/* One line, without a newline; cut at about 500 bytes. errno is kept. */
void klog(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
