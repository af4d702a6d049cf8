/* Finds and reads VMCOREINFO. Any thread. */
#include "inspect/vmcoreinfo.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "inspect/space.h"

/* An ELF note's head, and the name padded to four bytes. */
struct note {
	uint32_t namesz, descsz, type;
	char name[12];
};

static const char first_key[] = "OSRELEASE=";
#define FIRST_KEY_LEN (sizeof(first_key) - 1)

/* The text at gpa, at most max bytes, up to its first NUL or the end of the RAM. */
static bool text_at(const struct guest_reader *mem, uint64_t gpa, uint64_t max,
		    struct vmcoreinfo *out)
{
	uint64_t in_page = SPACE_PAGE - gpa % SPACE_PAGE;

	max = MIN(max, (uint64_t)VMCOREINFO_MAX);
	/* A note's text goes on into the next page. */
	if (guest_reader_read(mem, gpa, out->text, max)) {
		max = MIN(max, in_page);
		if (guest_reader_read(mem, gpa, out->text, max))
			return false;
	}
	out->text[max] = '\0';
	out->len = strlen(out->text);
	out->gpa = gpa;
	/* The guest may have changed it since the first look. */
	return !strncmp(out->text, first_key, FIRST_KEY_LEN) && strchr(out->text, '\n');
}

static bool page_has(const struct guest_reader *mem, uint64_t gpa, struct vmcoreinfo *out)
{
	struct {
		struct note note;
		char text[FIRST_KEY_LEN];
	} head;

	if (guest_reader_read(mem, gpa, &head, sizeof(head)))
		return false;
	if (!memcmp(&head, first_key, FIRST_KEY_LEN))
		return text_at(mem, gpa, VMCOREINFO_MAX, out);
	if (head.note.namesz == sizeof("VMCOREINFO") && !memcmp(head.note.name, "VMCOREINFO", 11) &&
	    !memcmp(head.text, first_key, FIRST_KEY_LEN))
		return text_at(mem, gpa + sizeof(head.note), head.note.descsz, out);
	return false;
}

int vmcoreinfo_next(const struct guest_reader *mem, uint64_t *gpa, uint64_t *pages,
		    struct vmcoreinfo *ret_info)
{
	struct vmcoreinfo found;

	for (unsigned i = 0; i < mem->layout.count; i++) {
		const struct guest_range *r = &mem->layout.range[i];
		uint64_t end = r->gpa + r->size;

		for (uint64_t at = MAX(*gpa, r->gpa); at < end; at += SPACE_PAGE) {
			if (mem->next)
				at = mem->next(mem->next_arg, at);
			if (at >= end)
				break;
			if (!*pages) {
				*gpa = at;
				return -EAGAIN;
			}
			--*pages;
			if (!page_has(mem, at, &found))
				continue;
			*gpa = at + SPACE_PAGE;
			*ret_info = found;
			return 0;
		}
	}
	return -ENOENT;
}

bool vmcoreinfo_text(const struct vmcoreinfo *info, const char *key, char *buf, size_t len)
{
	size_t key_len = strlen(key);

	for (const char *line = info->text; *line;) {
		const char *end = strchr(line, '\n');
		size_t line_len = end ? (size_t)(end - line) : strlen(line);

		if (line_len > key_len && line[key_len] == '=' && !memcmp(line, key, key_len)) {
			size_t value_len = line_len - key_len - 1;

			if (value_len >= len)
				return false;
			memcpy(buf, line + key_len + 1, value_len);
			buf[value_len] = '\0';
			text_one_line(buf);
			return true;
		}
		line += line_len + (end ? 1 : 0);
	}
	return false;
}

bool vmcoreinfo_number(const void *arg, const char *key, uint64_t *ret_value)
{
	char text[32], *end;
	bool decimal = strncmp(key, "SYMBOL(", 7) != 0 && strcmp(key, "KERNELOFFSET") != 0;
	unsigned long long value;

	if (!vmcoreinfo_text(arg, key, text, sizeof(text)))
		return false;
	if (!strncmp(text, "0x", 2))
		decimal = false;
	/* strtoull takes blanks that no kernel writes. */
	if (text[0] != '-' && !(text[0] >= '0' && text[0] <= '9') &&
	    !(!decimal && text[0] >= 'a' && text[0] <= 'f'))
		return false;
	errno = 0;
	value = strtoull(text, &end, decimal ? 10 : 16);
	if (errno || end == text || *end)
		return false;
	*ret_value = value;
	return true;
}
