/* PVH entry of the guest that speaks as init does (payload_session.c). */
	.section .note.Xen, "a", @note
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY: xen/include/public/elfnote.h */
	.asciz "Xen"
	.long _start

	.section .text.start, "ax"
	.code32
	.globl _start
_start:
	mov $stack_top, %esp
	call session_main
	.bss
	.balign 16
	.space 4096
stack_top:
	.section .note.GNU-stack, "", @progbits
