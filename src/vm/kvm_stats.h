/* KVM's own statistics of a VM or a vCPU, by their self-describing format (kernel document
 * virt/kvm/api.rst, 4.133 KVM_GET_STATS_FD). Any thread. */
#ifndef STASIS_VM_KVM_STATS_H
#define STASIS_VM_KVM_STATS_H

#include <jansson.h>

#include "base/error.h"

/* Reads what a descriptor of KVM_GET_STATS_FD holds. An object by name: a number, or of a histogram
 * {"unit", "buckets": "FROM:COUNT …"}; what is zero is left out. Negative errno; -EBADMSG where it
 * does not describe itself as the document says. */
int kvm_stats_read(int fd, json_t **ret_stats) MUST_CHECK;
/* The same of many descriptors whose files are laid out alike, as those of a VM's vCPUs are: the
 * first is read whole, of the others the data alone, one call each. Zeroed before the first. */
struct kvm_stats_like {
	uint8_t *file; /* of the one read last */
	size_t len, data_offset;
};
int kvm_stats_read_like(struct kvm_stats_like *like, int fd, json_t **ret_stats) MUST_CHECK;
void kvm_stats_like_done(struct kvm_stats_like *like); /* accepts a zeroed one */
/* The same of len bytes of such a file, which are not trusted. */
int kvm_stats_parse(const uint8_t *file, size_t len, json_t **ret_stats) MUST_CHECK;
/* Time that a vCPU was halted in the kernel, in the statistics of a vCPU: waiting, and polling
 * before that. A halt under way counts once it is over. 0 where KVM does not say. */
uint64_t kvm_stats_halted_ns(const json_t *stats);

#endif
