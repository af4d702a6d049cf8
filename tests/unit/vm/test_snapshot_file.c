/* The description of a snapshot: what a machine was comes back from its text, and what makes no
 * sense is refused by its field; disks are known again, or not. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "freeze/snapshot_folder.h"
#include "freeze/snapshot_state.h"
#include "vm/disk.h"
#include "vm/snapshot_file.h"

#define SHAPE                                                                                      \
	"\"cores_per_llc\": 1, \"threads_per_core\": 1, \"vcpus\": 1, \"nodes\": [{\"llcs\": 1, "  \
	"\"memory_bytes\": 67108864, \"latency_ns\": 0, \"bandwidth_mbs\": 0, \"cache_bytes\": "   \
	"0, \"distances\": [10]}]"
#define DISK DISK_AT("/images/a.img")
#define DISK_AT(path)                                                                              \
	"{\"id\": \"disk0\", \"path\": \"" path "\", \"bytes\": 4096, \"read_only\": true, "       \
	"\"direct\": false, \"iops\": null, \"bps\": 1000, \"inode\": 7, \"modified_ns\": 12}"

/* A description with these fields. */
static int read_text(const char *session, const char *command, const char *disks, const char *nets,
		     struct vm_config *c, struct error *err)
{
	char *text = NULL;
	int len = asprintf(&text,
			   "{\"snapshot\": %d, \"arch\": \"%s\", \"session\": %s, \"command\": "
			   "%s, \"kernel\": {\"path\": null, \"release\": \"6.12\"}, "
			   "\"cpu_vendor\": null, " SHAPE ", \"disks\": %s, \"nets\": %s}",
			   SNAPSHOT_VERSION, arch_name, session, command, disks, nets);
	int r;

	assert_true(len > 0);
	r = snapshot_read_description(text, (size_t)len, c, err);
	free(text);
	return r;
}

static void comes_back(void **state UNUSED)
{
	struct vm_config c = {0};
	struct error err = {0};
	char *value;

	if (read_text("\"command\"", "[\"sh\", \"-c\", \"true\"]", "[" DISK "]",
		      "[\"tap=t0,mac=02:00:00:00:00:01,ip=10.0.0.2/24,gw=10.0.0.1,dns=10.0.0.3,"
		      "offloads=off\"]",
		      &c, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(c.session, VM_SESSION_COMMAND);
	assert_string_equal(c.command[2], "true");
	assert_null(c.command[3]);
	assert_string_equal(c.kernel_release, "6.12");
	assert_int_equal(c.disk_count, 1);
	assert_string_equal(c.disk[0].path, "/images/a.img");
	assert_true(c.disk[0].read_only);
	assert_int_equal(c.disk[0].bps, 1000);
	assert_int_equal(c.disk[0].inode, 7);
	assert_int_equal(c.net_count, 1);
	value = vm_net_value(&c.net[0]);
	assert_string_equal(value, "tap=t0,mac=02:00:00:00:00:01,ip=10.0.0.2/24,gw=10.0.0.1,"
				   "dns=10.0.0.3,offloads=off");
	free(value);
	vm_config_done(&c);

	assert_int_equal(read_text("\"shell\"", "null", "[]", "[\"user,mac=02:00:00:00:00:02\"]",
				   &c, NULL),
			 0);
	assert_int_equal(c.session, VM_SESSION_SHELL);
	assert_null(c.command);
	value = vm_net_value(&c.net[0]);
	assert_string_equal(value, "user,mac=02:00:00:00:00:02");
	free(value);
	vm_config_done(&c);
}

static void what_makes_no_sense_is_named(void **state UNUSED)
{
	static const struct {
		const char *session, *command, *disks, *nets, *word;
	} bad[] = {
		{"\"none\"", "null", "[]", "[]", "session"},
		{"3", "null", "[]", "[]", "session"},
		{"\"command\"", "[]", "[]", "[]", "command"},
		{"\"command\"", "[1]", "[]", "[]", "command"},
		{"\"command\"", "\"sh\"", "[]", "[]", "command"},
		{"\"shell\"", "null", "null", "[]", "disks"},
		{"\"shell\"", "null", "[{}]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK ", 3]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK_AT("a.img") "]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK_AT("/") "]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK_AT("/images/../etc/shadow") "]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK_AT("/images/..") "]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK_AT("/images/./a.img") "]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK_AT("/images//a.img") "]", "[]", "disk"},
		{"\"shell\"", "null", "[" DISK_AT("/images/.") "]", "[]", "disk"},
		{"\"shell\"", "null", "[]", "[\"tap=t0,uplink=2\"]", "nets"},
		{"\"shell\"", "null", "[]", "{}", "nets"},
		{"\"shell\"", "null", "[]", "[null]", "nets"},
		{"\"shell\"", "null", "[]", "[\"tap=\"]", "tap"},
		{"\"shell\"", "null", "[]", "[\"user\", \"user\", \"user\", \"user\", \"user\"]",
		 "nets"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vm_config c = {0};
		struct error err = {0};

		assert_int_equal(read_text(bad[i].session, bad[i].command, bad[i].disks,
					   bad[i].nets, &c, &err),
				 -EINVAL);
		if (!strstr(err.what, bad[i].word))
			fail_msg("%zu: %s", i, err.what);
		vm_config_done(&c);
	}
}

static int read_with_id(const char *id, struct vm_config *c, struct error *err)
{
	char *text = NULL;
	int len = asprintf(&text,
			   "{\"snapshot\": %d, \"id\": %s, \"arch\": \"%s\", \"session\": "
			   "\"shell\", \"command\": null, \"kernel\": {\"path\": null, "
			   "\"release\": null}, \"cpu_vendor\": null, " SHAPE
			   ", \"disks\": [], \"nets\": []}",
			   SNAPSHOT_VERSION, id, arch_name);
	int r;

	assert_true(len > 0);
	r = snapshot_read_description(text, (size_t)len, c, err);
	free(text);
	return r;
}

static void the_id_is_read(void **state UNUSED)
{
	static const char *const bad[] = {"null",
					  "3",
					  "\"\"",
					  "\"0123456789abcdef0123456789abcde\"",
					  "\"0123456789abcdef0123456789abcdeG\"",
					  "\"0123456789abcdef0123456789abcdef0\""};
	struct vm_config c = {0};

	assert_int_equal(read_with_id("\"0123456789abcdef0123456789abcdef\"", &c, NULL), 0);
	assert_string_equal(c.snapshot_id, "0123456789abcdef0123456789abcdef");
	vm_config_done(&c);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = {0};

		assert_int_equal(read_with_id(bad[i], &c, &err), -EINVAL);
		assert_non_null(strstr(err.what, "id "));
		vm_config_done(&c);
	}
}

static int read_with_base(const char *base, struct vm_config *c, struct error *err)
{
	char *text = NULL;
	int r;

	assert_true(asprintf(&text, "\"0123456789abcdef0123456789abcdef\", \"base\": %s", base) >
		    0);
	r = read_with_id(text, c, err);
	free(text);
	return r;
}

#define BASE_ID	   "\"id\": \"fedcba9876543210fedcba9876543210\""
#define BASE(path) "{\"path\": \"" path "\", " BASE_ID "}"

/* It is beside it, or somewhere that its path says. */
static void the_base_is_read(void **state UNUSED)
{
	static const char *const good[] = {"../first", "../...", "/snaps/first", "/s"},
				 *const bad[] = {"null",
						 "\"../first\"",
						 "{}",
						 "{" BASE_ID "}",
						 "{\"path\": \"../first\"}",
						 "{\"path\": \"../first\", \"id\": \"0\"}",
						 "{\"path\": 3, " BASE_ID "}",
						 BASE(""),
						 BASE("first"),
						 BASE(".."),
						 BASE("../"),
						 BASE("../."),
						 BASE("../.."),
						 BASE("../../first"),
						 BASE("../first/"),
						 BASE("../first/memory"),
						 BASE("/"),
						 BASE("/snaps/"),
						 BASE("/snaps/../etc"),
						 BASE("/snaps//first")};
	struct vm_config c = {0};
	struct error err = {0};

	assert_int_equal(read_with_id("\"0123456789abcdef0123456789abcdef\"", &c, NULL), 0);
	assert_null(c.snapshot_base);
	vm_config_done(&c);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CLEANUP_FREE char *text = NULL;

		assert_true(asprintf(&text, "{\"path\": \"%s\", " BASE_ID "}", good[i]) > 0);
		if (read_with_base(text, &c, &err) < 0)
			fail_msg("%s", err.what);
		assert_string_equal(c.snapshot_base, good[i]);
		assert_string_equal(c.snapshot_base_id, "fedcba9876543210fedcba9876543210");
		vm_config_done(&c);
		c = (struct vm_config){0};
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err = (struct error){0};
		if (read_with_base(bad[i], &c, &err) != -EINVAL)
			fail_msg("%s", bad[i]);
		assert_non_null(strstr(err.what, "base is missing or makes no sense"));
		vm_config_done(&c);
		c = (struct vm_config){0};
	}
}

/* ---- disks ------------------------------------------------------------------------------------
 */

static char path[] = "/tmp/stasis-disk-XXXXXX";

static struct vm_disk of_now(void)
{
	struct vm_disk d = {.path = path, .id = "disk0"};
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	d.inode = st.st_ino;
	d.bytes = (uint64_t)st.st_size;
	d.modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	return d;
}

/* Also one that the guest can but read: its kernel remembers what it has read. */
static void expect_changed(struct vm_disk d, int fd, const char *word)
{
	for (unsigned i = 0; i < 2; i++) {
		struct error err = {0};

		d.read_only = i;
		assert_int_equal(vm_disk_check(&d, fd, &err), -EINVAL);
		if (!strstr(err.what, word))
			fail_msg("%s", err.what);
		assert_non_null(strstr(err.hint, "--disk disk0="));
	}
	d.told = true;
	assert_int_equal(vm_disk_check(&d, fd, NULL), 0);
}

static void a_disk_is_known_again(void **state UNUSED)
{
	struct vm_disk d, other;
	struct error err = {0};
	int fd = mkstemp(path), other_fd;

	assert_true(fd >= 0 && ftruncate(fd, 4096) == 0);
	d = of_now();
	assert_int_equal(vm_disk_check(&d, fd, &err), 0);
	other = d;
	other.modified_ns--;
	expect_changed(other, fd, "it has changed since the snapshot");
	other = d;
	other.bytes = 512;
	expect_changed(other, fd, "it has changed since the snapshot");
	other = d;
	other.inode++;
	expect_changed(other, fd, "it is another file");
	other = d;
	other.inode = 0; /* it was a device */
	expect_changed(other, fd, "can't be told");
	usleep(20000); /* files' times come in ticks */
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	expect_changed(d, fd, "it has changed since the snapshot");
	/* What counts is the file that is open, whatever has its name now. */
	d = of_now();
	unlink(path);
	other_fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(other_fd >= 0 && ftruncate(other_fd, 4096) == 0);
	assert_int_equal(vm_disk_check(&d, fd, NULL), 0);
	expect_changed(d, other_fd, "it is another file");
	close(other_fd);
	close(fd);
	unlink(path);
}

static void another_is_put_in_its_place(void **state UNUSED)
{
	struct vm_disk d[2] = {{.path = strdup("/a"), .id = "disk0"},
			       {.path = strdup("/b"), .id = "data"}};
	struct error err = {0};

	assert_int_equal(vm_disk_replace(d, 2, "data=/dev/null", &err), 0);
	assert_string_equal(d[0].path, "/a");
	assert_string_equal(d[1].path, "/dev/null");
	assert_true(d[1].told);
	assert_int_equal(vm_disk_replace(d, 2, "disk=/c", NULL), -EINVAL);
	assert_int_equal(vm_disk_replace(d, 2, "disk1=/c", NULL), -EINVAL);
	assert_int_equal(vm_disk_replace(d, 2, "data=", NULL), -EINVAL);
	assert_int_equal(vm_disk_replace(d, 2, "data", NULL), -EINVAL);
	assert_int_equal(vm_disk_replace(d, 0, "data=/c", NULL), -EINVAL);
	free(d[0].path);
	free(d[1].path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back),
		cmocka_unit_test(what_makes_no_sense_is_named),
		cmocka_unit_test(the_id_is_read),
		cmocka_unit_test(the_base_is_read),
		cmocka_unit_test(a_disk_is_known_again),
		cmocka_unit_test(another_is_put_in_its_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
