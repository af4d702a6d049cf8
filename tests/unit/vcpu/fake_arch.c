/* Real-mode guests for the tests of src/vcpu. vCPU threads call the set-up and the capture. */
#include "fake_arch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

struct program {
	unsigned len;
	uint8_t code[32];
};

static const struct program programs[] = {
	[FAKE_SPIN] = {2, {0xeb, 0xfe}},			   /* 1: jmp 1b */
	[FAKE_HALT] = {4, {0xfa, 0xf4, 0xeb, 0xfd}},		   /* cli; 1: hlt; jmp 1b */
	[FAKE_WRITES] = {6, {0xfe, 0xc0, 0xe6, 0x10, 0xeb, 0xfa}}, /* 1: inc al; out 0x10,al; jmp */
	[FAKE_ECHO] = {8, {0xe4, 0x30, 0x04, 0x03, 0xe6, 0x30, 0xeb, 0xf8}}, /* in; add al,3; out */
	[FAKE_LEADER] = {15,
			 {
				 0xfe, 0xc0,		 /* 1: inc al */
				 0xe6, 0x10,		 /* out 0x10,al */
				 0xa2, 0x00, 0x80,	 /* mov [0x8000],al */
				 0x3a, 0x06, 0x01, 0x80, /* 2: cmp al,[0x8001] */
				 0x75, 0xfa,		 /* jne 2b */
				 0xeb, 0xf1,		 /* jmp 1b */
			 }},
	[FAKE_CLOCK] = {13,
			{
				0x0f, 0x31,		      /* 1: rdtsc */
				0x66, 0x0f, 0xac, 0xd0, 0x10, /* shrd eax,edx,16 */
				0x66, 0xa3, 0x10, 0x80,	      /* mov [0x8010],eax */
				0xeb, 0xf3,		      /* jmp 1b */
			}},
	[FAKE_FOLLOWER] = {16,
			   {
				   0xa0, 0x00, 0x80, /* 1: mov al,[0x8000] */
				   0x38, 0xd8,	     /* cmp al,bl */
				   0x74, 0xf9,	     /* je 1b */
				   0x88, 0xc3,	     /* mov bl,al */
				   0xe6, 0x11,	     /* out 0x11,al */
				   0xa2, 0x01, 0x80, /* mov [0x8001],al */
				   0xeb, 0xf0,	     /* jmp 1b */
			   }},
	[FAKE_NMI] = {8, {0xf4, 0xeb, 0xfd, 0xb0, 'N', 0xe6, 0x20, 0xcf}}, /* handler at + 3 */
};

uint32_t fake_vcpu_id;
bool fake_waits;

uint32_t arch_vcpu_id(const struct topology *t, unsigned index)
{
	(void)t;
	return fake_vcpu_id ? fake_vcpu_id : index;
}

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static void replace_by_null(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, fd) < 0)
		abort();
	close(null);
}

int arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err)
{
	enum fake_program program = vm->program[index];
	struct kvm_mp_state runs = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_regs regs = {.rflags = 2, .rip = FAKE_PROGRAM_GPA(program)};
	struct kvm_sregs sregs;
	int r = 0;

	if (program == FAKE_REFUSED)
		return error_set(err, -EINVAL, "fake set-up of vCPU %u", index);
	if (program == FAKE_WAITS)
		return 0;
	r = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (r == 0)
		r = kvm_ioctl(vcpu_fd, KVM_SET_SREGS, &sregs);
	if (r == 0)
		r = kvm_ioctl(vcpu_fd, KVM_SET_REGS, &regs);
	if (r == 0)
		r = kvm_ioctl(vcpu_fd, KVM_SET_MP_STATE, &runs);
	if (r == 0 && program == FAKE_BROKEN)
		replace_by_null(vcpu_fd);
	return r < 0 ? error_set(err, r, "registers of vCPU %u", index) : 0;
}

bool arch_vcpu_waits(unsigned index)
{
	return fake_waits && index > 0;
}

void arch_exit_capture(const struct kvm_run *run, struct arch_exit *out)
{
	*out = (struct arch_exit){.reason = run->exit_reason, .wants_reply = true};
	if (run->exit_reason != KVM_EXIT_IO || run->io.direction != KVM_EXIT_IO_OUT ||
	    run->io.size * run->io.count > ARCH_EXIT_DATA)
		return;
	out->wants_reply = false;
	out->space = BUS_PIO;
	out->addr = run->io.port;
	out->len = run->io.size;
	memcpy(out->data, (const uint8_t *)run + run->io.data_offset, out->len);
}

/* As the real one: its file is not linked. */
uint64_t arch_run_registers(const struct kvm *kvm)
{
	int r = kvm_ioctl(kvm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_SYNC_REGS);

	return r < 0 ? 0 : (uint64_t)r & (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
}

/* ---- a frozen machine ------------------------------------------------------------------ */

#ifndef FAKE_ARCH_REAL_FREEZE
const size_t arch_vcpu_state_size = ALIGN_UP(sizeof(struct arch_vcpu_state), 16);
_Atomic int fake_capture_result;
bool fake_deaf;

void arch_run_forget(struct kvm_run *run UNUSED)
{
}

int arch_vcpu_capture(int vcpu_fd, const struct kvm_run *run UNUSED, struct arch_vcpu_state *state)
{
	int r = kvm_ioctl(vcpu_fd, KVM_GET_REGS, &state->regs);

	if (r == 0)
		r = kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &state->mp);
	state->captures++;
	return r < 0 ? r : fake_capture_result;
}

int arch_vcpu_sample(int vcpu_fd, struct kvm_run *run, uint64_t run_registers,
		     struct arch_vcpu_state *state)
{
	(void)run;
	(void)run_registers;
	return arch_vcpu_capture(vcpu_fd, NULL, state);
}

bool arch_vcpu_unstarted(int vcpu_fd)
{
	struct kvm_mp_state mp;

	return kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &mp) == 0 &&
	       mp.mp_state == KVM_MP_STATE_UNINITIALIZED;
}

bool arch_vcpu_idle(const struct arch_vcpu_state *state)
{
	return state->mp.mp_state != KVM_MP_STATE_RUNNABLE;
}

bool arch_vcpu_halted_deaf(const struct arch_vcpu_state *state)
{
	return fake_deaf && state->mp.mp_state == KVM_MP_STATE_HALTED;
}

void arch_clock_stop(struct arch_vm *vm, struct arch_clock *clock)
{
	(void)vm;
	clock->stopped = true;
}

void arch_clock_go_on(struct arch_vm *vm, struct arch_clock *clock)
{
	(void)vm;
	clock->skipped++;
	clock->stopped = false;
}

void arch_vcpu_timer_go_on(int vcpu_fd, const struct arch_vcpu_state *state,
			   struct arch_clock *clock)
{
	(void)vcpu_fd;
	(void)state;
	(void)clock;
}

void arch_clock_ticks_go_on(struct arch_vm *vm, struct arch_clock *clock)
{
	(void)vm;
	(void)clock;
}

/* resumes is the number of thaws that this vCPU has gone through. */
void arch_vcpu_go_on(int vcpu_fd, struct arch_vcpu_state *state, struct arch_clock *clock)
{
	(void)vcpu_fd;
	state->resumes = clock->skipped;
}
#endif

static void must(const char *what, int r)
{
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-r));
		abort();
	}
}

void fake_vm_open(struct kvm *kvm, struct arch_vm *vm)
{
	struct kvm_userspace_memory_region region = {.memory_size = FAKE_RAM_BYTES};

	memset(kvm, 0, sizeof(*kvm));
	memset(vm, 0, sizeof(*vm));
	fake_vcpu_id = 0;
	kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	must("/dev/kvm", kvm->fd < 0 ? -errno : 0);
	kvm->vm_fd = kvm_ioctl(kvm->fd, KVM_CREATE_VM, NULL);
	must("KVM_CREATE_VM", kvm->vm_fd);
	kvm->run_size = (uint32_t)kvm_ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	kvm->immediate_exit =
		kvm_ioctl(kvm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_IMMEDIATE_EXIT) > 0;
	kvm->max_vcpus =
		(uint32_t)kvm_ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPUS);
	kvm->max_vcpu_id =
		(uint32_t)kvm_ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPU_ID);
	must("KVM_SET_TSS_ADDR", kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul));
	must("KVM_CREATE_IRQCHIP", kvm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL));
	vm->ram = mmap(NULL, FAKE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	must("RAM", vm->ram == MAP_FAILED ? -errno : 0);
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		memcpy(vm->ram + FAKE_PROGRAM_GPA(i), programs[i].code, programs[i].len);
	/* The real-mode vector of an NMI: offset, segment (SDM volume 3, 21.1.4). */
	memcpy(vm->ram + 4 * 2, (const uint16_t[]){FAKE_PROGRAM_GPA(FAKE_NMI) + 3, 0}, 4);
	region.userspace_addr = (uintptr_t)vm->ram;
	must("KVM_SET_USER_MEMORY_REGION",
	     kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region));
}

void fake_vm_close(struct kvm *kvm, struct arch_vm *vm)
{
	fd_close(&kvm->vm_fd);
	munmap(vm->ram, FAKE_RAM_BYTES);
	fd_close(&kvm->fd);
}
