/* The init of the kernels that bench-linux boots: says one line, and waits to be killed. */
#include <asm/unistd.h>

#include "linux_word.h"

	.section .rodata
line:	.ascii LINUX_WORD "\n"
	.set line_len, . - line

	.text
	.globl _start
_start:
	mov $__NR_write, %eax
	mov $1, %edi
	lea line(%rip), %rsi
	mov $line_len, %edx
	syscall
1:	mov $__NR_pause, %eax
	syscall
	jmp 1b

	.section .note.GNU-stack, "", @progbits
