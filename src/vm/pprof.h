/* A profile as pprof and its kin read it: profile.proto of github.com/google/pprof, compressed by
 * gzip. Any thread. */
#ifndef STASIS_VM_PPROF_H
#define STASIS_VM_PPROF_H

#include <jansson.h>

#include "base/compiler.h"

/* Of a document as profile_speedscope (vm/profile_out.h) makes it, to a file that fd has open:
 * samples and nanoseconds of each stack, its task outermost. -EBADMSG: it is none; -ENOMEM; or what
 * writing gives. */
int pprof_write(const json_t *speedscope, int fd) MUST_CHECK;

#endif
