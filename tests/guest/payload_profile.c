/* A guest that spends three quarters of its time in one function, and a quarter in another: from
 * power-on, or (PAYLOAD_CPL3) at CPL 3 by a snapshot that chain_make.c made. */
typedef unsigned int u32;
typedef unsigned char u8;

#define COM1  0x3f8
#define TURNS 20000

void payload_main(void);
void chain_main(void);
void three_quarters(u32 turns);
void one_quarter(u32 turns);

static void put(const char *s)
{
	while (*s)
		__asm__ volatile("outb %0, %w1" ::"a"((u8)*s++), "d"(COM1));
}

static inline __attribute__((always_inline)) void turn(u32 turns)
{
	while (turns--)
		__asm__ volatile("");
}

__attribute__((noinline, noclone)) void three_quarters(u32 turns)
{
	turn(turns);
	__asm__ volatile("nop; nop");
}

__attribute__((noinline, noclone)) void one_quarter(u32 turns)
{
	turn(turns);
	__asm__ volatile("nop");
}

void payload_main(void)
{
	put("payload is up\n");
	for (;;) {
		three_quarters(3 * TURNS);
		one_quarter(TURNS);
	}
}

#ifdef PAYLOAD_CPL3
void chain_main(void)
{
	payload_main();
}
#endif
