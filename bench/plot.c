/* Ratios to the floor with their intervals, on one logarithmic axis: as text, as SVG. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "facts.h"
#include "report.h"

#define TEXT_COLUMNS 56
#define SVG_AXIS     520.0
#define SVG_LEFT     160.0 /* at least; names stand there */
#define SVG_LETTER   7.0   /* a wide one's width */
#define SVG_RIGHT    360.0 /* ratios and goals */
#define SVG_TOP	     92.0  /* title, the host, the axis' figures */
#define SVG_ROW	     24.0
#define SVG_TEXT     256 /* bytes of one text that are shown */

/* The ratio at which the product would be at its limit, with this floor; 0: it has none. */
static double limit_of(const struct report_row *row)
{
	return row->ratio.floor > 0 ? row->row->spec.limit / row->ratio.floor : 0;
}

/* Powers of two that hold every interval and limit, and 1. */
struct axis {
	double low, high; /* exponents */
};

static struct axis axis_of(const struct report_row *rows, size_t n)
{
	struct axis a = {-1, 1};

	for (size_t i = 0; i < n; i++) {
		const struct bootstrap_interval *ci = &rows[i].ratio.ratio_ci;

		if (isfinite(ci->low) && ci->low > 0)
			a.low = MIN(a.low, floor(log2(ci->low)));
		if (isfinite(ci->high) && ci->high > 0)
			a.high = MAX(a.high, ceil(log2(ci->high)));
		if (limit_of(&rows[i]) > 0) {
			a.low = MIN(a.low, floor(log2(limit_of(&rows[i]))));
			a.high = MAX(a.high, ceil(log2(limit_of(&rows[i]))));
		}
	}
	return a;
}

/* 0 to 1 along the axis. */
static double place(const struct axis *a, double ratio)
{
	double at = ratio > 0 ? (log2(ratio) - a->low) / (a->high - a->low) : 0;

	return at < 0 ? 0 : at > 1 || !isfinite(at) ? 1 : at;
}

static unsigned column(const struct axis *a, double ratio)
{
	return (unsigned)(place(a, ratio) * (TEXT_COLUMNS - 1) + 0.5);
}

void report_plot_text(FILE *out, const struct report_row *rows, size_t n)
{
	struct axis a = axis_of(rows, n);

	fprintf(out, "\n%-18s %-*.4g%*.4g\n", "stasis / floor", TEXT_COLUMNS / 2, exp2(a.low),
		TEXT_COLUMNS / 2, exp2(a.high));
	for (size_t i = 0; i < n; i++) {
		const struct stats_ratio *r = &rows[i].ratio;
		double goal = rows[i].row->spec.goal;
		char line[TEXT_COLUMNS + 1], name[REPORT_NAME];

		memset(line, ' ', TEXT_COLUMNS);
		line[TEXT_COLUMNS] = '\0';
		line[column(&a, 1)] = '|';
		if (goal > 0)
			line[column(&a, goal)] = ':';
		if (limit_of(&rows[i]) > 0)
			line[column(&a, limit_of(&rows[i]))] = ';';
		for (unsigned c = column(&a, r->ratio_ci.low); c <= column(&a, r->ratio_ci.high);
		     c++)
			line[c] = '-';
		line[column(&a, r->ratio)] = 'o';
		fprintf(out, "%-18s %s\n", report_text(rows[i].row->spec.name, name, sizeof(name)),
			line);
	}
	fprintf(out,
		"%-18s o median, --- 95 %% interval, | the floor, : the goal, ; that of stasis "
		"alone\n",
		"");
}

/* Texts may come from a file, or be a host's word for itself. */
static void svg_escaped(FILE *out, const char *text)
{
	char shown[SVG_TEXT];

	for (const char *c = report_text(text, shown, sizeof(shown)); *c; c++) {
		if (strchr("<>&\"'", *c)) {
			fprintf(out, "&#%d;", *c);
		} else if (!memcmp(c, "\xef\xbf", 2) && (uint8_t)c[2] >= 0xbe) {
			/* U+FFFE and U+FFFF are no characters of XML's. */
			fputc('?', out);
			c += 2;
		} else {
			fputc(*c, out);
		}
	}
}

/* style: further attributes. */
static void svg_text(FILE *out, double x, double y, const char *style, const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style);
	svg_escaped(out, text);
	fprintf(out, "</text>\n");
}

static void svg_line(FILE *out, double x1, double y1, double x2, double y2, const char *style)
{
	fprintf(out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"black\" %s/>\n", x1,
		y1, x2, y2, style);
}

/* Where things stand on the paper. */
struct paper {
	struct axis axis;
	double left;
};

static struct paper paper_of(const struct report_row *rows, size_t n)
{
	struct paper p = {.axis = axis_of(rows, n), .left = SVG_LEFT};

	for (size_t i = 0; i < n; i++) {
		size_t letters = MIN(strlen(rows[i].row->spec.name), (size_t)REPORT_NAME);

		p.left = MAX(p.left, (double)letters * SVG_LETTER + 24);
	}
	return p;
}

static double svg_x(const struct paper *p, double ratio)
{
	return p->left + place(&p->axis, ratio) * SVG_AXIS;
}

static void svg_mark(FILE *out, const struct paper *p, double ratio, double y, const char *style)
{
	if (ratio > 0)
		svg_line(out, svg_x(p, ratio), y - 8, svg_x(p, ratio), y + 8, style);
}

static void svg_row(FILE *out, const struct paper *p, const struct report_row *row, double y)
{
	const struct stats_ratio *r = &row->ratio;
	char name[REPORT_NAME], goals[REPORT_GOALS], value[32], text[SVG_TEXT];

	svg_text(out, p->left - 12, y + 4, "text-anchor=\"end\"",
		 report_text(row->row->spec.name, name, sizeof(name)));
	svg_mark(out, p, row->row->spec.goal, y, "class=\"goal\" stroke-dasharray=\"2,2\"");
	svg_mark(out, p, limit_of(row), y, "class=\"limit\" stroke-width=\"4\"");
	svg_line(out, svg_x(p, r->ratio_ci.low), y, svg_x(p, r->ratio_ci.high), y,
		 "stroke-width=\"3\"");
	fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"white\" stroke=\"black\"/>\n",
		svg_x(p, r->ratio), y);
	report_goals(row, goals, sizeof(goals));
	/* A limit is in the row's unit, so what it is compared with has to be there. */
	if (row->row->spec.limit > 0)
		snprintf(text, sizeof(text), "%.2f (%s), %s", r->ratio,
			 report_number(r->product, row->row->spec.unit, value, sizeof(value)),
			 goals);
	else
		snprintf(text, sizeof(text), "%.2f, %s", r->ratio, goals);
	svg_text(out, p->left + SVG_AXIS + 12, y + 4, "text-anchor=\"start\"", text);
}

/* How much was measured: passes × rounds in each, where rows and passes have as many. */
static void amount(const struct report_row *rows, size_t n, char *buf, size_t len)
{
	size_t passes = 0, least = SIZE_MAX, most = 0;

	for (size_t i = 0; i < n; i++) {
		passes = MAX(passes, report_passes(rows[i].row));
		least = MIN(least, rows[i].rounds);
		most = MAX(most, rows[i].rounds);
	}
	if (n == 0)
		snprintf(buf, len, "nothing was measured");
	else if (least == most && most % passes == 0)
		snprintf(buf, len, "%zu pass%s × %zu round%s", passes, passes == 1 ? "" : "es",
			 most / passes, most == passes ? "" : "s");
	else if (least == most)
		snprintf(buf, len, "%zu rounds in %zu passes", most, passes);
	else
		snprintf(buf, len, "%zu to %zu rounds of a row in %zu pass%s", least, most, passes,
			 passes == 1 ? "" : "es");
}

static void svg_head(FILE *out, const struct report_row *rows, size_t n, const json_t *host)
{
	static const char title[] = "stasis against its floors";
	char line[SVG_TEXT], much[64];
	size_t at;

	amount(rows, n, much, sizeof(much));
	facts_origin(host, line, sizeof(line) - sizeof(much) - 2);
	at = strlen(line);
	snprintf(line + at, sizeof(line) - at, "%s%s", at ? ", " : "", much);
	fprintf(out, "<title>%s</title>\n", title);
	svg_text(out, 12, 24, "font-size=\"16\" font-weight=\"bold\"", title);
	svg_text(out, 12, 44, "class=\"host\"", line);
}

void report_plot_svg(FILE *out, const struct report_row *rows, size_t n, const json_t *host)
{
	struct paper p = paper_of(rows, n);
	double bottom = SVG_TOP + (double)n * SVG_ROW;

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		p.left + SVG_AXIS + SVG_RIGHT, bottom + 32);
	svg_head(out, rows, n, host);
	for (double e = p.axis.low; e <= p.axis.high; e++) {
		double x = svg_x(&p, exp2(e));
		char text[32];

		svg_line(out, x, SVG_TOP - 8, x, bottom,
			 fabs(e) < 0.5 ? "" : "stroke-opacity=\"0.2\"");
		snprintf(text, sizeof(text), "%.4g", exp2(e));
		svg_text(out, x, SVG_TOP - 14, "text-anchor=\"middle\"", text);
	}
	for (size_t i = 0; i < n; i++)
		svg_row(out, &p, &rows[i], SVG_TOP + ((double)i + 0.5) * SVG_ROW);
	svg_text(out, p.left, bottom + 20, "text-anchor=\"start\"",
		 "stasis / floor: median and 95 % interval; dashed: the goal; thick: that of "
		 "stasis alone, with this floor");
	fprintf(out, "</svg>\n");
}
