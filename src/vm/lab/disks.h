/* The host's files that are a lab's disks: which is which inside, and which ones a warm lab has. A
 * disk is known by the file, not by its place, so that a run's words fit any lab that has it. */
#ifndef STASIS_VM_LAB_DISKS_H
#define STASIS_VM_LAB_DISKS_H

#include <jansson.h>

#include "vm/lab/lab.h"

/* With its NUL; what the disk says as its serial number, of at most 20 bytes. */
#define LAB_DISK_ID 17

/* Of the file that path leads to. Negative errno. */
int lab_disk_id(const char *path, char buf[LAB_DISK_ID]) MUST_CHECK;
/* In the lab, before the first session: a link for each disk, called so. Negative errno. */
int lab_disks_link(void) MUST_CHECK;

/* Writes down what the warm lab is about to be started with, under its lock. */
int lab_disks_publish(const struct lab_machine *machine, struct error *err) MUST_CHECK;
/* That list, of objects with "path", "id", "read_only", "direct"; NULL: none, or no such lab. */
json_t *lab_disks_published(const struct arch_kind *kind);

#endif
