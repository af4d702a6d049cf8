/* What readers of core files want to know of aarch64: a vCPU's registers as an ELF note has them,
 * and where the kernel maps all of RAM. Control thread. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/procfs.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"

const uint16_t arch_elf_machine = EM_AARCH64;
const size_t arch_prstatus_size = sizeof(struct elf_prstatus);
_Static_assert(sizeof(struct elf_prstatus) <= ARCH_PRSTATUS_MAX, "room for a note's registers");

bool arch_vcpu_prstatus(const struct arch_vcpu_state *s, uint32_t pid, void *out)
{
	struct elf_prstatus note = {.pr_pid = (pid_t)pid};
	/* user_pt_regs of the kernel's asm/ptrace.h: x0 to x30, sp, pc, pstate. */
	uint64_t words[ARRAY_SIZE(s->x) + 3];

	_Static_assert(sizeof(words) == sizeof(note.pr_reg), "the registers of a note");
	if (s->mp.mp_state == KVM_MP_STATE_STOPPED)
		return false;
	memcpy(words, s->x, sizeof(s->x));
	words[ARRAY_SIZE(s->x)] = PSTATE_USES_SP_EL1(s->pstate) ? s->sp_el1 : s->sp_el0;
	words[ARRAY_SIZE(s->x) + 1] = s->pc;
	words[ARRAY_SIZE(s->x) + 2] = s->pstate;
	memcpy(&note.pr_reg, words, sizeof(words));
	memcpy(out, &note, sizeof(note));
	return true;
}

const size_t arch_qemu_note_size = 0;

void arch_vcpu_qemu_note(const struct arch_vcpu_state *s UNUSED, void *out UNUSED)
{
}

int arch_direct_map(const struct arch_kernel_info *info,
		    bool (*variable)(void *arg, const char *name, uint64_t *ret_value) UNUSED,
		    void *arg UNUSED, uint64_t *ret_base)
{
	uint64_t bits, phys;

	/* arch/arm64/include/asm/memory.h: PAGE_OFFSET is the lowest address of the upper half, and
	 * PHYS_OFFSET is what it shows. */
	if (!info->number(info->arg, "NUMBER(VA_BITS)", &bits) ||
	    !info->number(info->arg, "NUMBER(PHYS_OFFSET)", &phys) || bits < 36 || bits > 52)
		return -ENOENT;
	*ret_base = -(UINT64_C(1) << bits) - phys;
	return 0;
}
