/* Named, versioned items in a byte buffer. */
#include "base/items.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX (1 + ITEMS_NAME_MAX + 2 + 4)

/* ---- writing ------------------------------------------------------------------------------- */

static int make_room(struct items_out *out, size_t more)
{
	size_t room = out->room ?: 4096;
	uint8_t *data;

	if (more > UINT32_MAX || out->len > SIZE_MAX / 4)
		return -EFBIG;
	while (room - out->len < more)
		room *= 2;
	if (room == out->room)
		return 0;
	data = realloc(out->data, room);
	if (!data)
		return -ENOMEM;
	out->data = data;
	out->room = room;
	return 0;
}

static void put_bytes(struct items_out *out, const void *data, size_t len)
{
	if (len)
		memcpy(out->data + out->len, data, len);
	out->len += len;
}

static void put_number(struct items_out *out, uint32_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		out->data[out->len++] = (uint8_t)(value >> 8 * i);
}

void items_put(struct items_out *out, const char *name, unsigned version, const void *data,
	       size_t len)
{
	size_t name_len = strlen(name);

	assert(name_len > 0 && name_len <= ITEMS_NAME_MAX && version <= UINT16_MAX);
	if (!out->error)
		out->error = len > UINT32_MAX - HEAD_MAX ? -EFBIG : make_room(out, HEAD_MAX + len);
	if (out->error)
		return;
	put_number(out, (uint32_t)name_len, 1);
	put_bytes(out, name, name_len);
	put_number(out, version, 2);
	put_number(out, (uint32_t)len, 4);
	put_bytes(out, data, len);
}

void items_out_done(struct items_out *out)
{
	free(out->data);
	*out = (struct items_out){0};
}

/* ---- reading ------------------------------------------------------------------------------- */

struct head {
	char name[ITEMS_NAME_MAX + 1];
	unsigned version;
	uint32_t len;
	size_t size; /* of the head itself */
};

static uint32_t number_at(const uint8_t *p, unsigned bytes)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint32_t)p[i] << 8 * i;
	return value;
}

/* False: what is there is no item. Its name is fit to be printed. */
static bool read_head(const struct items_in *in, struct head *ret_head)
{
	struct head head = {0};
	size_t name_len = in->len ? in->data[0] : 0;

	if (name_len == 0 || name_len > ITEMS_NAME_MAX || in->len < 1 + name_len + 2 + 4)
		return false;
	for (size_t i = 0; i < name_len; i++) {
		uint8_t c = in->data[1 + i];

		if (c < 0x20 || c > 0x7e)
			return false;
		head.name[i] = (char)c;
	}
	head.version = number_at(in->data + 1 + name_len, 2);
	head.len = number_at(in->data + 1 + name_len + 2, 4);
	head.size = 1 + name_len + 2 + 4;
	if (head.len > in->len - head.size)
		return false;
	*ret_head = head;
	return true;
}

int items_view(struct items_in *in, const char *name, unsigned version, const uint8_t **ret_data,
	       size_t *ret_len, struct error *err)
{
	struct head head;

	if (in->len == 0)
		return error_usage(err, "%s: %s is missing", in->where, name);
	if (!read_head(in, &head))
		return error_usage(err, "%s: where %s is expected, there is nothing whole",
				   in->where, name);
	if (strcmp(head.name, name))
		return error_usage(err, "%s: %s is missing; %s is there", in->where, name,
				   head.name);
	if (head.version != version)
		return error_usage(err, "%s: %s has version %u, and %u is known", in->where, name,
				   head.version, version);
	*ret_data = in->data + head.size;
	*ret_len = head.len;
	in->data += head.size + head.len;
	in->len -= head.size + head.len;
	return 0;
}

int items_get(struct items_in *in, const char *name, unsigned version, void *ret, size_t len,
	      struct error *err)
{
	const uint8_t *data;
	size_t there;
	int r = items_view(in, name, version, &data, &there, err);

	if (r < 0)
		return r;
	if (there != len)
		return error_usage(err, "%s: %s has %zu bytes, and %zu are known", in->where, name,
				   there, len);
	memcpy(ret, data, len);
	return 0;
}

int items_end(const struct items_in *in, struct error *err)
{
	struct head head;

	if (in->len == 0)
		return 0;
	if (!read_head(in, &head))
		return error_usage(err, "%s: bytes are left over", in->where);
	return error_usage(err, "%s: %s is too much", in->where, head.name);
}
