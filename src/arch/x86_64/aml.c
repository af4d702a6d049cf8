/* AML encodings (ACPI 6.5, 20.2). Control thread. */
#include "arch/x86_64/aml.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

enum {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_NAME = 0x08,
	AML_BYTE = 0x0A,
	AML_WORD = 0x0B,
	AML_DWORD = 0x0C,
	AML_STRING = 0x0D,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_EXT = 0x5B,
	AML_DEVICE = 0x82,
	AML_NOTIFY = 0x86,
};

void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (a->failed)
		return;
	if (a->cap - a->len < len) {
		size_t cap = MAX(a->cap * 2, a->len + len + 4096);
		uint8_t *more = realloc(a->data, cap);

		if (!more) {
			a->failed = true;
			return;
		}
		a->data = more;
		a->cap = cap;
	}
	memcpy(a->data + a->len, data, len);
	a->len += len;
}

static void byte(struct aml *a, uint8_t v)
{
	aml_bytes(a, &v, 1);
}

/* 20.2.4: one byte up to 63, else low nibble first, with the count of further bytes on top. The
 * length covers its own encoding. */
static size_t encode_length(size_t body, uint8_t out[4])
{
	if (body + 1 < 64) {
		out[0] = (uint8_t)(body + 1);
		return 1;
	}
	for (size_t more = 1; more <= 3; more++) {
		size_t len = body + 1 + more;

		if (len >> (4 + 8 * more))
			continue;
		out[0] = (uint8_t)(more << 6 | (len & 0xf));
		for (size_t i = 0; i < more; i++)
			out[1 + i] = (uint8_t)(len >> (4 + 8 * i));
		return 1 + more;
	}
	return 0;
}

/* Puts the package length before everything since mark. */
void aml_end(struct aml *a, size_t mark)
{
	uint8_t length[4];
	size_t body = a->len - mark;
	size_t n = encode_length(body, length);

	if (n == 0)
		a->failed = true;
	aml_bytes(a, length, n); /* makes the room */
	if (a->failed)
		return;
	memmove(a->data + mark + n, a->data + mark, body);
	memcpy(a->data + mark, length, n);
}

static void name(struct aml *a, const char *text)
{
	aml_bytes(a, text, strlen(text));
}

size_t aml_scope_begin(struct aml *a, const char *text)
{
	size_t mark;

	byte(a, AML_SCOPE);
	mark = a->len;
	name(a, text);
	return mark;
}

size_t aml_device_begin(struct aml *a, const char *text)
{
	size_t mark;

	byte(a, AML_EXT);
	byte(a, AML_DEVICE);
	mark = a->len;
	name(a, text);
	return mark;
}

static void integer(struct aml *a, uint32_t value)
{
	if (value == 0) {
		byte(a, AML_ZERO);
	} else if (value == 1) {
		byte(a, AML_ONE);
	} else if (value <= 0xff) {
		byte(a, AML_BYTE);
		byte(a, (uint8_t)value);
	} else if (value <= 0xffff) {
		byte(a, AML_WORD);
		aml_bytes(a, &value, 2);
	} else {
		byte(a, AML_DWORD);
		aml_bytes(a, &value, 4);
	}
}

void aml_name_string(struct aml *a, const char *text, const char *value)
{
	byte(a, AML_NAME);
	name(a, text);
	byte(a, AML_STRING);
	aml_bytes(a, value, strlen(value) + 1);
}

void aml_name_integer(struct aml *a, const char *text, uint32_t value)
{
	byte(a, AML_NAME);
	name(a, text);
	integer(a, value);
}

static unsigned hex(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* 19.6.39: three letters of five bits, four hex digits; the bytes big-endian. */
void aml_name_eisaid(struct aml *a, const char *text, const char *id)
{
	unsigned letters = (unsigned)(id[0] - '@') << 10 | (unsigned)(id[1] - '@') << 5 |
			   (unsigned)(id[2] - '@');
	uint8_t value[4] = {
		(uint8_t)(letters >> 8),
		(uint8_t)letters,
		(uint8_t)(hex(id[3]) << 4 | hex(id[4])),
		(uint8_t)(hex(id[5]) << 4 | hex(id[6])),
	};

	byte(a, AML_NAME);
	name(a, text);
	byte(a, AML_DWORD);
	aml_bytes(a, value, sizeof(value));
}

void aml_s5(struct aml *a, uint8_t sleep_type)
{
	size_t mark;

	byte(a, AML_NAME);
	name(a, "_S5_");
	byte(a, AML_PACKAGE);
	mark = a->len;
	byte(a, 4);
	integer(a, sleep_type);
	integer(a, sleep_type);
	integer(a, 0);
	integer(a, 0);
	aml_end(a, mark);
}

void aml_name_address(struct aml *a, const char *text, uint64_t gpa)
{
	size_t mark;

	byte(a, AML_NAME);
	name(a, text);
	byte(a, AML_PACKAGE);
	mark = a->len;
	byte(a, 2);
	integer(a, (uint32_t)gpa);
	integer(a, (uint32_t)(gpa >> 32));
	aml_end(a, mark);
}

void aml_method_notify(struct aml *a, const char *text, const char *device, uint8_t value)
{
	size_t mark;

	byte(a, AML_METHOD);
	mark = a->len;
	name(a, text);
	byte(a, 1 | 1 << 3); /* 20.2.5.2: arguments, serialized */
	byte(a, AML_NOTIFY);
	name(a, device);
	integer(a, value);
	aml_end(a, mark);
}

/* A buffer's length comes before its bytes, and the package length before both: the bytes are
 * written first, and aml_buffer_end puts the rest in front. */
size_t aml_buffer_begin(struct aml *a, const char *text)
{
	byte(a, AML_NAME);
	name(a, text);
	byte(a, AML_BUFFER);
	return a->len;
}

void aml_io(struct aml *a, uint16_t port, uint8_t len)
{
	const uint8_t io[] =
		{0x47, 1,  (uint8_t)port, (uint8_t)(port >> 8), (uint8_t)port, (uint8_t)(port >> 8),
		 1,    len};

	aml_bytes(a, io, sizeof(io)); /* 6.4.2.5: decodes 16 bits */
}

void aml_memory32(struct aml *a, uint32_t base, uint32_t len)
{
	const uint8_t head[] = {0x86, 9, 0, 1}; /* 6.4.3.4: fixed, read-write */

	aml_bytes(a, head, sizeof(head));
	aml_bytes(a, &base, 4);
	aml_bytes(a, &len, 4);
}

void aml_interrupt(struct aml *a, uint32_t gsi)
{
	const uint8_t head[] = {0x89, 6, 0, 0x03, 1}; /* 6.4.3.6: consumer, edge, active high */

	aml_bytes(a, head, sizeof(head));
	aml_bytes(a, &gsi, 4);
}

void aml_buffer_end(struct aml *a, size_t mark)
{
	const uint8_t end_tag[] = {0x79, 0};
	struct aml size = {0};
	size_t body;

	aml_bytes(a, end_tag, sizeof(end_tag));
	body = a->len - mark;
	integer(&size, (uint32_t)body);
	if (size.failed)
		a->failed = true;
	aml_bytes(a, size.data, size.len); /* makes the room */
	if (!a->failed) {
		memmove(a->data + mark + size.len, a->data + mark, body);
		memcpy(a->data + mark, size.data, size.len);
	}
	free(size.data);
	aml_end(a, mark);
}
