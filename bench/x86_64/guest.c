/* The guests: code, page tables, entry state. Any thread. */
#include "guest.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "base/util.h"

enum {
	PML4_GPA = 0x1000,
	PDPT_GPA = 0x2000,
	PD_GPA = 0x4000,
	GDT_GPA = 0x8000,
	CODE_GPA = 0x9000,
	REAL_STACK = 0x4000, /* downwards, within the page below the directories */
};

/* rdi: the area. r9: its sample count. r8: when it began. r10: the answer so far. */
#define STAMP "	rdtsc\n	shl $32, %rdx\n	or %rdx, %rax\n"
#define BEGIN STAMP "	mov %rax, %r8\n"
#define KEEP  "	mov %r9, %rcx\n	and $4095, %ecx\n	mov %eax, 128(%rdi,%rcx,4)\n"
#define COUNT "	inc %r9\n	mov %r9, (%rdi)\n"
#define END   STAMP "	sub %r8, %rax\n" KEEP COUNT

__asm__(".pushsection .rodata\n"
	".globl guest_code, guest_spin, guest_ask, guest_tell, guest_ring, guest_gaps\n"
	".globl guest_store, guest_touch, guest_image, guest_work\n"
	".globl guest_irq, guest_irq_handler, guest_code_end\n"
	"guest_code:\n"
	"guest_spin:\n"
	"1:	jmp 1b\n"
	"guest_ask:\n"
	"1:\n" BEGIN "	mov $0x30, %edx\n	in %dx, %al\n" END "	jmp 1b\n"
	"guest_tell:\n"
	"1:\n" BEGIN "	mov $0x30, %edx\n	out %al, %dx\n" END "	jmp 1b\n"
	"guest_ring:\n"
	"	mov $0xC0000000, %esi\n"
	"1:	mov 64(%rdi), %r10d\n" BEGIN "	movl $0, (%rsi)\n"
	"2:	pause\n	cmp 64(%rdi), %r10d\n	je 2b\n" END "	jmp 1b\n"
	/* A gap ends where the next begins. The largest of each 2^20 is one sample: longer than the
	   host's tick. */
	"guest_gaps:\n"
	"1:\n" BEGIN "	xor %r11d, %r11d\n	mov $1048576, %esi\n"
	"2:\n" STAMP "	mov %rax, %rcx\n	sub %r8, %rax\n	mov %rcx, %r8\n"
	"	cmp %rax, %r11\n	cmovb %rax, %r11\n	dec %esi\n	jnz 2b\n"
	"	mov %r11, %rax\n" KEEP COUNT "	jmp 1b\n"
	/* Now and then, so that who watches it has settled. */
	"guest_store:\n"
	"1:	mov $20000, %esi\n"
	"2:	pause\n	dec %esi\n	jnz 2b\n"
	"	incl 64(%rdi)\n	jmp 1b\n"
	"guest_touch:\n"
	"1:	pause\n	cmpl $0, 64(%rdi)\n	je 1b\n"
	"	mov $0x1000000, %esi\n	mov $4096, %ecx\n"
	"2:	incb (%rsi)\n	add $4096, %rsi\n	dec %ecx\n	jnz 2b\n"
	"	mov $0x3f8, %edx\n	mov $'!', %al\n	out %al, %dx\n"
	"3:	pause\n	jmp 3b\n"
	"guest_image:\n"
	"	mov $0x1000000, %eax\n	jmp *%rax\n"
	/* A chain of calls whose innermost adds up the samples, 16 times for each of answer. */
	"guest_work:\n"
	"1:	mov 64(%rdi), %esi\n	xor %ebp, %ebp\n	mov $16, %r11d\n"
	"	call 2f\n"
	"	mov $0x30, %edx\n	in %dx, %al\n	jmp 1b\n"
	"2:	push %rbp\n	mov %rsp, %rbp\n	dec %r11d\n	jz 3f\n"
	"	call 2b\n	pop %rbp\n	ret\n"
	"3:	shl $4, %esi\n"
	"4:	mov $4096, %ecx\n"
	"5:	add 124(%rdi,%rcx,4), %eax\n	dec %ecx\n	jnz 5b\n"
	"	dec %esi\n	jnz 4b\n	pop %rbp\n	ret\n"
	/* Real mode, since an interrupt's delivery takes CPL 0: x2APIC on (SDM 3, 11.12), then
	 * wait. ds begins at the area. */
	"guest_irq:\n"
	"	.code16\n"
	"	mov $0x1b, %ecx\n	rdmsr\n	or $0xc00, %ax\n	wrmsr\n"
	"	mov $0x80f, %ecx\n	mov $0x1ff, %eax\n	xor %edx, %edx\n	wrmsr\n"
	"	sti\n"
	"1:	hlt\n	jmp 1b\n"
	"guest_irq_handler:\n"
	"	incl %ds:64\n"
	"	mov $0x80b, %ecx\n	xor %eax, %eax\n	xor %edx, %edx\n	wrmsr\n"
	"	iretw\n"
	"	.code64\n"
	"guest_code_end:\n"
	".popsection\n");
extern const uint8_t guest_code[], guest_spin[], guest_ask[], guest_tell[], guest_ring[],
	guest_gaps[], guest_store[], guest_touch[], guest_image[], guest_irq[], guest_irq_handler[],
	guest_work[], guest_code_end[];

static_assert(offsetof(struct guest_area, answer) == 64, "the code above says so");
static_assert(offsetof(struct guest_area, sample) == 128, "the code above says so");
static_assert(GUEST_WORK_CALLS == 16 && GUEST_SAMPLES == 4096, "the code above says so");
static_assert(GUEST_SET_GPA == 0x1000000 && GUEST_SET_BYTES == 4096 * 4096 && GUEST_SAYS == '!' &&
		      GUEST_COM1 == 0x3f8,
	      "the code above says so");
static_assert(sizeof(struct guest_area) <= GUEST_AREA_BYTES, "areas lie one after another");

/* Selectors, with the requested privilege: SDM 3, 3.4.2. */
enum { USER_DATA = 0x18 | 3, USER_CODE = 0x20 | 3 };

#define TABLE  7u    /* present, writable, user: SDM 3, table 4-15 and on */
#define PAGE2M 0x87u /* … and a page */

void guest_fill(uint8_t *ram)
{
	static const uint64_t gdt[] = {
		0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff,
	};
	uint64_t *pd = (uint64_t *)(void *)(ram + PD_GPA);
	uint64_t *pdpt = (uint64_t *)(void *)(ram + PDPT_GPA);

	*(uint64_t *)(void *)(ram + PML4_GPA) = PDPT_GPA | TABLE;
	for (unsigned i = 0; i < 4; i++)
		pdpt[i] = (PD_GPA + i * 0x1000u) | TABLE;
	for (unsigned i = 0; i < 4 * 512; i++)
		pd[i] = (uint64_t)i << 21 | PAGE2M;
	memcpy(ram + GDT_GPA, gdt, sizeof(gdt));
	/* The real-mode vector: offset, segment (SDM 3, 21.1.4). */
	memcpy(ram + 4 * GUEST_VECTOR,
	       (const uint16_t[]){(uint16_t)(CODE_GPA + (guest_irq_handler - guest_code)), 0}, 4);
	memcpy(ram + CODE_GPA, guest_code, (uintptr_t)guest_code_end - (uintptr_t)guest_code);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool code64)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .dpl = 3,
				    .s = 1,
				    .g = 1,
				    .l = code64,
				    .db = !code64};
}

/* As after reset, but that data begins at the area. */
static void real_mode(struct kvm_sregs *sregs, uint64_t area_gpa)
{
	struct kvm_segment data = {.limit = 0xffff, .type = 3, .present = 1, .s = 1};

	sregs->cs = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->cs.type = 11;
	sregs->ds = data;
	sregs->ds.base = area_gpa;
	sregs->idt = (struct kvm_dtable){.base = 0, .limit = 0x3ff};
	sregs->cr0 = 0x10; /* ET */
	sregs->cr3 = sregs->cr4 = sregs->efer = 0;
}

static void user_mode(struct kvm_sregs *sregs)
{
	sregs->cs = flat(USER_CODE, 11, true);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat(USER_DATA, 3, false);
	/* At address 0, where zeros are: its bitmap opens the ports (SDM 1, 19.5.2) where a
	 * restored guest's I/O privilege level is forgotten. */
	sregs->tr = (struct kvm_segment){.limit = 0xbf, .selector = 0x28, .type = 11, .present = 1};
	sregs->gdt = (struct kvm_dtable){.base = GDT_GPA, .limit = 5 * 8 - 1};
	sregs->cr3 = PML4_GPA;
	sregs->cr4 = 0x220;	 /* PAE, OSFXSR */
	sregs->cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs->efer = 0x500;	 /* LMA, LME */
}

static const uint8_t *entry_of(enum guest_program program)
{
	switch (program) {
	case GUEST_ASK:
		return guest_ask;
	case GUEST_TELL:
		return guest_tell;
	case GUEST_RING:
		return guest_ring;
	case GUEST_GAPS:
		return guest_gaps;
	case GUEST_STORE:
		return guest_store;
	case GUEST_TOUCH:
		return guest_touch;
	case GUEST_IRQ:
		return guest_irq;
	case GUEST_IMAGE:
		return guest_image;
	case GUEST_WORK:
		return guest_work;
	case GUEST_SPIN:
	case GUEST_HALT:
		break;
	}
	return guest_spin;
}

static int call(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

int guest_enter(int vcpu_fd, unsigned index, enum guest_program program)
{
	struct kvm_mp_state mp = {.mp_state = program == GUEST_HALT ? KVM_MP_STATE_HALTED
								    : KVM_MP_STATE_RUNNABLE};
	/* I/O privilege level 3: ports need no bitmap. */
	struct kvm_regs regs = {
		.rflags = 2 | 3 << 12,
		.rsp = REAL_STACK,
		.rip = CODE_GPA + (uint64_t)(entry_of(program) - guest_code),
		.rdi = GUEST_AREA_GPA + (uint64_t)index % GUEST_AREAS * GUEST_AREA_BYTES,
	};
	struct kvm_sregs sregs;
	int r = call(vcpu_fd, KVM_GET_SREGS, &sregs);

	if (r < 0)
		return r;
	if (program == GUEST_IRQ)
		real_mode(&sregs, regs.rdi);
	else
		user_mode(&sregs);
	r = call(vcpu_fd, KVM_SET_SREGS, &sregs);
	if (r == 0)
		r = call(vcpu_fd, KVM_SET_REGS, &regs);
	return r < 0 ? r : call(vcpu_fd, KVM_SET_MP_STATE, &mp);
}

/* ---- time ------------------------------------------------------------------------------ */

uint64_t guest_ticks(void)
{
	return __rdtsc();
}

double guest_tick_ns(void)
{
	static double tick_ns;
	uint64_t ns, ticks;

	if (tick_ns > 0)
		return tick_ns;
	ns = now_ns();
	ticks = __rdtsc();
	while (now_ns() - ns < 20000000)
		cpu_relax();
	ns = now_ns() - ns;
	ticks = __rdtsc() - ticks;
	tick_ns = (double)ns / (double)ticks;
	return tick_ns;
}

uint64_t guest_gaps_on_host(uint64_t count)
{
	uint64_t last = __rdtsc(), largest = 0;

	for (; count > 0; count--) {
		uint64_t now = __rdtsc(), gap = now - last;

		last = now;
		largest = MAX(gap, largest);
	}
	return largest;
}
