/* The shared libraries that an ELF file needs, found as ld.so finds them: DT_RPATH, DT_RUNPATH,
 * $ORIGIN, /etc/ld.so.cache's folders, the default ones; and its dynamic loader. Control thread. */
#ifndef STASIS_GUEST_ELF_CLOSURE_H
#define STASIS_GUEST_ELF_CLOSURE_H

#include "base/error.h"

/* Calls each(path) once for every file that path needs at run time, the loader included and path
 * itself left out; path is where the loader will look for it, absolute and without "..". 0 and no
 * calls for a static file or one that is neither ELF nor a script. A missing library is a usage
 * error that names it and who needs it; an ELF file of another machine than this stasis's is one
 * too. Hostile files are bounded. A negative errno from each ends the search and is
 * returned; else it returns 0.
 *
 * Searched as ld.so(8) says, in the plain folders only (no glibc-hwcaps), with this process's
 * LD_LIBRARY_PATH: a caller that lets it be set passes it on to the guest. Relative folders are
 * left out: the guest has another working folder. Where a library is found through
 * /etc/ld.so.conf alone, /etc/ld.so.cache is among the calls.
 *
 * A script ("#!") needs its interpreter and that one's closure; of "#!/usr/bin/env X" also X,
 * found along this process's PATH. Libraries that are only ever dlopen'ed (NSS, plugins) can't be
 * seen. */
int elf_closure(const char *path, int (*each)(const char *path, void *arg), void *arg,
		struct error *err) MUST_CHECK;
/* The same for programs of a machine (EM_…) that may be another's, out of the folders that this
 * host has for its libraries. A script's interpreter that is not of that machine is left out: who
 * runs it there has one. */
int elf_closure_for(uint16_t machine, const char *path, int (*each)(const char *path, void *arg),
		    void *arg, struct error *err) MUST_CHECK;
/* Finds a command as execvp would, along path_env (colon list) or as given when it holds a
 * slash; path_env NULL is the usual folders. *ret_path is malloc'ed. A usage error with -ENOENT
 * where there is none, -EACCES where it can't be executed. */
int elf_which(const char *command, const char *path_env, char **ret_path,
	      struct error *err) MUST_CHECK;

#endif
