/* The closure against ldd on host programs and on made ones; scripts; broken ELF files. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/util.h"
#include "guest/elf_closure.h"
#include "guest/elf_image.h"
#include "scratch.h"

#define FOUND_MAX 512

struct found {
	char *path[FOUND_MAX];
	size_t count;
};

static int collect(const char *path, void *arg)
{
	struct found *f = arg;

	assert_true(f->count < FOUND_MAX);
	for (size_t i = 0; i < f->count; i++)
		assert_string_not_equal(f->path[i], path);
	f->path[f->count++] = strdup(path);
	return 0;
}

static bool has(const struct found *f, const char *path)
{
	for (size_t i = 0; i < f->count; i++)
		if (strcmp(f->path[i], path) == 0)
			return true;
	return false;
}

static void drop(struct found *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->path[i]);
	f->count = 0;
}

/* The real paths of what ldd names and of what the closure names are the same set. */
static void agrees_with_ldd(const char *program)
{
	struct found f = {0}, theirs = {0}, ours = {0};
	struct error err = {0};
	char command[1024], line[4096];
	FILE *ldd;

	if (elf_closure(program, collect, &f, &err) != 0)
		fail_msg("%s: %s", program, err.what);
	snprintf(command, sizeof(command), "ldd %s", program);
	ldd = popen(command, "r");
	assert_non_null(ldd);
	while (fgets(line, sizeof(line), ldd)) {
		char *path = strchr(line, '/'), *real;

		if (!path)
			continue;
		path[strcspn(path, " \n")] = '\0';
		/* "/lib64/ld.so (0x…)" or "name => path (0x…)". */
		if (strstr(path, "=>"))
			path = strchr(strstr(path, "=>"), '/');
		real = realpath(path, NULL);
		if (real && !has(&theirs, real))
			collect(real, &theirs);
		free(real);
	}
	pclose(ldd);
	for (size_t i = 0; i < f.count; i++) {
		char *real = realpath(f.path[i], NULL);

		assert_non_null(real);
		assert_int_equal(f.path[i][0], '/');
		assert_null(strstr(f.path[i], "/../"));
		if (!has(&ours, real) && strcmp(real, "/etc/ld.so.cache") != 0)
			collect(real, &ours);
		free(real);
	}
	for (size_t i = 0; i < ours.count; i++)
		if (!has(&theirs, ours.path[i]))
			fail_msg("%s: ldd lacks %s", program, ours.path[i]);
	for (size_t i = 0; i < theirs.count; i++)
		if (!has(&ours, theirs.path[i]))
			fail_msg("%s: the closure lacks %s", program, theirs.path[i]);
	drop(&f);
	drop(&ours);
	drop(&theirs);
}

static void host_programs_agree_with_ldd(void **state)
{
	static const char *const programs[] = {"/bin/bash",
					       "/bin/ls",
					       "/usr/bin/python3",
					       "/usr/bin/git",
					       "/usr/bin/perl",
					       "/usr/bin/cmake",
					       "/usr/bin/qemu-system-x86_64",
					       "/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
					       "/usr/lib/gcc/aarch64-linux-gnu/12/cc1"};
	unsigned checked = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		if (access(programs[i], R_OK) < 0)
			continue;
		agrees_with_ldd(programs[i]);
		checked++;
	}
	print_message("%u programs compared\n", checked);
	assert_true(checked > 0);
}

static void need_compiler(void)
{
	if (system("command -v cc >/dev/null") != 0) {
		print_message("skipped: no cc here\n");
		skip();
	}
}

/* main → liba (which needs libb); where they are, and who says so, varies. */
static void build(const char *flags_main, const char *flags_a, const char *dir_a, const char *dir_b)
{
	assert_int_equal(
		scratch_run("rm -rf ./* && mkdir -p bin %s %s && "
			    "echo 'int b(void) { return 7; }' > b.c && "
			    "echo 'int b(void); int a(void) { return b(); }' > a.c && "
			    "echo 'int a(void); int main(void) { return a(); }' > m.c && "
			    "cc -shared -fPIC -o %s/libstb.so b.c -Wl,-soname,libstb.so && "
			    "cc -shared -fPIC -o %s/libsta.so a.c -L%s -lstb %s && "
			    "cc -o bin/m m.c -L%s -lsta -Wl,-rpath-link,%s %s",
			    dir_a, dir_b, dir_b, dir_a, dir_b, flags_a, dir_a, dir_b, flags_main),
		0);
}

static void rpath_and_runpath(void **state)
{
	struct found f = {0};
	struct error err = {0};

	(void)state;
	need_compiler();

	/* RPATH of the program serves its libraries' needs, too. */
	build("-Wl,--disable-new-dtags,-rpath,'$ORIGIN/../one:$ORIGIN/../two'", "", "one", "two");
	agrees_with_ldd(scratch_path("bin/m"));
	assert_int_equal(scratch_run("bin/m; test $? = 7"), 0);

	/* RUNPATH doesn't. */
	build("-Wl,--enable-new-dtags,-rpath,'$ORIGIN/../one:$ORIGIN/../two'", "", "one", "two");
	assert_int_equal(scratch_run("bin/m 2>/dev/null; test $? = 127"), 0);
	assert_int_equal(elf_closure(scratch_path("bin/m"), collect, &f, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "libstb.so"));
	assert_non_null(strstr(err.what, "libsta.so'"));
	drop(&f);

	/* A library's own RUNPATH, and $ORIGIN with braces. */
	build("-Wl,--enable-new-dtags,-rpath,'${ORIGIN}/../one'",
	      "-Wl,--enable-new-dtags,-rpath,'$ORIGIN/../two'", "one", "two");
	agrees_with_ldd(scratch_path("bin/m"));
	assert_int_equal(elf_closure(scratch_path("bin/m"), collect, &f, NULL), 0);
	assert_true(has(&f, scratch_path("one/libsta.so")));
	assert_true(has(&f, scratch_path("two/libstb.so")));
	drop(&f);

	/* A library with a RUNPATH shuts the program's RPATH out of its own needs. */
	build("-Wl,--disable-new-dtags,-rpath,'$ORIGIN/../one:$ORIGIN/../two'",
	      "-Wl,--enable-new-dtags,-rpath,/nowhere", "one", "two");
	assert_int_equal(elf_closure(scratch_path("bin/m"), collect, &f, NULL), -EINVAL);
	assert_int_equal(scratch_run("bin/m 2>/dev/null; test $? = 127"), 0);
	drop(&f);

	/* LD_LIBRARY_PATH helps it, and a link to the program keeps its $ORIGIN. */
	setenv("LD_LIBRARY_PATH", scratch_path("two"), 1);
	assert_int_equal(scratch_run("mkdir far && ln -s ../bin/m far/l"), 0);
	agrees_with_ldd(scratch_path("far/l"));
	unsetenv("LD_LIBRARY_PATH");

	/* $LIB. */
	build("-Wl,--disable-new-dtags,-rpath,'$ORIGIN/../$LIB'", "", "lib/x86_64-linux-gnu",
	      "lib/x86_64-linux-gnu");
	if (elf_image_own_machine() == EM_X86_64 && access("/lib/x86_64-linux-gnu", R_OK) == 0)
		agrees_with_ldd(scratch_path("bin/m"));
}

static void statics_and_texts_need_nothing(void **state)
{
	struct found f = {0};

	(void)state;
	need_compiler();
	assert_int_equal(scratch_run("echo 'int main(void) { return 0; }' > m.c && "
				     "cc -static -o s m.c && cc -static-pie -o p m.c && cc -c m.c"),
			 0);
	assert_int_equal(elf_closure(scratch_path("s"), collect, &f, NULL), 0);
	assert_int_equal(elf_closure(scratch_path("p"), collect, &f, NULL), 0);
	assert_int_equal(elf_closure(scratch_path("m.o"), collect, &f, NULL), 0);
	assert_int_equal(elf_closure(scratch_path("m.c"), collect, &f, NULL), 0);
	assert_int_equal(elf_closure("/dev/null", collect, &f, NULL), 0);
	assert_int_equal(elf_closure(scratch_path(""), collect, &f, NULL), 0);
	assert_int_equal(f.count, 0);
	assert_int_equal(elf_closure(scratch_path("not there"), collect, &f, NULL), -ENOENT);
}

static void write_script(const char *name, const char *text)
{
	assert_int_equal(scratch_write(name, text, strlen(text)), 0);
	assert_int_equal(chmod(scratch_path(name), 0755), 0);
}

static void scripts_bring_their_interpreters(void **state)
{
	struct found f = {0};
	struct error err = {0};
	char text[600];

	(void)state;
	write_script("a", "#!/bin/sh -e\necho\n");
	assert_int_equal(elf_closure(scratch_path("a"), collect, &f, NULL), 0);
	assert_true(has(&f, "/bin/sh"));
	assert_true(f.count >= 1);
	drop(&f);

	write_script("b", "#! /usr/bin/env -S A=b sh -e\n");
	assert_int_equal(elf_closure(scratch_path("b"), collect, &f, NULL), 0);
	assert_true(has(&f, "/usr/bin/env"));
	assert_true(has(&f, "/usr/bin/sh") || has(&f, "/bin/sh"));
	drop(&f);

	/* A script for a script. */
	snprintf(text, sizeof(text), "#!%s\n", scratch_path("a"));
	write_script("c", text);
	assert_int_equal(elf_closure(scratch_path("c"), collect, &f, NULL), 0);
	assert_true(has(&f, scratch_path("a")));
	assert_true(has(&f, "/bin/sh"));
	drop(&f);

	/* One that runs itself. */
	snprintf(text, sizeof(text), "#!%s\n", scratch_path("d"));
	write_script("d", text);
	assert_int_equal(elf_closure(scratch_path("d"), collect, &f, &err), -EINVAL);
	assert_non_null(strstr(err.what, "too many scripts"));
	drop(&f);

	err = (struct error){0};
	write_script("e", "#!/no/such/thing\n");
	assert_int_equal(elf_closure(scratch_path("e"), collect, &f, &err), -EINVAL);
	assert_non_null(strstr(err.what, "/no/such/thing"));
	err = (struct error){0};
	write_script("f", "#!/usr/bin/env no-such-command\n");
	assert_int_equal(elf_closure(scratch_path("f"), collect, &f, &err), -ENOENT);
	write_script("g", "#!");
	assert_int_equal(elf_closure(scratch_path("g"), collect, &f, NULL), 0);
	write_script("h", "#!\n");
	assert_int_equal(elf_closure(scratch_path("h"), collect, &f, NULL), 0);
	drop(&f);
}

static int refuse(const char *path, void *arg)
{
	(void)path;
	++*(int *)arg;
	return -EPIPE;
}

static void a_refusal_ends_it(void **state)
{
	int calls = 0;

	(void)state;
	assert_int_equal(elf_closure("/bin/bash", refuse, &calls, NULL), -EPIPE);
	assert_int_equal(calls, 1);
}

static void which(void **state)
{
	char *path = NULL;
	struct error err = {0};
	char list[700];

	(void)state;
	assert_int_equal(scratch_run("mkdir one two && echo > one/tool && echo > two/tool && "
				     "chmod +x two/tool && mkdir one/folder && echo > one/plain"),
			 0);
	snprintf(list, sizeof(list), "/nowhere:%s:%s", scratch_path("one"), scratch_path("two"));
	assert_int_equal(elf_which("tool", list, &path, NULL), 0);
	assert_string_equal(path, scratch_path("two/tool"));
	free(path);
	path = NULL;
	assert_int_equal(elf_which("folder", list, &path, NULL), -EACCES);
	assert_int_equal(elf_which("plain", list, &path, NULL), -EACCES);
	assert_int_equal(elf_which("none", list, &path, &err), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_int_equal(elf_which("", list, &path, NULL), -ENOENT);
	assert_int_equal(elf_which("/", list, &path, NULL), -EACCES);
	assert_int_equal(elf_which("/none", list, &path, NULL), -ENOENT);
	assert_int_equal(elf_which("tool", "", &path, NULL), -ENOENT);
	assert_null(path);
	assert_int_equal(elf_which("sh", NULL, &path, NULL), 0);
	free(path);
	assert_int_equal(elf_which("/bin/sh", NULL, &path, NULL), 0);
	assert_string_equal(path, "/bin/sh");
	free(path);
}

/* A read of bytes that may be anything ends in a result, and sanitizers watch. */
static void read_bytes(int fd, const uint8_t *data, size_t len)
{
	struct elf_image image;
	const uint8_t *section;
	size_t section_len;

	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, data, len, 0), (ssize_t)len);
	if (elf_image_read(fd, &image) == 0)
		elf_image_done(&image);
	if (elf_image_section(data, len, ".dynstr", &section, &section_len) == 0) {
		assert_true(section >= data && section <= data + len);
		assert_true(section_len <= len - (size_t)(section - data));
	}
}

static void broken_files_end_in_a_result(void **state)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);
	uint32_t seed = 12345;
	uint8_t *exact;
	char *data;
	size_t len;

	(void)state;
	need_compiler();
	assert_int_equal(scratch_run("echo 'int a(void) { return 1; }' > a.c && cc -shared -fPIC "
				     "-nostdlib -s -o tiny a.c -Wl,-rpath,/x,-z,noseparate-code "
				     "-Wl,-soname,tiny"),
			 0);
	assert_int_equal(file_read(scratch_path("tiny"), MIB(1), &data, &len), 0);
	for (size_t n = 0; n <= len; n++) {
		/* A copy of the exact size, so that a byte too far is seen. */
		exact = malloc(n ? n : 1);
		assert_non_null(exact);
		memcpy(exact, data, n);
		read_bytes(fd, exact, n);
		free(exact);
	}
	exact = malloc(len);
	assert_non_null(exact);
	for (unsigned round = 0; round < 20000; round++) {
		memcpy(exact, data, len);
		for (unsigned i = 0; i < 1 + round % 4; i++) {
			seed = seed * 1664525 + 1013904223;
			/* Headers are what steers; half of the hits go there. */
			exact[(seed >> 8) % (round % 2 ? 1024 : len)] =
				(uint8_t)(round % 3 ? seed >> 24 : 0xff);
		}
		read_bytes(fd, exact, len);
	}
	free(exact);
	free(data);
	close(fd);
}

/* This host's programs are not the other's: scripts do without, commands are refused. */
static void another_machine(void **state)
{
	uint16_t other = elf_image_own_machine() == EM_X86_64 ? EM_AARCH64 : EM_X86_64;
	struct found f = {0};
	struct error err = {0};

	(void)state;
	write_script("f1", "#!/bin/sh\n");
	write_script("f2", "#!/usr/bin/env sh\n");
	assert_int_equal(elf_closure_for(other, scratch_path("f1"), collect, &f, &err), 0);
	assert_int_equal(elf_closure_for(other, scratch_path("f2"), collect, &f, &err), 0);
	assert_int_equal(f.count, 0);
	assert_int_equal(elf_closure_for(other, "/bin/sh", collect, &f, &err), -EINVAL);
	assert_non_null(strstr(err.what, "another machine"));
	assert_int_equal(elf_image_machine_of("/bin/sh"), elf_image_own_machine());
	assert_int_equal(elf_image_machine_of(scratch_path("f1")), 0);
	assert_int_equal(elf_image_machine_of(scratch_path("none")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_programs_agree_with_ldd),
		cmocka_unit_test_setup_teardown(rpath_and_runpath, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(statics_and_texts_need_nothing, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(scripts_bring_their_interpreters, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(another_machine, scratch_make, scratch_remove),
		cmocka_unit_test(a_refusal_ends_it),
		cmocka_unit_test_setup_teardown(which, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(broken_files_end_in_a_result, scratch_make,
						scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
