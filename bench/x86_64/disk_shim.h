/* What disk_shim.c finds in its environment, besides CHILD_FD: there it writes the stamp that
 * child_start waits for, and a struct disk_outcome that says how the disk came up; then, for each
 * struct disk_order that it reads, the outcome (guest_disk.h). */
#ifndef STASIS_BENCH_DISK_SHIM_H
#define STASIS_BENCH_DISK_SHIM_H

#include <linux/kvm.h>

#define DISK_SHIM_IMAGE "STASIS_BENCH_IMAGE" /* the guest's file */
#define DISK_SHIM_CPUS	"STASIS_BENCH_CPUS"  /* "0,1": for the vCPU's thread, for all others */

#ifdef KVM_SET_USER_MEMORY_REGION2
#define DISK_SHIM_MEMORY2 KVM_SET_USER_MEMORY_REGION2
#else
/* Of Linux 6.8, struct of 160 bytes: KVM API, 4.140. */
#define DISK_SHIM_MEMORY2 _IOC(_IOC_WRITE, KVMIO, 0x49, 160)
#endif

#endif
