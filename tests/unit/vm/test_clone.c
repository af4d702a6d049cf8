/* What a snapshot's clones have for themselves: names, networks, disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/util.h"
#include "vm/clone.h"

static void test_names(void **state UNUSED)
{
	struct vm_config c = {.name = strdup("try"),
			      .report = strdup("r.json"),
			      .qmp = strdup("q")};
	struct error err = {0};

	assert_int_equal(vm_clone_check(&c, 100, &err), 0);
	assert_int_equal(vm_clone_settle(&c, 7, &err), 0);
	assert_string_equal(c.name, "try-7");
	assert_string_equal(c.report, "r.json-7");
	assert_string_equal(c.qmp, "q-7");
	vm_config_done(&c);
}

static void test_name_is_long(void **state UNUSED)
{
	struct vm_config c = {.name = malloc(63)};
	struct error err = {0};

	memset(c.name, 'n', 62);
	c.name[62] = '\0';
	assert_int_equal(vm_clone_check(&c, 10, &err), 0);
	assert_int_equal(vm_clone_check(&c, 11, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	vm_config_done(&c);
}

static void test_nets(void **state UNUSED)
{
	struct vm_config c[2] = {{.net_count = 2}, {.net_count = 2}};
	struct error err = {0};

	for (unsigned i = 0; i < 2; i++) {
		c[i].name = strdup("try");
		assert_int_equal(vm_net_parse("tap=br,mac=02:00:00:00:00:01", &c[i].net[0], &err),
				 0);
		assert_int_equal(vm_net_parse("user,mac=02:00:00:00:00:02", &c[i].net[1], &err), 0);
		assert_int_equal(vm_clone_settle(&c[i], i, &err), 0);
		vm_config_settle(&c[i]);
	}
	assert_string_equal(c[0].net[0].tap, "br-0");
	assert_string_equal(c[1].net[0].tap, "br-1");
	for (unsigned n = 0; n < 2; n++) {
		assert_true(c[0].net[n].mac_own);
		assert_int_equal(c[0].net[n].mac[0] & 3, 2);
		assert_memory_not_equal(c[0].net[n].mac, c[1].net[n].mac, NET_MAC_BYTES);
	}
	strcpy(c[0].net[0].tap, "fourteen-chars");
	assert_int_equal(vm_clone_check(&c[0], 1, &err), -EINVAL);
	assert_non_null(strstr(err.what, "fourteen-chars-0"));
	vm_config_done(&c[0]);
	vm_config_done(&c[1]);
}

static void with_disk(struct vm_config *c, const char *path)
{
	*c = (struct vm_config){.name = strdup("try"), .disk_count = 1};
	strcpy(c->disk[0].id, "disk0");
	c->disk[0].path = strdup(path);
	c->disk[0].told = true;
}

static void make_image(char path[])
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "before", 6), 6);
	close(fd);
}

/* Either its blocks are shared, and what is written stays in the copy, or it is refused with why.
 */
static void test_disk(void **state UNUSED)
{
	char path[] = "clone-XXXXXX", text[7] = "";
	struct error err = {0};
	struct vm_config c;
	int fd, r;

	make_image(path);
	with_disk(&c, path);
	r = vm_clone_check(&c, 3, &err);
	if (r < 0) {
		assert_int_equal(err.kind, ERROR_USAGE);
		assert_non_null(strstr(err.what, "disk disk0"));
		assert_non_null(strstr(err.what, "FICLONE"));
		assert_non_null(strstr(err.hint, "ro"));
		assert_int_equal(vm_clone_settle(&c, 0, &(struct error){0}), r);
		assert_null(c.disk[0].copy);
		print_message("here, no blocks are shared: %s\n", err.what);
	} else {
		assert_int_equal(vm_clone_settle(&c, 0, &err), 0);
		fd = open(c.disk[0].copy, O_RDWR);
		assert_int_equal(pread(fd, text, 6, 0), 6);
		assert_string_equal(text, "before");
		assert_int_equal(pwrite(fd, "behind", 6, 0), 6);
		close(fd);
		fd = open(path, O_RDONLY);
		assert_int_equal(pread(fd, text, 6, 0), 6);
		assert_string_equal(text, "before");
		close(fd);
	}
	unlink(path);
	vm_config_done(&c);
}

static void test_disk_is_written(void **state UNUSED)
{
	char path[] = "clone-XXXXXX";
	struct error err = {0};
	struct vm_config c;
	int fd;

	make_image(path);
	with_disk(&c, path);
	fd = open(path, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(vm_clone_check(&c, 1, &err), -EBUSY);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	c.disk[0].read_only = true;
	assert_int_equal(vm_clone_check(&c, 1, &(struct error){0}), -EBUSY);
	/* Nobody needs a copy of what is only read. */
	assert_int_equal(flock(fd, LOCK_UN), 0);
	assert_int_equal(vm_clone_check(&c, 1, &err), 0);
	assert_int_equal(vm_clone_settle(&c, 0, &err), 0);
	assert_null(c.disk[0].copy);
	/* Of the snapshot's it is known what it was. */
	c.disk[0].told = false;
	c.disk[0].inode = 1;
	for (unsigned i = 0; i < 2; i++) {
		err = (struct error){0};
		c.disk[0].read_only = i;
		assert_int_equal(vm_clone_check(&c, 1, &err), -EINVAL);
		assert_non_null(strstr(err.what, "it is another file than it was"));
	}
	close(fd);
	unlink(path);
	vm_config_done(&c);
}

static void test_disk_is_gone(void **state UNUSED)
{
	struct error err = {0};
	struct vm_config c;

	with_disk(&c, "nowhere/at-all");
	assert_int_equal(vm_clone_check(&c, 1, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	vm_config_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_name_is_long),
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_disk),
		cmocka_unit_test(test_disk_is_written),
		cmocka_unit_test(test_disk_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
