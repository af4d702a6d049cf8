/* Headers of frames. Any thread. */
#include "vm/lab/frame.h"

#include <errno.h>

void frame_header(uint8_t *header, uint32_t session, enum frame_type type, uint8_t channel,
		  uint32_t len)
{
	frame_put32(header, session);
	header[4] = (uint8_t)type;
	header[5] = channel;
	header[6] = header[7] = 0;
	frame_put32(header + 8, len);
}

ssize_t frame_parse(const uint8_t *data, size_t len, struct frame *ret_frame)
{
	struct frame f;

	if (len < FRAME_HEADER)
		return 0;
	f.session = frame_get32(data);
	f.type = data[4];
	f.channel = data[5];
	f.len = frame_get32(data + 8);
	f.payload = data + FRAME_HEADER;
	if (f.type == 0 || f.type >= FRAME_TYPES || f.channel >= FRAME_CHANNELS || data[6] ||
	    data[7] || f.len > FRAME_PAYLOAD_MAX)
		return -EBADMSG;
	if (len < FRAME_HEADER + f.len)
		return 0;
	*ret_frame = f;
	return (ssize_t)(FRAME_HEADER + f.len);
}
