/* What run and profile have in common: a rate. */
#ifndef STASIS_CLI_PROFILE_OPTION_H
#define STASIS_CLI_PROFILE_OPTION_H

#include "base/error.h"

/* Samples of each vCPU in a second; a usage error begins with the value. */
int profile_hz_parse(const char *value, unsigned *ret_hz, struct error *err) MUST_CHECK;

#endif
