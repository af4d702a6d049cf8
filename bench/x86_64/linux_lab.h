/* bench-linux in the lab: the same program once more, inside a machine that is there for it alone,
 * with what it measures. Main thread. */
#ifndef STASIS_BENCH_LINUX_LAB_H
#define STASIS_BENCH_LINUX_LAB_H

#include "bench.h"

/* In its environment in there: the kernel to boot. Unset: this is the host. */
#define LINUX_LAB_KERNEL "STASIS_BENCH_LAB_KERNEL"

struct linux_lab {
	const char *kernel;		 /* that is booted */
	const char *product;		 /* the measured stasis */
	const char *peer;		 /* QEMU; all three absolute paths */
	uint64_t limit_ns;		 /* of all, the lab's own boot included */
	const struct results_spec *rows; /* that may come out of it */
	size_t row_count;
};

/* Adds the rows that came out, of which only samples are believed, and the lab's facts to the
 * host's. A lab that this host can't have is contention, as is one whose bench-linux says so; a lab
 * that dies or takes too long is a failure. */
int linux_lab_measure(struct bench *b, const struct linux_lab *lab, struct error *err) MUST_CHECK;

#endif
