/* Copies to and from scattered buffers, for the ports and the rings. Control thread. */
#include "devices/net_port.h"

#include <string.h>

size_t net_iov_read(const struct iovec *iov, unsigned n, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		size_t step = MIN(iov[i].iov_len, len - done);

		memcpy((uint8_t *)buf + done, iov[i].iov_base, step);
		done += step;
	}
	return done;
}

size_t net_iov_write(const struct iovec *iov, unsigned n, size_t at, const void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		size_t skip = MIN(at, iov[i].iov_len);
		size_t step = MIN(iov[i].iov_len - skip, len - done);

		memcpy((uint8_t *)iov[i].iov_base + skip, (const uint8_t *)buf + done, step);
		at -= skip;
		done += step;
	}
	return done;
}
