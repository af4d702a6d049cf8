/* A chain of steps whose whole state is in registers (integer, x87 with its rounding mode, SSE with
 * its own): whatever is lost of them makes another end. The guest and the host run the same code.
 */
#ifndef STASIS_TEST_CHAIN_H
#define STASIS_TEST_CHAIN_H

struct chain_end {
	unsigned long long number;
	unsigned char x87[16], sse[5][16];
};

/* Seeds differ by CPU. Both real chains are x <- 4x(1-x), which doubles any error at each step. */
static inline unsigned long long chain(unsigned long cpu, unsigned long rounds)
{
	static const double begin[2] = {0.3, 0.7};
	static const double one[2] = {1.0, 1.0};
	static const unsigned short x87_down = 0x077f; /* extended, towards minus infinity */
	static const unsigned mxcsr_zero = 0x7f80;     /* towards zero */
	static const unsigned short x87_usual = 0x037f;
	static const unsigned mxcsr_usual = 0x1f80;
	struct chain_end end = {0};
	unsigned long number = 0x9e3779b97f4a7c15ul * (cpu + 1);
	unsigned long long hash = 0xcbf29ce484222325ull;

	__asm__ volatile("fninit\n\t"
			 "fldcw %[down]\n\t"
			 "ldmxcsr %[zero]\n\t"
			 "movq %[number], %%xmm0\n\t"
			 "pshufd $0x44, %%xmm0, %%xmm1\n\t"
			 "movdqa %%xmm1, %%xmm2\n\t"
			 "movdqa %%xmm1, %%xmm3\n\t"
			 "movupd %[begin], %%xmm5\n\t"
			 "movupd %[one], %%xmm6\n\t"
			 "fldl %[begin]\n"
			 "1:\n\t"
			 "imul %[k], %[number]\n\t"
			 "rol $13, %[number]\n\t"
			 "xor %[rounds], %[number]\n\t"
			 "movq %[number], %%xmm4\n\t"
			 "paddq %%xmm4, %%xmm0\n\t"
			 "pxor %%xmm0, %%xmm1\n\t"
			 "paddd %%xmm1, %%xmm2\n\t"
			 "pshufd $0x39, %%xmm2, %%xmm3\n\t"
			 "paddq %%xmm3, %%xmm0\n\t"
			 "movapd %%xmm6, %%xmm7\n\t"
			 "subpd %%xmm5, %%xmm7\n\t"
			 "mulpd %%xmm7, %%xmm5\n\t"
			 "addpd %%xmm5, %%xmm5\n\t"
			 "addpd %%xmm5, %%xmm5\n\t"
			 "fld1\n\t"
			 "fsub %%st(1), %%st\n\t"
			 "fmulp %%st, %%st(1)\n\t"
			 "fadd %%st, %%st\n\t"
			 "fadd %%st, %%st\n\t"
			 "dec %[rounds]\n\t"
			 "jnz 1b\n\t"
			 "fstpt %[x87]\n\t"
			 "movdqu %%xmm0, %[s0]\n\t"
			 "movdqu %%xmm1, %[s1]\n\t"
			 "movdqu %%xmm2, %[s2]\n\t"
			 "movdqu %%xmm3, %[s3]\n\t"
			 "movupd %%xmm5, %[s4]\n\t"
			 "fldcw %[usual]\n\t"
			 "ldmxcsr %[usual_sse]"
			 : [number] "+r"(number), [rounds] "+r"(rounds), [x87] "=m"(end.x87),
			   [s0] "=m"(end.sse[0]), [s1] "=m"(end.sse[1]), [s2] "=m"(end.sse[2]),
			   [s3] "=m"(end.sse[3]), [s4] "=m"(end.sse[4])
			 : [k] "r"(0x5851f42d4c957f2dul), [down] "m"(x87_down),
			   [zero] "m"(mxcsr_zero), [begin] "m"(begin), [one] "m"(one),
			   [usual] "m"(x87_usual), [usual_sse] "m"(mxcsr_usual)
			 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "st",
			   "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)", "cc");
	end.number = number;
	for (unsigned long i = 0; i < sizeof(end); i++)
		hash = (hash ^ ((const unsigned char *)&end)[i]) * 0x100000001b3ull;
	return hash;
}

#endif
