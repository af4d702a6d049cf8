/* Kernel, initramfs and device tree in a guest's memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <libfdt.h>

#include "arch/aarch64/machine.h"
#include "images.h"

struct fake {
	struct topology topology;
	struct guest_memory mem;
	struct arch_vm vm;
	uint8_t image[IMAGE_LEN];
	struct arch_boot boot;
};

static void fake_init(struct fake *f, uint64_t bytes, uint64_t text_offset)
{
	struct guest_layout layout;

	memset(f, 0, sizeof(*f));
	assert_int_equal(topology_parse("1n1l2c1t", &f->topology, NULL), 0);
	f->topology.node[0].memory_bytes = bytes;
	assert_int_equal(arch_memory_layout(&f->topology, 40, &layout, NULL), 0);
	assert_int_equal(guest_memory_init(&f->mem, &layout, NULL), 0);
	f->vm = (struct arch_vm){.mem = &f->mem, .topology = &f->topology, .gic_fd = -1};
	assert_int_equal(ram_plan(&layout, true, &f->vm.plan, NULL), 0);
	image_make(f->image, text_offset);
	f->boot = (struct arch_boot){.kernel = f->image,
				     .kernel_len = IMAGE_LEN,
				     .kernel_name = "k",
				     .cmdline = "one two"};
}

static void a_whole_machine(void **state)
{
	static struct fake f;
	uint64_t gpa;
	const void *fdt;
	int node, len;

	(void)state;
	fake_init(&f, MIB(64), 0x80000);
	assert_int_equal(arch_initrd_place(&f.vm, 100000, &gpa, NULL), 0);
	assert_int_equal(gpa % 65536, 0);
	assert_true(gpa + 100000 <= f.vm.plan.fdt_gpa);
	f.boot.initrd_len = 100000;
	assert_int_equal(arch_boot_load(&f.vm, &f.boot, NULL), 0);
	/* booting.rst: text_offset past a 2 MiB boundary. */
	assert_int_equal(f.vm.entry_gpa, RAM_GPA + 0x80000);
	assert_memory_equal(guest_ptr(&f.mem, f.vm.entry_gpa, IMAGE_LEN), f.image, IMAGE_LEN);
	fdt = guest_ptr(&f.mem, f.vm.plan.fdt_gpa, FDT_MAX_BYTES);
	assert_non_null(fdt);
	assert_int_equal(fdt_check_header(fdt), 0);
	node = fdt_path_offset(fdt, "/chosen");
	assert_true(node >= 0);
	assert_string_equal(fdt_getprop(fdt, node, "bootargs", NULL), "one two");
	assert_int_equal(fdt64_ld(fdt_getprop(fdt, node, "linux,initrd-start", NULL)), gpa);
	assert_int_equal(fdt64_ld(fdt_getprop(fdt, node, "linux,initrd-end", NULL)), gpa + 100000);
	assert_non_null(fdt_getprop(fdt, node, "rng-seed", &len));
	assert_int_equal(len, 64);
	assert_true(fdt64_ld(fdt_getprop(fdt, node, "kaslr-seed", NULL)) != 0);
	/* The stolen-time slots are not the guest's to use. */
	node = fdt_path_offset(fdt, "/memory@40000000");
	assert_true(node >= 0);
	assert_int_equal(fdt64_ld((const fdt64_t *)fdt_getprop(fdt, node, "reg", NULL) + 1),
			 MIB(64) - KIB(64));
	guest_memory_done(&f.mem);
}

static void what_does_not_fit(void **state)
{
	static struct fake f;
	static char cmdline[CMDLINE_MAX + 1];
	struct error err = {0};
	uint64_t gpa;

	(void)state;
	fake_init(&f, MIB(8), 0);
	assert_true(arch_initrd_place(&f.vm, MIB(300), &gpa, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_true(arch_initrd_place(&f.vm, UINT64_MAX - 5, &gpa, NULL) < 0);
	/* The largest that fits leaves no room for the kernel. */
	assert_int_equal(arch_initrd_place(&f.vm, f.vm.plan.fdt_gpa - RAM_GPA, &gpa, NULL), 0);
	assert_int_equal(gpa, RAM_GPA);
	err = (struct error){0};
	assert_true(arch_boot_load(&f.vm, &f.boot, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "below its initramfs"));

	f.vm.initrd_len = 0;
	memset(cmdline, 'x', CMDLINE_MAX);
	f.boot.cmdline = cmdline;
	err = (struct error){0};
	assert_true(arch_boot_load(&f.vm, &f.boot, &err) < 0);
	assert_non_null(strstr(err.what, "command line"));
	cmdline[CMDLINE_MAX - 1] = '\0';
	assert_int_equal(arch_boot_load(&f.vm, &f.boot, NULL), 0);

	/* The size that the header claims counts, not the file's. */
	memset(f.image + 16, 0xff, 7);
	err = (struct error){0};
	assert_true(arch_boot_load(&f.vm, &f.boot, &err) < 0);
	assert_non_null(strstr(err.what, "MiB of memory"));
	guest_memory_done(&f.mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_machine),
		cmocka_unit_test(what_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
