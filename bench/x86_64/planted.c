/* Gives a machine of the measured program a guest that is worth saving: GUEST_TOUCH at CPL 3, which
 * no boot comes to on every KVM, and memory that holds something. Linked with --wrap for
 * arch_vcpu_setup; without PLANTED_MIB in the environment it changes nothing. vCPU thread. */
#include "planted.h"

#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/machine.h"
#include "guest.h"

int __real_arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err);
int __wrap_arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err);

int __wrap_arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err)
{
	const char *mib = getenv(PLANTED_MIB);
	uint64_t bytes = mib ? MIB(atoi(mib)) : 0;
	int r = __real_arch_vcpu_setup(vm, index, vcpu_fd, err);
	uint8_t *low, *data;

	if (r < 0 || !mib)
		return r;
	low = guest_ptr(vm->mem, 0, GUEST_RAM_BYTES);
	data = guest_ptr(vm->mem, GUEST_SET_GPA, bytes);
	if (!low || !data)
		return error_set(err, -EINVAL, "planting a guest");
	guest_fill(low);
	memset(data, 0x5a, bytes);
	r = guest_enter(vcpu_fd, index, GUEST_TOUCH);
	return r < 0 ? error_set(err, r, "starting the guest on vCPU %u", index) : 0;
}
