/* Ratios to the floor with their intervals, on one logarithmic axis: as text, as SVG. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "report.h"

#define TEXT_COLUMNS 56
#define SVG_AXIS     520.0
#define SVG_LEFT     160.0
#define SVG_TOP	     40.0
#define SVG_ROW	     24.0

/* Powers of two that hold every interval, and 1. */
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
		for (unsigned c = column(&a, r->ratio_ci.low); c <= column(&a, r->ratio_ci.high);
		     c++)
			line[c] = '-';
		line[column(&a, r->ratio)] = 'o';
		fprintf(out, "%-18s %s\n", report_text(rows[i].row->spec.name, name, sizeof(name)),
			line);
	}
	fprintf(out, "%-18s o median, --- 95 %% interval, | the floor, : the goal\n", "");
}

/* Names may come from a file. */
static void svg_text(FILE *out, double x, double y, const char *anchor, const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
	for (; *text; text++) {
		if (strchr("<>&", *text))
			fprintf(out, "&#%d;", *text);
		else
			fputc((unsigned char)*text < 0x20 ? '?' : *text, out);
	}
	fprintf(out, "</text>\n");
}

static void svg_line(FILE *out, double x1, double y1, double x2, double y2, const char *style)
{
	fprintf(out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"black\" %s/>\n", x1,
		y1, x2, y2, style);
}

static double svg_x(const struct axis *a, double ratio)
{
	return SVG_LEFT + place(a, ratio) * SVG_AXIS;
}

static void svg_row(FILE *out, const struct axis *a, const struct report_row *row, double y)
{
	const struct stats_ratio *r = &row->ratio;
	double goal = row->row->spec.goal;
	char text[32];

	svg_text(out, SVG_LEFT - 12, y + 4, "end", row->row->spec.name);
	if (goal > 0)
		svg_line(out, svg_x(a, goal), y - 8, svg_x(a, goal), y + 8,
			 "stroke-dasharray=\"2,2\"");
	svg_line(out, svg_x(a, r->ratio_ci.low), y, svg_x(a, r->ratio_ci.high), y,
		 "stroke-width=\"3\"");
	fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"white\" stroke=\"black\"/>\n",
		svg_x(a, r->ratio), y);
	snprintf(text, sizeof(text), "%.2f", r->ratio);
	svg_text(out, SVG_LEFT + SVG_AXIS + 12, y + 4, "start", text);
}

void report_plot_svg(FILE *out, const struct report_row *rows, size_t n)
{
	struct axis a = axis_of(rows, n);
	double bottom = SVG_TOP + (double)n * SVG_ROW;

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		SVG_LEFT + SVG_AXIS + 64, bottom + 32);
	for (double e = a.low; e <= a.high; e++) {
		double x = svg_x(&a, exp2(e));
		char text[32];

		svg_line(out, x, SVG_TOP - 8, x, bottom,
			 fabs(e) < 0.5 ? "" : "stroke-opacity=\"0.2\"");
		snprintf(text, sizeof(text), "%.4g", exp2(e));
		svg_text(out, x, SVG_TOP - 14, "middle", text);
	}
	for (size_t i = 0; i < n; i++)
		svg_row(out, &a, &rows[i], SVG_TOP + ((double)i + 0.5) * SVG_ROW);
	svg_text(out, SVG_LEFT, bottom + 20, "start",
		 "stasis / floor: median and 95 % interval; dashed: the goal");
	fprintf(out, "</svg>\n");
}
