/* PVH entry of a guest in C with one CPU: payload_main, which does not return. */
	.section .note.Xen, "a", @note
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY: xen/include/public/elfnote.h */
	.asciz "Xen"
	.long _start

	.section .text.start, "ax"
	.code32
	.globl _start
_start:
	mov $stack_top, %esp
	call payload_main
	.bss
	.balign 16
	.space 4096
stack_top:
	.section .note.GNU-stack, "", @progbits
