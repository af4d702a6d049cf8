/* What every device's saved state is put through: see state_subject_*. A subject is a device that
 * can be made anew, on the same guest memory. Failures end the test. */
#ifndef STASIS_TESTS_STATE_SUBJECT_H
#define STASIS_TESTS_STATE_SUBJECT_H

#include "base/state_io.h"

struct state_subject {
	void *arg;
	/* Frees the device that there is, and makes one that has not been brought up: quiet. */
	void (*renew)(void *arg);
	void (*state)(void *arg, struct state_io *io);
	/* Goes on for a moment, whatever state it was given, and is quiet again. */
	void (*run)(void *arg);
};

/* The quiet device's state goes into a fresh one, and saves to the same bytes there. Returns them,
 * malloc'ed. */
uint8_t *state_subject_move(const struct state_subject *s, size_t *ret_len);
/* Every byte of the state is changed in turn (a bit of it, then all), and every cut is made: what
 * is not refused is a device that goes on and can be saved. Cuts are refused. Returns how many of
 * the changes were. */
unsigned state_subject_mangle(const struct state_subject *s, const uint8_t *bytes, size_t len);

#endif
