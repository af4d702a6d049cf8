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
	/* Of a snapshot: which file it was, and when it was last written; 0: nobody can tell. */
	uint64_t inode;
	int64_t modified_ns;
	bool told;   /* the person says that it has what it had */
	char *copy;  /* a clone's: what is opened instead; else NULL */
	int copy_fd; /* … and keeps it: it has no name. Only with copy */
};

/* Reads the option's value and looks at the file: a usage error begins with the value. index: how
 * many come before, for the name it gets if it has none. */
int vm_disk_parse(const char *value, size_t index, struct vm_disk *ret_disk,
		  struct error *err) MUST_CHECK;
void vm_disk_done(struct vm_disk *disk); /* accepts a zeroed one */
/* As --dry-run prints it. */
json_t *vm_disk_json(const struct vm_disk *disk);
/* As a snapshot's description has it, while nothing is in flight. */
json_t *vm_disk_saved(const struct vm_disk *disk, const struct virtio_blk *blk);
/* As realpath gives it: a reader sees what it leads to. */
bool vm_disk_path_canonical(const char *path);
/* That of a lab's, a device there, made into one of the file behind it. Negative errno. */
int vm_disk_name(json_t *saved, const char *path) MUST_CHECK;
/* … and back; hostile. The file is not looked at. */
int vm_disk_read(const json_t *json, struct vm_disk *ret_disk, struct error *err) MUST_CHECK;
/* That of a snapshot: whether fd, which is open and locked, is the file that it was, as it was. A
 * usage error if not. */
int vm_disk_check(const struct vm_disk *disk, int fd, struct error *err) MUST_CHECK;
/* Another file in its place, or the same as it is now: value is ID=PATH. */
int vm_disk_replace(struct vm_disk *disks, size_t count, const char *value,
		    struct error *err) MUST_CHECK;
/* As the report has it, with what was done. */
json_t *vm_disk_report(const struct vm_disk *disk, const struct virtio_blk *blk);

#endif
