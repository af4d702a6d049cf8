/* A guest that says by its virtio-console (virtio 1.2, 5.3) what init says of a COMMAND
 * (src/guest/session_protocol.h), without Linux: COMMAND counts on its standard output, a line
 * each, until one has come on its standard input; says that one, and ends with status 7. Without
 * interrupts. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define COM1_STATUS 0x3fd
#define WINDOWS	    0xc0000000
#define WINDOW	    0x1000
#define QUEUES	    12
#define SIZE	    4 /* of each */
#define BUFFER	    256
#define PAUSE	    300 /* port reads between two counts: some milliseconds */

enum { MAGIC = 0x00, DEVICE = 0x08, DRIVER = 0x20, DRIVER_SEL = 0x24, QUEUE_SEL = 0x30 };
enum { QUEUE_NUM = 0x38, READY = 0x44, NOTIFY = 0x50, STATUS = 0x70, DESC = 0x80, AVAIL = 0x90 };
enum { USED = 0xa0 };
enum { F_WRITE = 2 };
/* 5.3.2 and machine.h: the ports' queues. */
enum { ORDERS_IN = 2, ORDERS_OUT, CONTROL_IN, CONTROL_OUT, INPUT, OUTPUT = 9 };
/* 5.3.6.2 */
enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, PORT_OPEN = 6 };

struct message {
	u32 id;
	u16 event, value;
};

static struct queue {
	volatile struct {
		u32 addr, addr_high, len;
		u16 flags, next;
	} desc[SIZE] __attribute__((aligned(16)));
	volatile struct {
		u16 flags, idx, ring[SIZE];
	} avail __attribute__((aligned(4)));
	volatile struct {
		u16 flags, idx;
		struct {
			u32 id, len;
		} ring[SIZE];
	} used __attribute__((aligned(4)));
	u16 seen;
	u8 buffer[SIZE][BUFFER];
} queue[QUEUES];

void payload_main(void);

static void stop(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static u32 get(u32 reg)
{
	return *(volatile u32 *)(WINDOWS + reg);
}

static void set(u32 reg, u32 value)
{
	*(volatile u32 *)(WINDOWS + reg) = value;
}

static void offer(u32 q, u16 slot, u32 len, u16 flags)
{
	struct queue *k = &queue[q];

	k->desc[slot].addr = (u32)k->buffer[slot];
	k->desc[slot].len = len;
	k->desc[slot].flags = flags;
	k->avail.ring[k->avail.idx % SIZE] = slot;
	k->avail.idx++; /* stores are seen in their order here */
	set(NOTIFY, q);
}

static void bring_up(void)
{
	/* The first window is the console's: board.c. */
	if (get(MAGIC) != 0x74726976 || get(DEVICE) != 3)
		stop();
	set(STATUS, 0);
	set(STATUS, 3);
	set(DRIVER_SEL, 1);
	set(DRIVER, 1); /* VERSION_1 */
	set(DRIVER_SEL, 0);
	set(DRIVER, 2); /* MULTIPORT */
	set(STATUS, 11);
	if (!(get(STATUS) & 8))
		stop();
	for (u32 q = 0; q < QUEUES; q++) {
		queue[q].avail.flags = 1; /* no interrupts */
		set(QUEUE_SEL, q);
		set(QUEUE_NUM, SIZE);
		set(DESC, (u32)queue[q].desc);
		set(AVAIL, (u32)&queue[q].avail);
		set(USED, (u32)&queue[q].used);
		set(READY, 1);
	}
	set(STATUS, 15);
	for (u16 slot = 0; slot < SIZE; slot++) {
		offer(ORDERS_IN, slot, BUFFER, F_WRITE);
		offer(CONTROL_IN, slot, BUFFER, F_WRITE);
		offer(INPUT, slot, BUFFER, F_WRITE);
	}
}

/* Waits until it has been taken. */
static void send(u32 q, const void *data, u32 len)
{
	struct queue *k = &queue[q];

	for (u32 i = 0; i < len; i++)
		k->buffer[0][i] = ((const u8 *)data)[i];
	offer(q, 0, len, 0);
	while (k->used.idx == k->seen)
		__asm__ volatile("pause");
	k->seen++;
}

static u32 length(const char *s)
{
	u32 n = 0;

	while (s[n])
		n++;
	return n;
}

static void say(u32 q, const char *s)
{
	send(q, s, length(s));
}

/* What has come, at most max bytes of it; 0: nothing has. */
static u32 receive(u32 q, u8 *to, u32 max)
{
	struct queue *k = &queue[q];
	u32 len, slot;

	if (k->used.idx == k->seen)
		return 0;
	slot = k->used.ring[k->seen % SIZE].id;
	len = k->used.ring[k->seen % SIZE].len;
	k->seen++;
	for (u32 i = 0; i < len && i < max; i++)
		to[i] = k->buffer[slot][i];
	offer(q, (u16)slot, BUFFER, F_WRITE);
	return len < max ? len : max;
}

static void order(u32 id, u16 event, u16 value)
{
	struct message m = {id, event, value};

	send(ORDERS_OUT, &m, sizeof(m));
}

static void open_ports(void)
{
	struct message m;

	order(0xffffffff, DEVICE_READY, 1);
	for (u32 ports = 0; ports < 5;) {
		if (receive(ORDERS_IN, (u8 *)&m, sizeof(m)) < sizeof(m) || m.event != PORT_ADD)
			continue;
		ports++;
		order(m.id, PORT_READY, 1);
		order(m.id, PORT_OPEN, 1);
	}
}

/* Until a line has come by the control port. */
static void wait_line(void)
{
	u8 text[BUFFER];

	for (;;) {
		u32 len = receive(CONTROL_IN, text, sizeof(text));

		for (u32 i = 0; i < len; i++)
			if (text[i] == '\n')
				return;
	}
}

static void say_number(const char *word, u32 n)
{
	char text[40], digits[12], *p = digits + 11;
	u32 at = 0;

	*p = 0;
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	while (*word)
		text[at++] = *word++;
	while (*p)
		text[at++] = *p++;
	text[at++] = '\n';
	send(OUTPUT, text, at);
}

static void pause(void)
{
	u8 v;

	for (u32 i = 0; i < PAUSE; i++)
		__asm__ volatile("inb %w1, %b0" : "=a"(v) : "d"(COM1_STATUS));
}

/* COMMAND. */
static void run(void)
{
	char line[BUFFER];
	u32 at = 0;

	for (u32 n = 1;; n++) {
		u8 text[BUFFER];
		u32 len = receive(INPUT, text, sizeof(text));

		for (u32 i = 0; i < len && at + 1 < sizeof(line); i++) {
			line[at++] = (char)text[i];
			if (text[i] != '\n')
				continue;
			say(OUTPUT, "read ");
			send(OUTPUT, line, at);
			return;
		}
		say_number("count ", n);
		pause();
	}
}

void payload_main(void)
{
	bring_up();
	open_ports();
	say(CONTROL_OUT, "hello 2\n");
	wait_line(); /* go */
	say(CONTROL_OUT, "started\n");
	run();
	say(CONTROL_OUT, "exited 7\n");
	say(CONTROL_OUT, "done\n");
	wait_line(); /* bye, which may never come */
	stop();
}
