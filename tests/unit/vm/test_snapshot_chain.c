/* A snapshot's folder and those below it: all are found and are the ones that were meant; what was
 * made to mislead, with right checksums, is refused by name. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/arch.h"
#include "base/text.h"
#include "vm/snapshot_chain.h"

#define SHAPE                                                                                      \
	"\"cores_per_llc\": 1, \"threads_per_core\": 1, \"vcpus\": 1, \"nodes\": [{\"llcs\": 1, "  \
	"\"memory_bytes\": 67108864, \"latency_ns\": 0, \"bandwidth_mbs\": 0, \"cache_bytes\": "   \
	"0, \"distances\": [10]}]"

static char dir[] = "/tmp/test-chain.XXXXXX";

static int set_up(void **state UNUSED)
{
	strcpy(dir, "/tmp/test-chain.XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int tear_down(void **state UNUSED)
{
	CLEANUP_FREE char *command = text_format("rm -r %s", dir);

	return system(command);
}

static void put(const char *folder, const char *name, const void *data, size_t len)
{
	CLEANUP_FREE char *path = text_format("%s/%s/%s", dir, folder, name);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

/* 32 digits of one. */
static char *id_of(char digit)
{
	char *id = malloc(SNAPSHOT_ID_LEN + 1);

	memset(id, digit, SNAPSHOT_ID_LEN);
	id[SNAPSHOT_ID_LEN] = '\0';
	return id;
}

/* A folder whose files fit one another. base: what its description says, or NULL. table: NULL:
 * there is no such section. */
static void make(const char *folder, char digit, const char *base, char base_digit,
		 const struct memory_table *table)
{
	CLEANUP_FREE char *path = text_format("%s/%s", dir, folder), *id = id_of(digit),
			  *base_id = id_of(base_digit);
	CLEANUP_FREE char *below =
		base ? text_format("\"base\": {\"path\": \"%s\", \"id\": \"%s\"}, ", base, base_id)
		     : strdup("");
	CLEANUP_FREE char *text = text_format(
		"{\"snapshot\": %d, \"id\": \"%s\", %s\"arch\": \"%s\", \"session\": \"shell\", "
		"\"command\": null, \"kernel\": {\"path\": null, \"release\": null}, "
		"\"cpu_vendor\": null, " SHAPE ", \"disks\": [], \"nets\": []}",
		SNAPSHOT_VERSION, id, below, arch_name);
	CLEANUP_FREE uint8_t *state = NULL;
	struct snapshot_writer w = {.version = SNAPSHOT_VERSION};
	struct error err = {0};
	struct state_io io;
	size_t len;

	if (table) {
		struct memory_table copy = *table;

		state_save(&io);
		memory_table_state(&copy, &io);
		snapshot_add(&w, "memory", 1, &io);
	}
	assert_int_equal(snapshot_encode(&w, text, strlen(text), &state, &len, &err), 0);
	snapshot_writer_done(&w);
	(void)mkdir(path, 0700);
	put(folder, SNAPSHOT_DESCRIPTION, text, strlen(text));
	put(folder, SNAPSHOT_STATE, state, len);
	put(folder, SNAPSHOT_MEMORY, id, SNAPSHOT_ID_LEN);
}

/* Opens it. word: NULL, or why not. Returns how many layers there are. */
static unsigned expect(const char *folder, const char *word)
{
	CLEANUP_FREE char *path = text_format("%s/%s", dir, folder);
	struct snapshot_layers layers = {0};
	struct snapshot_top top = {0};
	struct vm_config c = {0};
	struct error err = {0};
	int r = snapshot_chain_open(path, &c, &top, &layers, &err);
	unsigned count = layers.count;

	if (!word && r < 0)
		fail_msg("%s: %s", folder, err.what);
	if (word && (r != -EINVAL || err.kind != ERROR_USAGE || !strstr(err.what, word)))
		fail_msg("%s: %d: %s", folder, r, err.what);
	for (unsigned i = 0; r == 0 && i < count; i++)
		assert_true(layers.layer[i].fd >= 0);
	snapshot_layers_done(&layers);
	snapshot_top_done(&top);
	vm_config_done(&c);
	return count;
}

static const struct memory_table partial = {.partial = true}, packed = {.lz4 = true},
				 both = {.partial = true, .lz4 = true};

static void all_are_found(void **state UNUSED)
{
	CLEANUP_FREE char *elsewhere = text_format("%s/b", dir);

	make("a", 'a', NULL, '0', NULL);
	make("b", 'b', "../a", 'a', &partial);
	make("c", 'c', elsewhere, 'b', &both);
	make("p", 'd', NULL, '0', &packed);
	assert_int_equal(expect("a", NULL), 1);
	assert_int_equal(expect("b", NULL), 2);
	assert_int_equal(expect("c", NULL), 3);
	assert_int_equal(expect("p", NULL), 1);
}

static void what_misleads_is_refused(void **state UNUSED)
{
	make("a", 'a', NULL, '0', NULL);
	make("other", 'b', "../a", 'c', &partial);
	expect("other", "/a: it is another snapshot than the one that was saved there");
	make("none", 'b', "../nothing", 'c', &partial);
	expect("none", "its base ");
	expect("none", "/nothing: No such file or directory");
	/* Its memory would be taken for all there is, or for what it isn't. */
	make("whole", 'b', "../a", 'a', NULL);
	expect("whole", "section memory is missing");
	make("packed", 'b', "../a", 'a', &packed);
	expect("packed", "don't agree on whether it has a base");
	make("part", 'b', NULL, '0', &partial);
	expect("part", "don't agree on whether it has a base");
	make("middle", 'e', "../part", 'b', &partial);
	expect("middle", "/part: section memory and the description don't agree");
}

/* One that has itself below comes to an end. */
static void circles_end(void **state UNUSED)
{
	make("self", 'a', "../self", 'a', &partial);
	assert_int_equal(expect("self", "more than 32 snapshots"), SNAPSHOT_LAYERS_MAX);
	make("x", 'b', "../y", 'c', &partial);
	make("y", 'c', "../x", 'b', &partial);
	expect("x", "more than 32 snapshots");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_are_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_misleads_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(circles_end, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
