/* Parses what is to be watched. */
#include "freeze/watch_expr.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ACCEPTED                                                                                   \
	"SYMBOL[->FIELD|.FIELD]...[:BYTES][OP VALUE] or 0xADDRESS:BYTES[OP VALUE] is accepted, "   \
	"with one of == != < <= > >= & as OP"

/* Where the place ends. The '>' of "->" is no operator. */
static size_t place_len(const char *text)
{
	size_t n = 0;

	for (;;) {
		if (text[n] == '-' && text[n + 1] == '>')
			n += 2;
		else if (isalnum((unsigned char)text[n]) || (text[n] && strchr("_$.[]", text[n])))
			n++;
		else
			return n;
	}
}

static const char *parse_op(const char *at, enum watch_op *ret_op)
{
	static const struct {
		const char *word;
		enum watch_op op;
	} ops[] = {
		/* the longer first */
		{"==", WATCH_EQ}, {"!=", WATCH_NE}, {"<=", WATCH_LE}, {">=", WATCH_GE},
		{"<", WATCH_LT},  {">", WATCH_GT},  {"&", WATCH_AND},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		size_t len = strlen(ops[i].word);

		if (!strncmp(at, ops[i].word, len)) {
			*ret_op = ops[i].op;
			return at + len;
		}
	}
	return NULL;
}

static const char *skip_blanks(const char *at)
{
	while (*at == ' ' || *at == '\t')
		at++;
	return at;
}

static bool parse_value(const char *at, struct watch_test *test)
{
	bool negative = *at == '-';
	char *end;

	if (!isdigit((unsigned char)at[negative]))
		return false;
	errno = 0;
	test->value = strtoull(at + negative, &end, 0);
	if (errno || *skip_blanks(end) || (negative && test->value > (uint64_t)INT64_MAX + 1))
		return false;
	if (negative) {
		test->value = -test->value;
		test->is_signed = true;
	}
	return true;
}

static int parse_condition(const char *at, struct watch_test *test, const char *text,
			   struct error *err)
{
	at = skip_blanks(at);
	if (!*at)
		return 0;
	at = parse_op(at, &test->op);
	if (!at || !parse_value(skip_blanks(at), test))
		return error_usage(err, "%s: " ACCEPTED, text);
	return 0;
}

static int check_address(const struct watch_expr *e, const char *text, struct error *err)
{
	if (!e->bytes)
		return error_usage(err, "%s: an address needs its size: 0xADDRESS:BYTES", text);
	if (e->gva % e->bytes)
		return error_usage(err, "%s: not aligned to its %u bytes", text, e->bytes);
	if (!arch_kernel_address(e->gva))
		return error_usage(err,
				   "%s: user memory; only the kernel's can be watched, since the "
				   "same address is another in each process",
				   text);
	return 0;
}

static int parse(const char *text, struct watch_expr *e, struct error *err)
{
	size_t len = place_len(text);
	const char *at = text + len;
	char *end;

	if (*at == ':') {
		unsigned long bytes = isdigit((unsigned char)at[1]) ? strtoul(at + 1, &end, 10) : 0;

		if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
			return error_usage(err, "%s: 1, 2, 4 or 8 bytes can be watched", text);
		e->bytes = (unsigned)bytes;
		at = end;
	}
	if (!len || (isdigit((unsigned char)text[0]) && strncmp(text, "0x", 2)))
		return error_usage(err, "%s: " ACCEPTED, text);
	e->text = strdup(text);
	if (e->text && !isdigit((unsigned char)text[0]))
		e->place = strndup(text, len);
	if (!e->text || (!e->place && !isdigit((unsigned char)text[0])))
		return error_set(err, -ENOMEM, "reading %s", text);
	if (!e->place) {
		errno = 0;
		e->gva = strtoull(text, &end, 16);
		if (errno || end != text + len)
			return error_usage(err, "%s: no address; " ACCEPTED, text);
		if (check_address(e, text, err) < 0)
			return -EINVAL;
	}
	if (parse_condition(at, &e->test, text, err) < 0)
		return -EINVAL;
	if (e->bytes && !watch_expr_can_pass(e, e->bytes))
		return error_usage(err, "%s: a value of %u bytes never passes this", text,
				   e->bytes);
	return 0;
}

int watch_expr_parse(const char *text, struct watch_expr *ret_expr, struct error *err)
{
	struct watch_expr e = {0};
	int r = parse(text, &e, err);

	if (r < 0)
		watch_expr_done(&e);
	else
		*ret_expr = e;
	return r;
}

void watch_expr_done(struct watch_expr *expr)
{
	free(expr->text);
	free(expr->place);
	*expr = (struct watch_expr){0};
}

/* t's value is negative; min is the least that so many bytes hold. */
static bool negative_can_pass(const struct watch_test *t, unsigned bytes)
{
	int64_t value = (int64_t)t->value, min = INT64_MIN >> (64 - 8 * bytes);

	switch (t->op) {
	case WATCH_EQ:
	case WATCH_LE:
		return value >= min;
	case WATCH_LT:
		return value > min;
	default:
		return true;
	}
}

bool watch_expr_can_pass(const struct watch_expr *expr, unsigned bytes)
{
	const struct watch_test *t = &expr->test;
	uint64_t max = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * bytes) - 1;

	if (t->is_signed && t->op != WATCH_AND)
		return negative_can_pass(t, bytes);
	switch (t->op) {
	case WATCH_EQ:
	case WATCH_GE:
		return t->value <= max;
	case WATCH_GT:
		return t->value < max;
	case WATCH_LT:
		return t->value > 0;
	case WATCH_AND:
		return t->value & max;
	default:
		return true;
	}
}
