/* A guest's network in the lab: inside, its tap and one of the lab's own interfaces are joined by a
 * bridge; that interface is, outside, the host's tap or user-mode network. */
#ifndef STASIS_VM_LAB_UPLINK_H
#define STASIS_VM_LAB_UPLINK_H

#include "base/error.h"

/* The address that the lab's interface i has; the emulator is told. */
#define LAB_UPLINK_MAC "02:57:a5:15:1a:%02x"
/* What the bridge needs of the lab's kernel; NULL-terminated. */
extern const char *const lab_uplink_modules[];

/* In the lab: joins tap with the lab's interface i. */
int lab_uplink_join(unsigned i, const char *tap, struct error *err) MUST_CHECK;

#endif
