/* What this host is, as words: for results and for doctor. Any thread. */
#ifndef STASIS_VM_HOST_H
#define STASIS_VM_HOST_H

/* "kvm-svm", "kvm-vmx", "kvm-pvm", "kvm-arm64", "kvm" (a back end without a name here), "none". */
const char *host_kind(void);
/* "io", "mmio", … of KVM_EXIT_* (linux/kvm.h); "other" past the last known. Static. */
const char *host_exit_name(unsigned reason);

#endif
