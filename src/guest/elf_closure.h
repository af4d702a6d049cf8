/* The shared libraries that an ELF file needs, found as ld.so finds them: DT_RPATH, DT_RUNPATH,
 * $ORIGIN, /etc/ld.so.cache's folders, the default ones; and its dynamic loader. Control thread. */
#ifndef STASIS_GUEST_ELF_CLOSURE_H
#define STASIS_GUEST_ELF_CLOSURE_H

#include "base/error.h"

/* Calls each(path) once for every file that path needs at run time, the loader included and path
 * itself left out; path is where the loader will look for it. 0 and no calls for a static file or
 * one that is not ELF. A missing library is a usage error that names it and who needs it; an ELF
 * file of another machine than this stasis's guest (e_machine) is one too. Hostile ELF is
 * bounded. */
int elf_closure(const char *path, int (*each)(const char *path, void *arg), void *arg,
		struct error *err) MUST_CHECK;
/* Finds a command as execvp would, along path_env (colon list) or as given when it holds a
 * slash. *ret_path is malloc'ed. -ENOENT as usage error. */
int elf_which(const char *command, const char *path_env, char **ret_path, struct error *err) MUST_CHECK;

#endif
