/* A disk as it was asked for: --disk PATH[,ro][,direct][,id=NAME][,iops=N][,bps=N]. Plain data. */
#ifndef STASIS_VM_DISK_H
#define STASIS_VM_DISK_H

#include <jansson.h>

#include "devices/virtio_blk.h"

/* Besides the console and entropy, there are windows for these. */
#define VM_MAX_DISKS 12

struct vm_disk {
	char *path;
	char id[VIRTIO_BLK_ID_BYTES + 1]; /* what the guest reads as its serial number */
	bool read_only, direct;
	uint64_t iops, bps; /* 0: no limit */
	uint64_t bytes;	    /* its size when it was looked at */
};

/* Reads the option's value and looks at the file: a usage error begins with the value. index: how
 * many come before, for the name it gets if it has none. */
int vm_disk_parse(const char *value, size_t index, struct vm_disk *ret_disk,
		  struct error *err) MUST_CHECK;
void vm_disk_done(struct vm_disk *disk); /* accepts a zeroed one */
/* As --dry-run prints it. */
json_t *vm_disk_json(const struct vm_disk *disk);
/* As the report has it, with what was done. */
json_t *vm_disk_report(const struct vm_disk *disk, const struct virtio_blk *blk);

#endif
