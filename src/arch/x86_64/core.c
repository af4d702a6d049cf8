/* What readers of core files want to know of x86_64: a vCPU's registers as an ELF note has them,
 * and where the kernel maps all of RAM. Control thread. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/procfs.h>

#include "arch/x86_64/machine.h"

/* Documentation/arch/x86/x86_64/mm.rst: the direct mapping of all physical memory, where the kernel
 * doesn't move it at boot. */
#define DIRECT_MAP_4 UINT64_C(0xffff888000000000)
#define DIRECT_MAP_5 UINT64_C(0xff11000000000000)

const uint16_t arch_elf_machine = EM_X86_64;
const size_t arch_prstatus_size = sizeof(struct elf_prstatus);
_Static_assert(sizeof(struct elf_prstatus) <= ARCH_PRSTATUS_MAX, "room for a note's registers");

bool arch_vcpu_prstatus(const struct arch_vcpu_state *s, uint32_t pid, void *out)
{
	const struct kvm_regs *r = &s->regs;
	const struct kvm_sregs *sr = &s->sregs;
	/* user_regs_struct of the kernel's asm/user_64.h. */
	const uint64_t words[] = {
		r->r15,
		r->r14,
		r->r13,
		r->r12,
		r->rbp,
		r->rbx,
		r->r11,
		r->r10,
		r->r9,
		r->r8,
		r->rax,
		r->rcx,
		r->rdx,
		r->rsi,
		r->rdi,
		/* orig_ax: in no system call, as far as anybody can tell. */
		UINT64_MAX,
		r->rip,
		sr->cs.selector,
		r->rflags,
		r->rsp,
		sr->ss.selector,
		sr->fs.base,
		sr->gs.base,
		sr->ds.selector,
		sr->es.selector,
		sr->fs.selector,
		sr->gs.selector,
	};
	struct elf_prstatus note = {.pr_pid = (pid_t)pid};

	_Static_assert(sizeof(words) == sizeof(note.pr_reg), "the registers of a note");
	if (s->mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
	    s->mp.mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return false;
	memcpy(&note.pr_reg, words, sizeof(words));
	memcpy(out, &note, sizeof(note));
	return true;
}

/* What QEMU's dump-guest-memory notes of an x86 vCPU; its readers are crash (netdump.c) and
 * libvirt's tools. A segment's flags are the upper half of its descriptor (SDM vol. 3, 3.4.5),
 * without base and limit. */
struct qemu_segment {
	uint32_t selector, limit, flags, pad;
	uint64_t base;
};
struct qemu_note {
	uint32_t version, size;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip,
		rflags;
	struct qemu_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
	uint64_t cr[5], kernel_gs_base;
};
_Static_assert(sizeof(struct qemu_note) == 440, "the note's layout");
const size_t arch_qemu_note_size = sizeof(struct qemu_note);
_Static_assert(sizeof(struct qemu_note) <= ARCH_QEMU_NOTE_MAX, "room for the note");

static struct qemu_segment segment(const struct kvm_segment *s)
{
	return (struct qemu_segment){
		.selector = s->selector,
		.limit = s->limit,
		.flags = (uint32_t)(s->type << 8 | s->s << 12 | s->dpl << 13 | s->present << 15 |
				    s->avl << 20 | s->l << 21 | s->db << 22 | s->g << 23),
		.base = s->base,
	};
}

static struct qemu_segment table(const struct kvm_dtable *t)
{
	return (struct qemu_segment){.limit = t->limit, .base = t->base};
}

void arch_vcpu_qemu_note(const struct arch_vcpu_state *s, void *out)
{
	const struct kvm_regs *r = &s->regs;
	const struct kvm_sregs *sr = &s->sregs;
	const struct qemu_note note = {
		.version = 1,
		.size = sizeof(note),
		.rax = r->rax,
		.rbx = r->rbx,
		.rcx = r->rcx,
		.rdx = r->rdx,
		.rsi = r->rsi,
		.rdi = r->rdi,
		.rsp = r->rsp,
		.rbp = r->rbp,
		.r8 = r->r8,
		.r9 = r->r9,
		.r10 = r->r10,
		.r11 = r->r11,
		.r12 = r->r12,
		.r13 = r->r13,
		.r14 = r->r14,
		.r15 = r->r15,
		.rip = r->rip,
		.rflags = r->rflags,
		.cs = segment(&sr->cs),
		.ds = segment(&sr->ds),
		.es = segment(&sr->es),
		.fs = segment(&sr->fs),
		.gs = segment(&sr->gs),
		.ss = segment(&sr->ss),
		.ldt = segment(&sr->ldt),
		.tr = segment(&sr->tr),
		.gdt = table(&sr->gdt),
		.idt = table(&sr->idt),
		/* There is no CR1. The other base of GS is not captured: 0. */
		.cr = {sr->cr0, 0, sr->cr2, sr->cr3, sr->cr4},
	};

	memcpy(out, &note, sizeof(note));
}

int arch_direct_map(const struct arch_kernel_info *info,
		    bool (*variable)(void *arg, const char *name, uint64_t *ret_value), void *arg,
		    uint64_t *ret_base)
{
	uint64_t base, five = 0;

	if (!variable(arg, "page_offset_base", &base)) {
		(void)info->number(info->arg, "NUMBER(pgtable_l5_enabled)", &five);
		base = five ? DIRECT_MAP_5 : DIRECT_MAP_4;
	}
	*ret_base = base;
	return 0;
}
