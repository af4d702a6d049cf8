/* Where the dynamic loader looks: folder lists with $ORIGIN and kin, /etc/ld.so.conf, the default
 * folders. Control thread. */
#ifndef STASIS_GUEST_ELF_SEARCH_H
#define STASIS_GUEST_ELF_SEARCH_H

#include <stdbool.h>

#include "guest/elf_image.h"

/* The folders of /etc/ld.so.conf, in order. */
struct elf_conf {
	char **dirs;
	size_t count;
};

/* Files that aren't there count as empty. -ENOMEM. */
int elf_conf_load(const char *path, struct elf_conf *ret_conf) MUST_CHECK;
void elf_conf_done(struct elf_conf *conf); /* accepts a zeroed one */

/* Opens a library of the given machine. 1 and the image where it is one; 0 where there is none, or
 * one for another machine; -EBADMSG, -ENOMEM and the like. */
int elf_search_try(const char *path, uint16_t machine, struct elf_image *ret_image) MUST_CHECK;
/* Looks for name in one colon list (a semicolon splits too, as in LD_LIBRARY_PATH), the real
 * folder of the object standing for $ORIGIN. Returns as elf_search_try; *ret_path is malloc'ed. */
int elf_search_list(const char *list, const char *origin, const char *name, uint16_t machine,
		    char **ret_path, struct elf_image *ret_image) MUST_CHECK;
/* A name with a slash in it: its tokens expanded, nothing else. */
int elf_search_direct(const char *name, const char *origin, uint16_t machine, char **ret_path,
		      struct elf_image *ret_image) MUST_CHECK;
/* The default folders. */
int elf_search_default(const char *name, uint16_t machine, char **ret_path,
		       struct elf_image *ret_image) MUST_CHECK;
int elf_search_conf(const struct elf_conf *conf, const char *name, uint16_t machine,
		    char **ret_path, struct elf_image *ret_image) MUST_CHECK;
/* Whether the loader looks into path's folder without being told. */
bool elf_search_is_default(const char *path, uint16_t machine);

#endif
