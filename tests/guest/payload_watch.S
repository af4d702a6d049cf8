/* An arm64 Image that counts in kernel memory by each kind of store that Linux counts with, one up by
 * every store: by STR and by STP at PLAIN, by load and store exclusive of two CPUs at EXCLUSIVE and, of
 * two registers, at WIDE, by an atomic instruction (where there are such) at ATOMIC. Then it says where
 * they got, in hex: "counted <plain> <exclusive> <atomic> <wide>" on the UART at 0x0D000000 (src/arch/aarch64/machine.h), and PSCI SYSTEM_OFF.
 * Sections are the ARM ARM's. */
#define UART	   0x0D000000
#define COUNTERS   0x42800000
#define KERNEL	   0xffffff8000000000 /* the same 512 GiB again, by TTBR1 */
#define PLAIN	   0x08
#define EXCLUSIVE  0x40
#define ATOMIC	   0x80
#define WIDE	   0xc0
#define ROUNDS	   3000	/* one a millisecond */
#define CPU_ON	   0xC4000003
#define SYSTEM_OFF 0x84000008

/* D8.3.1: 1 GiB blocks with the access flag; inner shareable write-back, or device memory (MAIR). */
#define BLOCK_NORMAL 0x701
#define BLOCK_DEVICE 0x405
#define MAIR	     0x04ff
/* D23.2, TCR_EL1: 39 bits either side, 4 KiB, cacheable, inner shareable, 40 bits out. */
#define TCR (25 | 25 << 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30 | 2 << 32)
#define SCTLR_ON 0x1005

/* Documentation/arch/arm64/booting.rst: 64 bytes. */
	.arch	armv8.1-a
	.globl	_start
_start:	b	start
	.long	0
	.quad	0		/* text_offset */
	.quad	0x10000		/* image_size */
	.quad	0xa		/* flags: 4 KiB pages, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

start:	adr	x0, low
	ldr	x1, =BLOCK_DEVICE
	str	x1, [x0]
	ldr	x1, =0x40000000 + BLOCK_NORMAL
	str	x1, [x0, #8]
	adr	x0, high
	str	x1, [x0, #8]
	bl	paging
	adr	x0, hello
	bl	print
	ldr	x19, =KERNEL + COUNTERS
	stp	xzr, xzr, [x19]
	str	xzr, [x19, #EXCLUSIVE]
	str	xzr, [x19, #ATOMIC]
	stp	xzr, xzr, [x19, #WIDE]
	mrs	x20, id_aa64isar0_el1
	ubfx	x20, x20, #20, #4	/* Atomic */
	mov	x21, #0
	mrs	x22, cntfrq_el0
	mov	x0, #1000
	udiv	x22, x22, x0
	mrs	x23, cntvct_el0
round:	ldr	x0, [x19, #PLAIN]
	add	x0, x0, #1
	str	x0, [x19, #PLAIN]
	add	x0, x0, #1
	stp	xzr, x0, [x19, #PLAIN - 8]
	bl	exclusive
	bl	wide
	cbz	x20, 1f
	mov	x0, #1
	add	x2, x19, #ATOMIC
	ldadd	x0, x1, [x2]
1:	add	x21, x21, #1
	cmp	x21, #ROUNDS / 2
	b.ne	2f
	mov	x1, #1			/* the second joins in */
	adr	x2, second
	ldr	x0, =KERNEL
	sub	x2, x2, x0
	ldr	w0, =CPU_ON
	mov	x3, #0
	hvc	#0
2:	add	x23, x23, x22
3:	mrs	x0, cntvct_el0
	cmp	x0, x23
	b.lt	3b
	cmp	x21, #ROUNDS
	b.lt	round
	adr	x1, stop
	mov	x0, #1
	str	x0, [x1]
	adr	x1, stopped
4:	ldar	x0, [x1]
	cbz	x0, 4b
	adr	x0, said
	bl	print
	ldr	x0, [x19, #PLAIN]
	bl	hex
	ldr	x0, [x19, #EXCLUSIVE]
	bl	hex
	ldr	x0, [x19, #ATOMIC]
	bl	hex
	ldr	x0, [x19, #WIDE]
	bl	hex
	adr	x0, newline
	bl	print
	ldr	w0, =SYSTEM_OFF
	hvc	#0
1:	b	1b

second:	bl	paging
	ldr	x19, =KERNEL + COUNTERS
1:	bl	exclusive
	bl	wide
	adr	x1, stop
	ldr	x0, [x1]
	cbz	x0, 1b
	adr	x1, stopped
	stlr	x0, [x1]
2:	b	2b

/* As Linux does where it has nothing better (arch/arm64/include/asm/atomic_ll_sc.h). */
exclusive:
	add	x2, x19, #EXCLUSIVE
1:	ldxr	x0, [x2]
	add	x0, x0, #1
	stxr	w3, x0, [x2]
	cbnz	w3, 1b
	ret

/* The same of 16 bytes (arch/arm64/include/asm/cmpxchg.h). */
wide:	add	x2, x19, #WIDE
1:	ldxp	x0, x1, [x2]
	add	x0, x0, #1
	stxp	w3, x0, x1, [x2]
	cbnz	w3, 1b
	ret

paging:	adr	x0, low
	msr	ttbr0_el1, x0
	adr	x0, high
	msr	ttbr1_el1, x0
	ldr	x0, =MAIR
	msr	mair_el1, x0
	ldr	x0, =TCR
	msr	tcr_el1, x0
	dsb	sy
	isb
	mrs	x0, sctlr_el1
	ldr	x1, =SCTLR_ON
	orr	x0, x0, x1
	msr	sctlr_el1, x0
	isb
	ldr	x0, =KERNEL	/* where kernels run */
	add	x30, x30, x0
	ret

/* x0: a string. */
print:	ldr	w2, =UART
1:	ldrb	w1, [x0], #1
	cbz	w1, 2f
	strb	w1, [x2]
	b	1b
2:	ret

/* x0: a number, and a blank before it. */
hex:	ldr	w2, =UART
	mov	w1, #' '
	strb	w1, [x2]
	mov	w3, #60
1:	lsr	x1, x0, x3
	and	w1, w1, #15
	cmp	w1, #10
	add	w4, w1, #'0'
	add	w5, w1, #'a' - 10
	csel	w1, w4, w5, lt
	strb	w1, [x2]
	subs	w3, w3, #4
	b.ge	1b
	ret

hello:	.asciz	"payload is up\n"
said:	.asciz	"counted"
newline: .asciz	"\n"
	.balign	8
stop:	.quad	0
stopped: .quad	0
	.pool
	.balign	4096
low:	.skip	4096
high:	.skip	4096
