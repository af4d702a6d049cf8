/* A module's parameters as the kernel's command line has them, the way modprobe reads them.
 * Pure; one thread: init's. */
#ifndef STASIS_GUEST_INIT_MODPARAM_H
#define STASIS_GUEST_INIT_MODPARAM_H

/* Of "quiet kvm_amd.vgif=0 kvm-amd.npt=1", for "kvm_amd": "vgif=0 npt=1". '-' and '_' are the same
 * in a module's name; spaces inside double quotes part nothing (kernel-parameters.rst). malloc'ed;
 * "" where there is none; NULL when out of memory. */
char *modparam_find(const char *cmdline, const char *module);

#endif
