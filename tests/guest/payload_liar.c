/* A guest that lies to who profiles it, at CPL 3 by a snapshot that chain_make.c made: stacks that
 * go through all of its memory and never end, in pages whose tables change, and what looks like
 * kernels to who searches for one; all of it another from one moment to the next. */
typedef unsigned int u32;
typedef unsigned char u8;
typedef unsigned long u64;

#define COM1	   0x3f8
#define DIRS	   ((volatile u64 *)0x4000) /* of pages of 2 MiB, one to one */
#define LIES	   0x280000ul		    /* from here records, 32 MiB of them … */
#define LIES_BYTES 0x2000000ul
#define HOLES	   0x2400000ul /* … then pages that come and go … */
#define KERNELS	   0x3800000ul /* … and what kernels say of themselves */
#define KERNEL_N   256
#define DEEP	   64 /* records of a stack; more than anybody follows */

void chain_main(void);
void call_somebody(void);

static u64 state = 0x5eed;

static u64 draw(void)
{
	state ^= state << 13; /* xorshift64 (Marsaglia, Xorshift RNGs, 2003) */
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void put(const char *s)
{
	while (*s)
		__asm__ volatile("outb %0, %w1" ::"a"((u8)*s++), "d"(COM1));
}

/* An address behind a call: one that a stack may well have. */
extern const u8 behind_a_call[];
__asm__(".text\n"
	".globl call_somebody\n"
	"call_somebody:\n"
	"	call 1f\n"
	".globl behind_a_call\n"
	"behind_a_call:\n"
	"1:	add $8, %rsp\n"
	"	ret\n");

static void make_kernels(void)
{
	static const char text[] =
		"OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff8100X000\n"
		"NUMBER(phys_base)=0\nSYMBOL(kallsyms_names)=ffffffff8100X000\n"
		"SYMBOL(kallsyms_num_syms)=ffffffff8100X000\nSYMBOL(_stext)=ffffffff81000000\n";

	for (u64 page = 0; page < KERNEL_N; page++) {
		char *to = (char *)(KERNELS + page * 4096);

		for (u32 i = 0; i < sizeof(text); i++)
			to[i] = text[i] == 'X' ? (char)('0' + draw() % 10) : text[i];
	}
}

/* Each leads up, by less than 1 MiB, to a page of its own; some through pages that are not there.
 */
static u64 make_stack(void)
{
	u64 first = LIES + draw() % 4096 * 8, at = first;

	for (u32 i = 0; i < DEEP && at < LIES + LIES_BYTES - 0x100000; i++) {
		u64 next = at + 16 + draw() % 0xffff0 / 8 * 8;

		if (draw() % 64 == 0)
			next = HOLES + draw() % 0x1000 * 8;
		((volatile u64 *)at)[0] = next;
		((volatile u64 *)at)[1] = (u64)behind_a_call;
		at = next;
	}
	return first;
}

static void move_tables(void)
{
	for (u64 i = HOLES >> 21; i < KERNELS >> 21; i++)
		DIRS[i] = draw() % 2 ? draw() : i << 21 | 0x87;
}

void chain_main(void)
{
	put("payload is up\n");
	for (;;) {
		u64 fp = make_stack(), turns = 20000;

		move_tables();
		if (draw() % 256 == 0)
			make_kernels();
		__asm__ volatile("push %%rbp\n"
				 "mov %1, %%rbp\n"
				 "1: dec %0\n"
				 "jnz 1b\n"
				 "pop %%rbp"
				 : "+r"(turns)
				 : "r"(fp)
				 : "memory");
	}
}
