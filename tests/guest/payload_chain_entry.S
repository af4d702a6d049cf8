/* The first instruction of the guest of hash chains (payload_chain.c); registers are its arguments.
 */
	.section .text, "ax"
	.globl _start
_start:
	call chain_main
	.section .note.GNU-stack, "", @progbits
