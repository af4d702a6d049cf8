/* What the guest's init of bench-linux says on its console. For C and assembly; nothing else. */
#ifndef STASIS_BENCH_LINUX_WORD_H
#define STASIS_BENCH_LINUX_WORD_H

#define LINUX_WORD "stasis-bench-linux-is-up"

#endif
