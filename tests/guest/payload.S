/* A guest of a few instructions with a PVH entry, for hosts whose KVM runs no stock kernel.
 * It writes a line to COM1 and then does what it was built for: PAYLOAD_HALT, PAYLOAD_SPIN,
 * PAYLOAD_ASK (reads its serial port's line status again and again),
 * PAYLOAD_POWEROFF (ACPI sleep control, S5), PAYLOAD_RESET (i8042), PAYLOAD_TRIPLE (fault). */

#define COM1          0x3f8
#define COM1_STATUS   0x3fd
#define SLEEP_CONTROL 0x600
#define S5_ENABLE     (0x20 | 5 << 2)

	.section .note.Xen, "a", @note
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY: xen/include/public/elfnote.h */
	.asciz "Xen"
	.long _start

	.section .text
	.code32
	.globl _start
_start:
	mov $COM1, %dx
	mov $line, %esi
1:	lodsb
	test %al, %al
	jz 2f
	out %al, %dx
	jmp 1b
2:
#if defined(PAYLOAD_HALT)
3:	cli
	hlt
	jmp 3b
#elif defined(PAYLOAD_SPIN)
3:	jmp 3b
#elif defined(PAYLOAD_ASK)
	mov $COM1_STATUS, %dx
3:	in %dx, %al
	jmp 3b
#elif defined(PAYLOAD_POWEROFF)
	mov $SLEEP_CONTROL, %dx
	mov $S5_ENABLE, %al
	out %al, %dx
3:	jmp 3b
#elif defined(PAYLOAD_RESET)
	mov $0xfe, %al
	out %al, $0x64
3:	jmp 3b
#elif defined(PAYLOAD_TRIPLE)
	lidt no_idt
	ud2
no_idt:
	.word 0
	.long 0
#endif

	.section .rodata
line:	.asciz "payload is up\n"
	.section .note.GNU-stack, "", @progbits
