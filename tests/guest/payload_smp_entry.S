/* PVH entry of the guest of many CPUs (payload_smp.c), and what each further CPU runs in real mode,
 * from the page that its start-up IPI names. The words at 0x7000 are shared with the first CPU. */
#define ARRIVED  0x7000
#define TAKEN    0x7004
#define LAST_ID  0x7008
#define LAST_IRQ 0x700c
#define NEXT_SP  0x7010

	.section .note.Xen, "a", @note
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY: xen/include/public/elfnote.h */
	.asciz "Xen"
	.long _start

	.section .text.start, "ax"
	.code32
	.globl _start
_start:
	mov $stack_top, %esp
	push %ebx
	call smp_main
1:	hlt
	jmp 1b

	.globl ap_start, ap_irq, ap_end
	.code16
ap_start:
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov $0x2000, %ax
	mov %ax, %ss
	mov NEXT_SP, %sp
	mov $0x1b, %ecx /* IA32_APIC_BASE: enabled, x2APIC */
	rdmsr
	or $0xc00, %eax
	wrmsr
	mov $0x80f, %ecx /* spurious vector: software-enabled */
	mov $0x1ff, %eax
	xor %edx, %edx
	wrmsr
	mov $0x802, %ecx /* x2APIC id */
	rdmsr
	mov %eax, LAST_ID
	lock incl ARRIVED
	sti
1:	hlt
	jmp 1b
ap_irq:
	mov $0x802, %ecx /* x2APIC id */
	rdmsr
	mov %eax, LAST_IRQ
	mov $0x80b, %ecx /* EOI */
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	lock incl TAKEN
	iret
ap_end:
	.bss
	.balign 16
	.space 4096
stack_top:
	.section .note.GNU-stack, "", @progbits
