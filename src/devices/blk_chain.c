/* Takes a request's chain apart, however the driver has cut it (virtio 1.2, 2.7.4.1). */
#include "devices/blk_chain.h"

#include <errno.h>
#include <string.h>

int blk_chain_parse(struct virtq_chain *chain, struct blk_chain *ret_chain)
{
	struct blk_chain p = {.out = chain->iov, .in = chain->iov + chain->out};
	struct iovec *last;
	size_t got = 0;

	if (chain->out_bytes < BLK_HEADER_BYTES || !chain->in_bytes)
		return -EINVAL;
	while (got < BLK_HEADER_BYTES) {
		size_t n = MIN(p.out->iov_len, BLK_HEADER_BYTES - got);

		memcpy((uint8_t *)&p.header + got, p.out->iov_base, n);
		got += n;
		p.out->iov_base = (uint8_t *)p.out->iov_base + n;
		p.out->iov_len -= n;
		if (!p.out->iov_len)
			p.out++;
	}
	p.outs = (unsigned)(chain->iov + chain->out - p.out);
	p.out_bytes = chain->out_bytes - BLK_HEADER_BYTES;
	/* The copy is what gets checked: the compiler may not read the guest's bytes again. */
	__asm__ volatile("" ::: "memory");
	last = &chain->iov[chain->out + chain->in - 1];
	last->iov_len--;
	p.status = (uint8_t *)last->iov_base + last->iov_len;
	p.ins = chain->in - !last->iov_len;
	p.in_bytes = chain->in_bytes - 1;
	*ret_chain = p;
	return 0;
}
