/* Host CPUs for threads. */
#ifndef STASIS_VCPU_PIN_H
#define STASIS_VCPU_PIN_H

#include <stdbool.h>

#include "base/error.h"

/* Binds the calling thread to one host CPU. A CPU that this process may not use: contention. */
int pin_self(int cpu, struct error *err) MUST_CHECK;
/* Whether each of threads vCPU threads and the control thread can have a host CPU to itself: then
 * a wait may spin. pin as in struct vcpu_pool_config. */
bool pin_may_spin(unsigned threads, const int *pin);
/* Whether each of threads vCPU threads can, the control thread or not: then a halted one's may poll
 * for its next interrupt. By what the calling thread may run on, as above. */
bool pin_may_poll(unsigned threads, const int *pin);

#endif
