/* Which kernel to boot, and where its modules are: packaged kernels, the kernel cache, build
 * trees. Control thread. */
#ifndef STASIS_VM_KERNELS_H
#define STASIS_VM_KERNELS_H

#include <jansson.h>

#include "arch/kinds.h"
#include "base/error.h"

struct kernel_choice {
	char *path;    /* the image; owned */
	char *release; /* or NULL if unknown; owned */
	char *modules; /* lib/modules/RELEASE, or NULL; owned */
};

/* One of that architecture. asked is an image, a kernel build tree, or NULL: the newest readable
 * /boot/vmlinuz-*, then the newest in the kernel cache. Nothing found is contention (77) with the
 * command that gets one. */
int kernel_choose(const struct arch_kind *kind, const char *asked, struct kernel_choice *ret_kernel,
		  struct error *err) MUST_CHECK;
/* Newest of the kernel cache whose release begins with prefix; -ENOENT without a message. */
int kernel_from_cache(const struct arch_kind *kind, const char *prefix,
		      struct kernel_choice *ret_kernel) MUST_CHECK;
/* What the lab's own machine boots: one whose modules give it KVM, which Debian's cloud kernels do.
 */
int kernel_for_lab(const struct arch_kind *kind, struct kernel_choice *ret_kernel,
		   struct error *err) MUST_CHECK;
void kernel_choice_done(struct kernel_choice *kernel); /* accepts a zeroed one */
/* ${XDG_CACHE_HOME:-~/.cache}/stasis; malloc'ed, NULL when out of memory. */
char *kernel_cache_dir(void);
/* What `stasis kernel list` shows: array of {release, arch, path, modules, source, sched_ext}.
 * Source is boot, cache or built; only the first two are chosen from when no kernel is asked for.
 */
json_t *kernel_list(void);

#endif
