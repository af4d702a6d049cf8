/* A guest that drives each of its virtio devices by itself, and says on COM1 what came of it:
 * entropy, a disk, a socket of the host's that echoes, and ARP requests to who is at the other end
 * of its network. */
#include "payload_virtio.h"

#define ROUNDS 64u
#define SECTOR 512u
#define PAGE   4096u
#define PORT   5u /* of the host's socket that echoes */

struct vsock_header { /* 5.10.6 */
	u32 src_cid, src_cid_high, dst_cid, dst_cid_high, src_port, dst_port, len;
	u16 type, op;
	u32 flags, buf_alloc, fwd_cnt;
};
enum { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE };

static struct vq rx, tx, events;
static u8 in[4][PAGE + sizeof(struct vsock_header)] __attribute__((aligned(PAGE)));
static u8 out[PAGE + sizeof(struct vsock_header)] __attribute__((aligned(PAGE)));

void payload_main(void);

static void fill(u8 *at, u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++)
		at[i] = (u8)(seed + 7 * i);
}

static int is_filled(const u8 *at, u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++)
		if (at[i] != (u8)(seed + 7 * i))
			return 0;
	return 1;
}

static void done(const char *what, u32 rounds)
{
	put(what);
	put_char(' ');
	put_number(rounds);
}

/* ---- entropy -----------------------------------------------------------------------------------
 */

static void entropy(u32 w)
{
	u32 rounds = 0;
	u16 head;

	if (!device_begin(w, 0))
		return;
	vq_begin(&rx, w, 0);
	device_go(w);
	for (; rounds < ROUNDS; rounds++) {
		const struct vseg seg = {in[rounds % 2], 64, F_WRITE};
		u32 same = 0;

		vq_offer(&rx, 1, &seg);
		vq_notify(&rx);
		if (vq_take(&rx, &head) != 64)
			break;
		for (u32 i = 0; i < 64; i++)
			same += in[0][i] == in[1][i];
		if (same > 32)
			break;
	}
	done("entropy", rounds);
}

/* ---- a disk ------------------------------------------------------------------------------------
 */

static int transfer(u32 type, u32 sector, u8 *data)
{
	static volatile u32 header[4];
	static volatile u8 status;
	const struct vseg seg[] = {{header, 16, 0},
				   {data, SECTOR, (u16)(type ? 0 : F_WRITE)},
				   {&status, 1, F_WRITE}};
	u16 head;

	header[0] = type;
	header[2] = sector;
	status = 0xff;
	vq_offer(&tx, 3, seg);
	vq_notify(&tx);
	return vq_take(&tx, &head) != ~0u && status == 0;
}

static void disk(u32 w)
{
	u32 rounds = 0;

	if (!device_begin(w, 0))
		return;
	vq_begin(&tx, w, 0);
	device_go(w);
	for (; rounds < ROUNDS; rounds++) {
		fill(out, SECTOR, rounds);
		fill(in[0], SECTOR, 0);
		if (!transfer(1, rounds, out) || !transfer(0, rounds, in[0]) ||
		    !is_filled(in[0], SECTOR, rounds))
			break;
	}
	done("disk", rounds);
}

/* ---- a socket ----------------------------------------------------------------------------------
 */

static u32 received; /* bytes of the stream */

static void give_buffer(u32 i)
{
	const struct vseg seg = {in[i], sizeof(in[i]), F_WRITE};

	/* Each buffer has its descriptor. */
	rx.next = (u16)i;
	vq_offer(&rx, 1, &seg);
	vq_notify(&rx);
}

static int say(u32 window, u16 op, u32 len, u32 flags)
{
	struct vsock_header *h = (struct vsock_header *)out;
	const struct vseg seg = {out, sizeof(*h) + len, 0};
	u16 head;

	h->src_cid = get(window, CONFIG);
	h->src_cid_high = h->dst_cid_high = 0;
	h->dst_cid = 2;
	h->src_port = 1000;
	h->dst_port = PORT;
	h->len = len;
	h->type = 1;
	h->op = op;
	h->flags = flags;
	h->buf_alloc = 2 * PAGE;
	h->fwd_cnt = received;
	vq_offer(&tx, 1, &seg);
	vq_notify(&tx);
	return vq_take(&tx, &head) != ~0u;
}

/* The next packet of that kind; its data's length, or ~0 where there is none, or other data. What
 * it is filled with begins at `at`. */
static u32 hear(u16 op, u32 seed, u32 at)
{
	for (;;) {
		const struct vsock_header *h;
		u16 head, got;
		u32 len;

		if (vq_take(&rx, &head) == ~0u)
			return ~0u;
		h = (const struct vsock_header *)in[head];
		got = h->op;
		len = h->len;
		for (u32 i = 0; i < len; i++)
			if (in[head][sizeof(*h) + i] != (u8)(seed + 7 * (at + i)))
				return ~0u;
		received += len;
		give_buffer(head);
		if (got == op)
			return len;
		if (got == OP_RST)
			return ~0u;
	}
}

static int echo(u32 w, u32 seed)
{
	u32 back = 0, len = 0;

	fill(out + sizeof(struct vsock_header), PAGE, seed);
	if (!say(w, OP_RW, PAGE, 0))
		return 0;
	for (; back < PAGE && (len = hear(OP_RW, seed, back)) != ~0u; back += len)
		;
	return back == PAGE && say(w, OP_CREDIT_UPDATE, 0, 0);
}

static void socket(u32 w)
{
	u32 rounds = 0;

	if (!device_begin(w, 0))
		return;
	vq_begin(&rx, w, 0);
	vq_begin(&tx, w, 1);
	vq_begin(&events, w, 2);
	device_go(w);
	for (u32 i = 0; i < 4; i++)
		give_buffer(i);
	if (say(w, OP_REQUEST, 0, 0) && hear(OP_RESPONSE, 0, 0) == 0)
		while (rounds < ROUNDS && echo(w, rounds))
			rounds++;
	/* 5.10.6.6: an RST confirms it. */
	if (say(w, OP_SHUTDOWN, 0, 3) && hear(OP_RST, 0, 0) == 0)
		done("socket", rounds);
}

/* ---- a network ---------------------------------------------------------------------------------
 */

#define FRAME 60u
#define HEAD  12u /* struct virtio_net_hdr, 5.1.6 */

/* RFC 826: who has `to`? */
static void ask(u32 w, u32 from, u32 to)
{
	static const u8 fixed[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
	const struct vseg seg = {out, HEAD + FRAME, 0};
	u8 *f = out + HEAD;
	u16 head;

	for (u32 i = 0; i < HEAD + FRAME; i++)
		out[i] = 0;
	for (u32 i = 0; i < 6; i++) {
		f[i] = 0xff;
		f[6 + i] = f[22 + i] = *(volatile u8 *)(w + CONFIG + i);
	}
	for (u32 i = 0; i < sizeof(fixed); i++)
		f[12 + i] = fixed[i];
	for (u32 i = 0; i < 4; i++) {
		f[28 + i] = (u8)(from >> (24 - 8 * i));
		f[38 + i] = (u8)(to >> (24 - 8 * i));
	}
	vq_offer(&tx, 1, &seg);
	vq_notify(&tx);
	vq_take(&tx, &head);
}

static int is_answer(const u8 *f, u32 len, u32 to)
{
	return len >= HEAD + 42 && f[12] == 8 && f[13] == 6 && f[21] == 2 && f[28] == to >> 24 &&
	       f[29] == (u8)(to >> 16) && f[30] == (u8)(to >> 8) && f[31] == (u8)to;
}

static void network(u32 w)
{
	const u32 from = 10u << 24 | 77 << 16 | 2, to = 10u << 24 | 77 << 16 | 1;
	u32 rounds = 0, others = 0;

	if (!device_begin(w, 0))
		return;
	vq_begin(&rx, w, 0);
	vq_begin(&tx, w, 1);
	device_go(w);
	for (u32 i = 0; i < 4; i++)
		give_buffer(i);
	/* The host's own frames come too. */
	for (ask(w, from, to); rounds < ROUNDS && others < 1000;) {
		u16 head;
		u32 len = vq_take(&rx, &head);

		if (len == ~0u)
			break;
		if (is_answer(in[head] + HEAD, len, to)) {
			rounds++;
			give_buffer(head);
			ask(w, from, to);
		} else {
			others++;
			give_buffer(head);
		}
	}
	done("network", rounds);
}

void payload_main(void)
{
	static const struct {
		u32 kind;
		void (*drive)(u32 window);
	} drives[] = {{RNG, entropy}, {BLK, disk}, {VSOCK, socket}, {NET, network}};

	put("begin\n");
#ifdef PAYLOAD_STAY
again:
#endif
	for (u32 i = 0; i < sizeof(drives) / sizeof(drives[0]); i++) {
		u32 window = find_device(drives[i].kind);

		if (window)
			drives[i].drive(window);
#ifdef PAYLOAD_STAY
		/* The next one has the rings that this one had. */
		if (window)
			device_begin(window, 0);
#endif
	}
	put("end\n");
#ifdef PAYLOAD_STAY
	received = 0;
	goto again;
#endif
	power_off();
}
