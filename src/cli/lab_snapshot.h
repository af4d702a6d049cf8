/* Snapshots of VMs in the lab: the folder stays in there, as long as that lab does; what is made
 * outside has its description, and says where it is. */
#ifndef STASIS_CLI_LAB_SNAPSHOT_H
#define STASIS_CLI_LAB_SNAPSHOT_H

#include "vm/config.h"

struct snapshot_options {
	bool keep_running, lz4;
	char *base; /* of --diff-of, absolute; NULL: not given. Owned by who has the options */
};

/* -ENOENT, and nothing is said: that VM is not in the lab. Else *ret_status is the inner one's. */
int lab_snapshot_save(const char *name, const char *path, const struct snapshot_options *o,
		      int *ret_status, struct error *err) MUST_CHECK;
/* Where the folder is of one in the lab: fills in c, lab_snapshot with it. */
int lab_snapshot_find(const char *path, struct vm_config *c, struct error *err) MUST_CHECK;

/* A VM of this host; path is absolute. */
int snapshot_here(const char *name, const char *path, const struct snapshot_options *o,
		  struct error *err) MUST_CHECK;

#endif
