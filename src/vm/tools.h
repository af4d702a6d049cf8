/* Programs that a guest gets, and where this host keeps them. Control thread. */
#ifndef STASIS_VM_TOOLS_H
#define STASIS_VM_TOOLS_H

#include "base/error.h"

/* stasis-init: beside this program in a build tree, else where it was installed, or
 * $STASIS_LIBEXEC. malloc'ed. */
int tools_init(char **ret_path, struct error *err) MUST_CHECK;
/* A static busybox ($STASIS_BUSYBOX, /bin/busybox, /usr/bin/busybox). malloc'ed. */
int tools_busybox(char **ret_path, struct error *err) MUST_CHECK;

/* The program behind `stasis kernel get`. malloc'ed. */
int tools_fetch_kernel(char **ret_path, struct error *err) MUST_CHECK;

#endif
