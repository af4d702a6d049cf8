/* Programs that a guest gets, and where this host keeps them. Control thread. */
#ifndef STASIS_VM_TOOLS_H
#define STASIS_VM_TOOLS_H

#include "arch/kinds.h"
#include "base/error.h"

/* stasis-init: near this program in a build tree, else where it was installed, or
 * $STASIS_LIBEXEC. Another architecture's: in the build tree build-arm64 (build-amd64) beside this
 * one, or in a folder of that architecture's name in the places above. malloc'ed. */
int tools_init(const struct arch_kind *kind, char **ret_path, struct error *err) MUST_CHECK;
/* This program, or the same for another architecture. malloc'ed. */
int tools_stasis(const struct arch_kind *kind, char **ret_path, struct error *err) MUST_CHECK;
/* A static busybox ($STASIS_BUSYBOX, /bin/busybox, /usr/bin/busybox; another architecture's where
 * scripts/setup puts it, in the cache). malloc'ed. */
int tools_busybox(const struct arch_kind *kind, char **ret_path, struct error *err) MUST_CHECK;

/* A program of scripts/ that a command is a front of: "fetch-kernel", "build-kernel". malloc'ed. */
int tools_script(const char *name, char **ret_path, struct error *err) MUST_CHECK;
/* The program behind `stasis bench`. malloc'ed. */
int tools_bench(char **ret_path, struct error *err) MUST_CHECK;

#endif
