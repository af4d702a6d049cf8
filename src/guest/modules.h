/* Kernel modules by name out of a lib/modules/VERSION folder, dependencies first, decompressed.
 * Needs no modules.dep: reads each module's .modinfo. Control thread. */
#ifndef STASIS_GUEST_MODULES_H
#define STASIS_GUEST_MODULES_H

#include "base/error.h"

struct module_image {
	char name[64]; /* with '_' for '-' */
	uint8_t *data; /* the ELF file; malloc'ed */
	size_t len;
};

struct module_list {
	struct module_image *images; /* in the order to load */
	size_t count;
};

/* Loads names and all that they depend on; a name that is built in (modules.builtin), or is not
 * there at all, is left out: *ret_list then lacks it. '-' and '_' are one. .ko, .ko.gz, .ko.xz,
 * .ko.zst. Soft dependencies ("pre:") are loaded before where they are there. -EBADMSG for a
 * broken file; a usage error for a dependency that is neither there nor built in. */
int modules_load(const char *dir, const char *const *names, size_t n, struct module_list *ret_list,
		 struct error *err) MUST_CHECK;
void modules_done(struct module_list *list);

#endif
