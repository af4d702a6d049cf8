/* Where things are inside the lab. Nothing but constants. */
#ifndef STASIS_VM_LAB_PATHS_H
#define STASIS_VM_LAB_PATHS_H

#define LAB_DIR	  "/run/lab"
#define LAB_FILES "files" /* in it, by hash */

#endif
