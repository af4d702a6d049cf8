/* An arm64 Image that asks its hypervisor for stolen time (Arm DEN0057), spins on every CPU that
 * PSCI starts for 3 seconds, and says by how much it has grown: "stolen <ns, hex> of <ns, hex>".
 * Two lines on the UART at 0x0D000000 (src/arch/aarch64/machine.h), then PSCI SYSTEM_OFF. */
#define UART		 0x0D000000
#define CPUS		 4
#define SECONDS		 3
#define PV_TIME_FEATURES 0xC5000020
#define PV_TIME_ST	 0xC5000021
#define CPU_ON		 0xC4000003
#define SYSTEM_OFF	 0x84000008

/* Documentation/arch/arm64/booting.rst: 64 bytes. */
	.globl	_start
_start:	b	start
	.long	0
	.quad	0		/* text_offset */
	.quad	0x10000		/* image_size */
	.quad	0xa		/* flags: 4 KiB pages, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

start:	adr	x1, stack
	mov	sp, x1
	adr	x0, hello
	bl	print
	ldr	w0, =PV_TIME_FEATURES
	ldr	w1, =PV_TIME_ST
	hvc	#0
	cbnz	x0, none
	ldr	w0, =PV_TIME_ST
	hvc	#0
	cmn	x0, #1
	b.eq	none
	mov	x19, x0		/* the structure: revision, attributes, stolen time at 8 */
	mov	x20, #1
1:	ldr	w0, =CPU_ON
	mov	x1, x20		/* MPIDR: Aff0 */
	adr	x2, spin
	mov	x3, #0
	hvc	#0
	add	x20, x20, #1
	cmp	x20, #CPUS
	b.lt	1b
	bl	stolen
	mov	x21, x0
	mrs	x22, cntvct_el0
	mrs	x23, cntfrq_el0
	mov	x1, #SECONDS
	mul	x24, x23, x1
2:	mrs	x0, cntvct_el0
	sub	x0, x0, x22
	cmp	x0, x24
	b.lt	2b
	bl	stolen
	sub	x25, x0, x21
	adr	x0, said
	bl	print
	mov	x0, x25
	bl	hex
	adr	x0, of
	bl	print
	ldr	x0, =SECONDS * 1000000000
	bl	hex
	adr	x0, newline
	bl	print
	b	off
none:	adr	x0, lacks
	bl	print
off:	ldr	w0, =SYSTEM_OFF
	hvc	#0
spin:	b	spin

/* x0: nanoseconds. The MMU is off: what KVM wrote may still be in a cache. */
stolen:	dc	civac, x19
	dsb	sy
	ldr	x0, [x19, #8]
	ret

/* x0: a string. */
print:	ldr	w2, =UART
1:	ldrb	w1, [x0], #1
	cbz	w1, 2f
	strb	w1, [x2]
	b	1b
2:	ret

/* x0: a number. */
hex:	ldr	w2, =UART
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
said:	.asciz	"stolen "
of:	.asciz	" of "
lacks:	.asciz	"no stolen time here\n"
newline: .asciz	"\n"
	.balign	16
	.pool
	.skip	256
	.balign	16
stack:
	.skip	16
