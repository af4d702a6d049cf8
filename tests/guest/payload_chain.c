/* The guest of hash chains, which begins at CPL 3 by a snapshot that chain_make.c made: CPU 0 says
 * the end of each CPU's on COM1, in the order of CPUs, and powers off. With PAYLOAD_PAGES, it reads
 * from all over its 256 MiB first, changes some pages, says the sum of what was there and the VM
 * generation id, and is there for some seconds. */
#include "chain.h"

#define COM1	 0x3f8
#define CPUS_MAX 64

void chain_main(unsigned long cpu, unsigned long rounds, unsigned long cpus);

static volatile unsigned long long ends[CPUS_MAX];
static volatile unsigned char over[CPUS_MAX];

static void out8(unsigned short port, unsigned char v)
{
	__asm__ volatile("outb %0, %w1" ::"a"(v), "d"(port));
}

static void put_line(unsigned long long n)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		out8(COM1, (unsigned char)"0123456789abcdef"[n >> shift & 15]);
	out8(COM1, '\n');
}

#ifdef PAYLOAD_PAGES
#define PAGES_FROM   4096  /* a page: 16 MiB */
#define PAGES_TO     65536 /* 256 MiB */
#define PAGES_STEP   16
#define PAGES_CHANGE 1024
#define GENERATION   ((volatile unsigned long long *)0xff000)
#define CYCLES	     (1ull << 34) /* some seconds, in which each of many can be stopped */

static unsigned long long tsc(void)
{
	unsigned low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (unsigned long long)high << 32 | low;
}

static void pages(void)
{
	unsigned long long sum = 0;

	for (unsigned long page = PAGES_FROM; page < PAGES_TO; page += PAGES_STEP)
		sum += *(volatile unsigned long long *)(page << 12);
	for (unsigned long page = PAGES_FROM; page < PAGES_FROM + PAGES_CHANGE; page++)
		*(volatile unsigned long long *)(page << 12) = ~page;
	put_line(sum);
	put_line(*GENERATION);
	for (unsigned long long began = tsc(); tsc() - began < CYCLES;)
		__asm__ volatile("pause");
}
#else
static void pages(void)
{
}
#endif

void chain_main(unsigned long cpu, unsigned long rounds, unsigned long cpus)
{
	if (cpu == 0)
		pages();
	ends[cpu] = chain(cpu, rounds);
	over[cpu] = 1;
	for (unsigned long i = 0; cpu == 0 && i < cpus; i++) {
		while (!over[i])
			__asm__ volatile("pause");
		put_line(ends[i]);
	}
	if (cpu == 0)
		out8(0x600, 0x20 | 5 << 2); /* S5 */
	for (;;)
		__asm__ volatile("pause");
}
