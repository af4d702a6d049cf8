/* The first instruction of the guest that reads a disk (guest_disk.c). */
	.section .text, "ax"
	.globl _start
_start:
	call disk_main
	.section .note.GNU-stack, "", @progbits
