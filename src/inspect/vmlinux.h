/* What a kernel's file knows and its guest's memory doesn't: symbols of data, types. Any thread. */
#ifndef STASIS_INSPECT_VMLINUX_H
#define STASIS_INSPECT_VMLINUX_H

#include "inspect/inspect.h"

/* Adds the symbols and types of the vmlinux at path that in lacks; what in has, stays. Usage error:
 * the file is no vmlinux with a symbol table, or another kernel's (by build ID where both have one,
 * else by where its own symbols lie). On failure in is as it was. */
int inspect_add_vmlinux(struct inspect *in, const char *path, struct error *err) MUST_CHECK;

#endif
