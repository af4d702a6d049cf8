/* Where things are inside the lab. Nothing but constants. */
#ifndef STASIS_VM_LAB_PATHS_H
#define STASIS_VM_LAB_PATHS_H

#define LAB_STASIS    "/proc/self/exe"	   /* the agent is a stasis too */
#define LAB_FILES     "/run/lab/files"	   /* by hash */
#define LAB_DISKS     "/run/lab/disks"	   /* by id, vm/lab/disks.h */
#define LAB_SNAPSHOTS "/run/lab/snapshots" /* by a name of the outside's */
#define LAB_SESSIONS  "/run/lab/sessions"  /* by id: a session's working directory */

#endif
