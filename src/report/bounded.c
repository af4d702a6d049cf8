/* What keeps a page small and whole whatever a report has in it. */
#include <stdlib.h>
#include <string.h>

#include "report/parts.h"

#define DEPTH_MAX    10u
#define ELEMENTS_MAX 2048u
#define KEYS_MAX     512u
#define STRING_MAX   (32u << 10)

static json_t *copy(const json_t *json, unsigned depth, uint64_t *cut);

json_t *report_string(const json_t *string, size_t max)
{
	const char *text = json_string_value(string);
	size_t len = json_string_length(string);

	if (len > max)
		for (len = max; len && ((unsigned char)text[len] & 0xc0) == 0x80;)
			len--;
	return json_stringn(text, len);
}

static json_t *copy_array(const json_t *json, unsigned depth, uint64_t *cut)
{
	size_t n = json_array_size(json);
	json_t *list = json_array();

	if (n > ELEMENTS_MAX) {
		*cut += n - ELEMENTS_MAX;
		n = ELEMENTS_MAX;
	}
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, copy(json_array_get(json, i), depth + 1, cut));
	return list;
}

static json_t *copy_object(const json_t *json, unsigned depth, uint64_t *cut)
{
	json_t *object = json_object(), *value;
	size_t n = 0;
	const char *key;

	json_object_foreach((json_t *)json, key, value)
	{
		if (n++ >= KEYS_MAX || strlen(key) > STRING_MAX)
			++*cut;
		else
			json_object_set_new(object, key, copy(value, depth + 1, cut));
	}
	return object;
}

static json_t *copy(const json_t *json, unsigned depth, uint64_t *cut)
{
	if (json_is_string(json)) {
		*cut += json_string_length(json) > STRING_MAX;
		return report_string(json, STRING_MAX);
	}
	if (!json_is_array(json) && !json_is_object(json))
		return json_copy((json_t *)json);
	if (depth >= DEPTH_MAX) {
		++*cut;
		return json_null();
	}
	return json_is_array(json) ? copy_array(json, depth, cut) : copy_object(json, depth, cut);
}

json_t *report_bounded(const json_t *json, uint64_t *cut)
{
	return copy(json, 0, cut);
}

/* Outside of strings JSON has none of the three, and inside of them any character may be written
 * by its number. So nothing in it can end the element that it stands in, or begin another. */
char *report_json_text(const json_t *json)
{
	char *plain = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
	size_t len = 1;
	char *text, *to;

	for (const char *p = plain; p && *p; p++)
		len += strchr("<>&", *p) ? 6 : 1;
	text = plain ? malloc(len) : NULL;
	to = text;
	for (const char *p = plain; text && *p; p++) {
		static const char digits[] = "0123456789abcdef";

		if (!strchr("<>&", *p)) {
			*to++ = *p;
			continue;
		}
		memcpy(to, "\\u00", 4);
		to[4] = digits[(unsigned char)*p >> 4];
		to[5] = digits[*p & 15];
		to += 6;
	}
	if (text)
		*to = '\0';
	free(plain);
	return text;
}
