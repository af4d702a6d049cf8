/* Where things are inside the lab. Pure. */
#ifndef STASIS_VM_LAB_PATHS_H
#define STASIS_VM_LAB_PATHS_H

#include <stdbool.h>
#include <string.h>

#define LAB_STASIS    "/proc/self/exe"	   /* the agent is a stasis too */
#define LAB_FILES     "/run/lab/files"	   /* by hash */
#define LAB_DISKS     "/run/lab/disks"	   /* by id, vm/lab/disks.h */
#define LAB_SNAPSHOTS "/run/lab/snapshots" /* by a name of the outside's */
#define LAB_SESSIONS  "/run/lab/sessions"  /* by id: a session's working directory */

/* Whether it is the name of a snapshot's folder in there; NULL is none. */
static inline bool lab_is_snapshot(const char *folder)
{
	size_t len = strlen(LAB_SNAPSHOTS "/");

	return folder && !strncmp(folder, LAB_SNAPSHOTS "/", len) && folder[len] &&
	       folder[len] != '.' && !strchr(folder + len, '/');
}

#endif
