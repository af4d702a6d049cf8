/* A guest that starts every CPU of its MADT, one after another: each says its x2APIC id, then takes
 * an interrupt that the IOAPIC sends to it, and halts. Ends with one line on COM1 and a power-off.
 */
typedef unsigned int u32;
typedef unsigned char u8;

#define ARRIVED	 (*(volatile u32 *)0x7000)
#define TAKEN	 (*(volatile u32 *)0x7004)
#define LAST_ID	 (*(volatile u32 *)0x7008)
#define LAST_IRQ (*(volatile u32 *)0x700c)
#define NEXT_SP	 (*(volatile u32 *)0x7010)
#define AP_CODE	 0x8000
#define VECTOR	 0x30
#define COM1	 0x3f8
#define COM2	 0x2f8
#define COM2_PIN 3
#define PATIENCE 3000000u /* turns of a waiting loop: seconds */

extern u8 ap_start[], ap_irq[], ap_end[];
void smp_main(u32 start_info);

static void out8(u32 port, u8 v)
{
	__asm__ volatile("outb %0, %w1" ::"a"(v), "d"(port));
}

static void wrmsr(u32 msr, u32 lo, u32 hi)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"(lo), "d"(hi) : "memory");
}

static u32 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo;
}

static void put(const char *s)
{
	while (*s)
		out8(COM1, (u8)*s++);
}

static void put_number(u32 n)
{
	char buf[12], *p = buf + 11;

	*p = 0;
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	put(p);
}

static void ioapic(u32 reg, u32 value)
{
	*(volatile u32 *)0xfec00000 = reg;
	*(volatile u32 *)0xfec00010 = value;
}

static int wait_past(volatile u32 *count, u32 before)
{
	for (u32 i = 0; i < PATIENCE; i++) {
		if (*count != before)
			return 1;
		__asm__ volatile("pause");
	}
	return 0;
}

static u32 started, interrupted;

static void start(u32 id)
{
	u32 before = ARRIVED;

	/* A stack of 64 bytes is enough for an interrupt frame; those halted keep theirs. */
	NEXT_SP = 64 + started % 1023 * 64;
	wrmsr(0x830, 0x4500, id); /* ICR: INIT, then start-up (SDM 3, 11.12.9) */
	wrmsr(0x830, 0x4600 | AP_CODE >> 12, id);
	if (!wait_past(&ARRIVED, before) || LAST_ID != id) {
		put("silent: ");
		put_number(id);
		put("\n");
		return;
	}
	started++;
	before = TAKEN;
	/* High half: id bits 7:0 at 31:24, bits 14:8 at 23:17 (devices/ioapic.h). */
	ioapic(0x11 + 2 * COM2_PIN, (id & 0xff) << 24 | (id >> 8) << 17);
	ioapic(0x10 + 2 * COM2_PIN, VECTOR);
	out8(COM2 + 1, 0);
	out8(COM2 + 1, 2); /* the transmitter is empty, and now may say so */
	if (!wait_past(&TAKEN, before) || LAST_IRQ != id) {
		put("deaf: ");
		put_number(id);
		put("\n");
		return;
	}
	interrupted++;
}

static u32 get32(u32 at)
{
	return *(volatile u32 *)at;
}

void smp_main(u32 start_info)
{
	/* hvm_start_info.rsdp_paddr; RSDP.XsdtAddress: all below 4 GiB here. */
	u32 xsdt = get32(get32(start_info + 32) + 24), madt = 0, own;

	for (u32 i = 0; i < (u32)(ap_end - ap_start); i++)
		((volatile u8 *)AP_CODE)[i] = ap_start[i];
	*(volatile u32 *)(VECTOR * 4) = AP_CODE + (u32)(ap_irq - ap_start);
	ARRIVED = TAKEN = 0;
	wrmsr(0x1b, rdmsr(0x1b) | 0xc00, 0);
	wrmsr(0x80f, 0x1ff, 0);
	own = rdmsr(0x802);
	for (u32 at = xsdt + 36; at < xsdt + get32(xsdt + 4); at += 8)
		if (get32(get32(at)) == 0x43495041) /* APIC */
			madt = get32(at);
	for (u32 at = madt + 44; madt && at < madt + get32(madt + 4);
	     at += ((volatile u8 *)at)[1]) {
		u32 id = ((volatile u8 *)at)[0] == 0   ? ((volatile u8 *)at)[3]
			 : ((volatile u8 *)at)[0] == 9 ? get32(at + 4)
						       : own;

		if (id != own)
			start(id);
	}
	put_number(started);
	put(" started, ");
	put_number(interrupted);
	put(" interrupted\n");
#ifdef PAYLOAD_STAY
	for (;;)
		__asm__ volatile("cli; hlt");
#endif
	out8(0x600, 0x20 | 5 << 2);
}
