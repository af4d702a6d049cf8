/* Reports of anybody's, as stasis compare reads them. The first byte's lowest bit: figures are
 * made, too, of the report against itself, which differs in nothing. The rest is the report. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "fuzz.h"
#include "vm/compare.h"

/* Each is resampled ten thousand times. */
#define WINDOWS_RUN 16u

static void check_side(const struct compare_side *side)
{
	FUZZ_CHECK(side->windows >= COMPARE_WINDOWS_LEAST && side->windows <= COMPARE_WINDOWS_MOST);
	FUZZ_CHECK(side->length_ns > 0);
	for (size_t i = 0; i < side->windows; i++)
		for (unsigned f = 0; f < COMPARE_FIELDS; f++)
			FUZZ_CHECK(isfinite(side->value[i][f]) && side->value[i][f] >= 0);
}

static void run(const struct compare_side *side)
{
	struct compare_row rows[COMPARE_ROWS_MAX];
	struct error err = {0};
	size_t n = 0;

	if (compare_run(side, side, 0, rows, &n, &err) < 0)
		return;
	FUZZ_CHECK(n <= COMPARE_ROWS_MAX);
	for (size_t i = 0; i < n; i++) {
		char text[64];
		json_t *json = compare_row_json(&rows[i]);

		FUZZ_CHECK(json && isfinite(rows[i].value[0]) && rows[i].value[0] >= 0);
		FUZZ_CHECK(rows[i].value[0] == rows[i].value[1]);
		FUZZ_CHECK(rows[i].verdict == COMPARE_SAME);
		compare_value_text(&rows[i], rows[i].value[0], text, sizeof(text));
		compare_verdict_text(&rows[i], text, sizeof(text));
		json_decref(json);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	bool runs = fuzz_u8(&in) & 1;
	json_t *report = json_loadb((const char *)in.data, in.left, 0, NULL);
	struct compare_side side = {0};
	struct error err = {0};
	int r = report ? compare_load(report, "fuzz", &side, &err) : -EBADMSG;

	FUZZ_CHECK(r == 0 || !report || (err.code == r && !strncmp(err.what, "fuzz: ", 6)));
	if (r == 0) {
		check_side(&side);
		if (runs && side.windows <= WINDOWS_RUN)
			run(&side);
	}
	compare_side_done(&side);
	json_decref(report);
	return 0;
}
