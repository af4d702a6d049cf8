/* Guests of a few instructions that run at CPL 3, which every KVM runs at native speed: one that
 * emulates CPL 0 would be measured otherwise. The floor and the product run the same ones. */
#ifndef STASIS_BENCH_GUEST_H
#define STASIS_BENCH_GUEST_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"

/* Guest memory, mapped one to one, as are the 4 GiB from 0.
 *   0x1000 PML4   0x2000 PDPT   0x4000 four page directories   0x8000 GDT   0x9000 code
 *   0x100000 one area for each vCPU */
#define GUEST_RAM_BYTES	   MIB(4)
#define GUEST_AREA_GPA	   0x100000u
#define GUEST_AREA_BYTES   0x8000u
#define GUEST_AREAS	   64
#define GUEST_PORT	   0x30 /* what GUEST_ASK reads and GUEST_TELL writes */
#define GUEST_DOORBELL_GPA 0xC0000000u
#define GUEST_IMAGE_GPA	   0x1000000u

#define GUEST_VECTOR 0x30

/* GUEST_TOUCH: one byte of each page of it, then this to that port. */
#define GUEST_SET_GPA	0x1000000u
#define GUEST_SET_BYTES 0x1000000u
#define GUEST_SAYS	'!'
#define GUEST_COM1	0x3f8

enum guest_program {
	GUEST_SPIN,  /* jumps to itself */
	GUEST_ASK,   /* reads the port, over and over, and keeps how long each took */
	GUEST_TELL,  /* writes the port, likewise */
	GUEST_RING,  /* writes the doorbell, and waits until its answer word has changed */
	GUEST_GAPS,  /* keeps time-stamp gaps, see guest_area */
	GUEST_STORE, /* adds one to answer, now and then */
	GUEST_TOUCH, /* once answer is not 0, writes to the working set and says so on COM1 */
	GUEST_IRQ,   /* halts, at CPL 0; each interrupt with GUEST_VECTOR adds one to answer */
	GUEST_IMAGE, /* jumps to GUEST_IMAGE_GPA, where its maker has put something */
	GUEST_WORK,  /* works as long as answer says, GUEST_WORK_CALLS deep; then reads the port */
	GUEST_HALT,  /* no program: halted in KVM, until an interrupt that never comes */
};

#define GUEST_SAMPLES	 4096
#define GUEST_WORK_CALLS 16 /* each with a frame that rbp leads to */

/* What a vCPU and the host say to each other. */
struct guest_area {
	CACHE_ALIGNED _Atomic uint64_t count;  /* guest: samples so far */
	CACHE_ALIGNED _Atomic uint32_t answer; /* changes once for each doorbell, interrupt; or
						not 0: how long to work */
	CACHE_ALIGNED _Atomic uint32_t sample[GUEST_SAMPLES]; /* ticks; at count % GUEST_SAMPLES */
};

#define GUEST_FILL_BYTES 0xA000u /* what guest_fill writes */
void guest_fill(uint8_t *ram);
static inline struct guest_area *guest_area(uint8_t *ram, unsigned index)
{
	return (struct guest_area *)(void *)(ram + GUEST_AREA_GPA + index * GUEST_AREA_BYTES);
}
/* Registers that begin the program; any vCPU, also one that waits for its start-up IPI. */
int guest_enter(int vcpu_fd, unsigned index, enum guest_program program) MUST_CHECK;

/* The time-stamp counter, and how many nanoseconds one of its ticks is. */
uint64_t guest_ticks(void);
double guest_tick_ns(void);
/* The loop of GUEST_GAPS on the host, for count gaps: the largest, in ticks. */
uint64_t guest_gaps_on_host(uint64_t count);

#endif
