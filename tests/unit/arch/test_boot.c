/* Kernel files: what is loaded where, and that every broken one is refused with one line. */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "machine_fake.h"

#define SETUP_LEN 1024
#define BODY_LEN  4096
#define IMAGE_LEN (SETUP_LEN + BODY_LEN)

static struct machine_fake machine;

static int set_up(void **state)
{
	(void)state;
	machine_fake_init(&machine, "1n1l2c1t", MIB(64));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	machine_fake_done(&machine);
	return 0;
}

static struct setup_header *header(uint8_t *image)
{
	return (struct setup_header *)(void *)(image + 0x1F1);
}

/* malloc'ed, so that a sanitizer sees any access past its end. */
static uint8_t *make_bzimage(void)
{
	uint8_t *image = calloc(1, IMAGE_LEN);
	struct setup_header hdr = {
		.setup_sects = SETUP_LEN / 512 - 1,
		.syssize = BODY_LEN / 16,
		.boot_flag = 0xAA55,
		.header = 0x53726448,
		.version = 0x020F,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = 0x1000000,
		.init_size = 0x1000000,
		.setup_data = 0x1234,
	};

	assert_non_null(image);
	hdr.jump = (uint16_t)(0xEB | (0x1F1 + sizeof(hdr) - 0x202) << 8);
	memcpy(image + 0x1F1, &hdr, sizeof(hdr));
	for (unsigned i = 0; i < BODY_LEN; i++)
		image[SETUP_LEN + i] = (uint8_t)(i * 7 + 1);
	return image;
}

static int load_with(const uint8_t *kernel, size_t len, const char *cmdline, struct error *err)
{
	const struct arch_boot boot = {
		.kernel = kernel,
		.kernel_len = len,
		.kernel_name = "kernel",
		.initrd_len = machine.vm.initrd_len,
		.cmdline = cmdline,
		.slots = machine.slot,
		.slot_count = machine.slot_count,
	};

	return arch_boot_load(&machine.vm, &boot, err);
}

static int load(const uint8_t *kernel, size_t len, struct error *err)
{
	return load_with(kernel, len, "console=ttyS0", err);
}

/* A usage error of one line that has says in it. */
static void refused(const uint8_t *kernel, size_t len, const char *says)
{
	struct error err = {0};

	assert_int_equal(load(kernel, len, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_null(strchr(err.what, '\n'));
	if (!strstr(err.what, says))
		fail_msg("'%s' does not say '%s'", err.what, says);
}

/* ---- bzImage --------------------------------------------------------------------------------- */

static void bzimage_is_loaded(void **state)
{
	uint8_t *image = make_bzimage();
	struct boot_params params = {0};
	char cmdline[64] = "";
	uint64_t gpa, end = 0;

	(void)state;
	assert_int_equal(arch_initrd_place(&machine.vm, 10000, &gpa, NULL), 0);
	assert_int_equal(load(image, IMAGE_LEN, NULL), 0);
	assert_true(machine.vm.entry.long_mode);
	assert_true(machine.vm.entry.rip == HIGH_GPA + 0x200);
	assert_true(machine.vm.entry.params_gpa == BOOT_PARAMS_GPA);
	assert_memory_equal(guest_ptr(&machine.mem, HIGH_GPA, BODY_LEN), image + SETUP_LEN,
			    BODY_LEN);
	assert_int_equal(guest_read(&machine.mem, BOOT_PARAMS_GPA, &params, sizeof(params)), 0);
	assert_int_equal(params.hdr.header, 0x53726448);
	assert_int_equal(params.hdr.type_of_loader, 0xFF);
	assert_int_equal(params.hdr.cmd_line_ptr, CMDLINE_GPA);
	assert_int_equal(params.hdr.ramdisk_image, gpa);
	assert_int_equal(params.hdr.ramdisk_size, 10000);
	assert_true(params.hdr.setup_data == 0); /* the file's own would be followed */
	assert_true(params.acpi_rsdp_addr == ACPI_GPA);
	assert_memory_equal(guest_ptr(&machine.mem, ACPI_GPA, 8), "RSD PTR ", 8);
	assert_int_equal(guest_read(&machine.mem, CMDLINE_GPA, cmdline, sizeof(cmdline)), 0);
	assert_string_equal(cmdline, "console=ttyS0");
	/* The map: low RAM, reserved to 1 MiB, RAM to the end; without gaps. */
	assert_int_equal(params.e820_entries, 3);
	for (unsigned i = 0; i < params.e820_entries; i++) {
		assert_true(params.e820_table[i].addr == end);
		assert_int_equal(params.e820_table[i].type, i == 1 ? 2 : 1);
		end += params.e820_table[i].size;
	}
	assert_true(end == MIB(64));
	free(image);
}

static void bzimage_cut_anywhere_is_refused(void **state)
{
	uint8_t *image = make_bzimage();

	(void)state;
	for (size_t len = 0; len < IMAGE_LEN; len++) {
		uint8_t *cut = malloc(len ? len : 1);
		struct error err = {0};

		assert_non_null(cut);
		memcpy(cut, image, len);
		assert_int_equal(load(cut, len, &err), -EINVAL);
		assert_int_equal(err.kind, ERROR_USAGE);
		assert_true(err.what[0] && !strchr(err.what, '\n'));
		if (len >= 0x206)
			assert_non_null(strstr(err.what, "truncated"));
		free(cut);
	}
	free(image);
}

static void bzimage_headers_are_judged(void **state)
{
	uint8_t *image = make_bzimage();
	struct setup_header *hdr = header(image), good = *hdr;
	char cmdline[5000];
	struct error err = {0};

	(void)state;
	hdr->version = 0x020B;
	refused(image, IMAGE_LEN, "boot protocol 2.11");
	*hdr = good;
	hdr->xloadflags = 0;
	refused(image, IMAGE_LEN, "32-bit");
	*hdr = good;
	hdr->loadflags = 0;
	refused(image, IMAGE_LEN, "boot protocol");
	*hdr = good;
	hdr->syssize = UINT32_MAX;
	refused(image, IMAGE_LEN, "truncated");
	*hdr = good;
	hdr->init_size = UINT32_MAX;
	refused(image, IMAGE_LEN, "memory");
	*hdr = good;
	hdr->pref_address = UINT64_MAX - 0x1000;
	refused(image, IMAGE_LEN, "memory");
	*hdr = good;
	memset(cmdline, 'x', sizeof(cmdline) - 1);
	cmdline[2048] = '\0';
	assert_int_equal(load_with(image, IMAGE_LEN, cmdline, &err), -EINVAL);
	assert_non_null(strstr(err.what, "2047"));
	cmdline[2048] = 'x';
	cmdline[4096] = '\0';
	hdr->cmdline_size = UINT32_MAX;
	err = (struct error){0};
	assert_int_equal(load_with(image, IMAGE_LEN, cmdline, &err), -EINVAL);
	cmdline[4095] = '\0';
	assert_int_equal(load_with(image, IMAGE_LEN, cmdline, NULL), 0);
	free(image);
}

/* Up to the byte before it, where its header says that the body is as short. */
static void bzimage_without_its_entry_is_refused(void **state)
{
	uint8_t *image = make_bzimage();

	(void)state;
	header(image)->syssize = 1;
	refused(image, SETUP_LEN + 0x200, "truncated");
	assert_int_equal(load(image, SETUP_LEN + 0x201, NULL), 0);
	free(image);
}

static void a_shorter_header_is_read_to_its_end(void **state)
{
	uint8_t *image = make_bzimage();
	struct setup_header *hdr = header(image);
	struct boot_params params = {0};

	(void)state;
	/* Of 2.12, which ends before kernel_info_offset: what follows is code. */
	hdr->version = 0x020C;
	hdr->jump = (uint16_t)(0xEB | (0x268 - 0x202) << 8);
	memset(image + 0x268, 0xCC, 16);
	assert_int_equal(load(image, IMAGE_LEN, NULL), 0);
	assert_int_equal(guest_read(&machine.mem, BOOT_PARAMS_GPA, &params, sizeof(params)), 0);
	assert_int_equal(params.hdr.kernel_info_offset, 0);
	assert_int_equal(params.hdr.init_size, 0x1000000);
	free(image);
}

/* The kernel needs 32 MiB here (16 MiB from its preferred 16 MiB). */
static void initrd_and_kernel_do_not_overlap(void **state)
{
	uint8_t *image = make_bzimage();
	uint64_t gpa;

	(void)state;
	assert_int_equal(arch_initrd_place(&machine.vm, MIB(32), &gpa, NULL), 0);
	assert_true(gpa == MIB(32));
	assert_int_equal(load(image, IMAGE_LEN, NULL), 0);
	assert_int_equal(arch_initrd_place(&machine.vm, MIB(32) + 1, &gpa, NULL), 0);
	assert_true(gpa % 4096 == 0);
	refused(image, IMAGE_LEN, "below its initramfs");
	header(image)->initrd_addr_max = 0x37ffffff >> 4;
	header(image)->init_size = 0x1000;
	refused(image, IMAGE_LEN, "takes an initramfs up to");
	free(image);
}

static void initrd_too_large_is_refused(void **state)
{
	static const uint64_t sizes[] = {
		MIB(64),	   MIB(63) + 1,		  UINT64_MAX,	   UINT64_MAX - 4095,
		UINT64_MAX - 4096, UINT64_MAX - HIGH_GPA, UINT64_MAX >> 1,
	};
	uint64_t gpa = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct error err = {0};

		assert_int_equal(arch_initrd_place(&machine.vm, sizes[i], &gpa, &err), -EINVAL);
		assert_int_equal(err.kind, ERROR_USAGE);
		assert_true(gpa == 77);
	}
	assert_int_equal(arch_initrd_place(&machine.vm, MIB(63), &gpa, NULL), 0);
	assert_true(gpa == HIGH_GPA);
	assert_int_equal(arch_initrd_place(&machine.vm, 1, &gpa, NULL), 0);
	assert_true(gpa == MIB(64) - 4096);
	assert_int_equal(arch_initrd_place(&machine.vm, 0, &gpa, NULL), 0);
	assert_true(gpa == MIB(64));
}

static void initrd_is_below_the_hole_and_2_gib(void **state)
{
	static const struct {
		const char *spec;
		uint64_t bytes, end;
	} cases[] = {
		{"1n1l1c1t", GIB(1), GIB(1)},
		{"1n1l1c1t", GIB(8), GIB(2)},
		{"4n4l1c1t", GIB(1), GIB(1)}, /* it may span nodes */
		{"2n2l1c1t", GIB(5), GIB(2)},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct machine_fake m;
		uint64_t gpa;

		machine_fake_init(&m, cases[i].spec, cases[i].bytes);
		assert_int_equal(arch_initrd_place(&m.vm, MIB(400) + 5, &gpa, NULL), 0);
		assert_true(gpa == cases[i].end - MIB(400) - 4096);
		assert_non_null(guest_ptr(&m.mem, gpa, MIB(400) + 5));
		machine_fake_done(&m);
	}
}

static void one_mebibyte_is_refused(void **state)
{
	uint8_t *image = make_bzimage();

	(void)state;
	machine_fake_done(&machine);
	machine_fake_init(&machine, "1n1l1c1t", MIB(1));
	refused(image, IMAGE_LEN, "more than 1 MiB");
	free(image);
}

/* ---- ELF --------------------------------------------------------------------------------------
 */

#define ELF_CODE  0x1000
#define ELF_LEN	  0x2000
#define ELF_ENTRY 0x1000040
#define NOTE_AT	  0x800

struct elf_file {
	Elf64_Ehdr head;
	Elf64_Phdr ph[2];
};

static uint8_t *make_vmlinux(void)
{
	uint8_t *image = calloc(1, ELF_LEN);
	const struct elf_file file = {
		.head =
			{
				.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
				.e_type = ET_EXEC,
				.e_machine = EM_X86_64,
				.e_phoff = offsetof(struct elf_file, ph),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = 2,
			},
		.ph = {{.p_type = PT_LOAD,
			.p_offset = ELF_CODE,
			.p_paddr = 0x1000000,
			.p_filesz = 0x1000,
			.p_memsz = 0x3000},
		       {.p_type = PT_NOTE, .p_offset = NOTE_AT, .p_filesz = 24 + 32}},
	};
	/* Another note before it, whose lengths are not multiples of four. */
	const struct {
		Elf64_Nhdr other;
		char other_name[8];
		char other_desc[4];
		Elf64_Nhdr pvh;
		char name[4];
		uint64_t entry;
	} __attribute__((packed)) notes = {
		.other = {.n_namesz = 6, .n_descsz = 3, .n_type = 18},
		.other_name = "Other",
		.pvh = {.n_namesz = 4, .n_descsz = 8, .n_type = 18},
		.name = "Xen",
		.entry = ELF_ENTRY,
	};

	assert_non_null(image);
	memcpy(image, &file, sizeof(file));
	memcpy(image + NOTE_AT, &notes, sizeof(notes));
	memset(image + ELF_CODE, 0x90, ELF_LEN - ELF_CODE);
	return image;
}

static struct elf_file *elf_of(uint8_t *image)
{
	return (struct elf_file *)(void *)image;
}

static void vmlinux_is_loaded_by_its_note(void **state)
{
	struct {
		uint32_t magic, version, flags, modules;
		uint64_t modlist, cmdline, rsdp, memmap;
		uint32_t entries, reserved;
	} info = {0};
	uint64_t module[4] = {0}, map[3] = {0};
	uint8_t *image = make_vmlinux();
	uint64_t gpa;

	(void)state;
	memset(guest_ptr(&machine.mem, 0x1001000, 0x2000), 0xff, 0x2000);
	assert_int_equal(arch_initrd_place(&machine.vm, 5000, &gpa, NULL), 0);
	assert_int_equal(load(image, ELF_LEN, NULL), 0);
	assert_false(machine.vm.entry.long_mode);
	assert_true(machine.vm.entry.rip == ELF_ENTRY);
	assert_memory_equal(guest_ptr(&machine.mem, 0x1000000, 0x1000), image + ELF_CODE, 0x1000);
	for (uint64_t at = 0x1001000; at < 0x1003000; at += 8)
		assert_true(*(uint64_t *)guest_ptr(&machine.mem, at, 8) == 0);
	assert_int_equal(guest_read(&machine.mem, machine.vm.entry.params_gpa, &info, sizeof(info)),
			 0);
	assert_int_equal(info.magic, 0x336ec578);
	assert_int_equal(info.version, 1);
	assert_true(info.cmdline == CMDLINE_GPA && info.rsdp == ACPI_GPA);
	assert_int_equal(info.modules, 1);
	assert_int_equal(guest_read(&machine.mem, info.modlist, module, sizeof(module)), 0);
	assert_true(module[0] == gpa && module[1] == 5000);
	assert_int_equal(info.entries, 3);
	assert_int_equal(guest_read(&machine.mem, info.memmap + 48, map, sizeof(map)), 0);
	assert_true(map[0] == HIGH_GPA && map[0] + map[1] == MIB(64) && (map[2] & 0xff) == 1);
	free(image);
}

static void vmlinux_does_not_cut_its_command_line(void **state)
{
	uint8_t *image = make_vmlinux();
	struct error err = {0};
	char cmdline[2049];

	(void)state;
	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[2048] = '\0';
	assert_int_equal(load_with(image, ELF_LEN, cmdline, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "2047"));
	cmdline[2047] = '\0';
	assert_int_equal(load_with(image, ELF_LEN, cmdline, NULL), 0);
	assert_string_equal(guest_ptr(&machine.mem, CMDLINE_GPA, 2048), cmdline);
	free(image);
}

static void vmlinux_cut_anywhere_is_refused(void **state)
{
	uint8_t *image = make_vmlinux();

	(void)state;
	for (size_t len = 0; len < ELF_LEN; len += len < 0x900 ? 1 : 97) {
		uint8_t *cut = malloc(len ? len : 1);
		struct error err = {0};

		assert_non_null(cut);
		memcpy(cut, image, len);
		assert_int_equal(load(cut, len, &err), -EINVAL);
		assert_int_equal(err.kind, ERROR_USAGE);
		free(cut);
	}
	free(image);
}

static void vmlinux_headers_are_judged(void **state)
{
	uint8_t *image = make_vmlinux();
	struct elf_file *file = elf_of(image), good = *file;

	(void)state;
	file->head.e_machine = EM_AARCH64;
	refused(image, ELF_LEN, "another machine");
	*file = good;
	file->head.e_ident[EI_DATA] = ELFDATA2MSB;
	refused(image, ELF_LEN, "another machine");
	*file = good;
	file->ph[1].p_type = PT_NULL;
	refused(image, ELF_LEN, "without a PVH note");
	*file = good;
	file->ph[1].p_filesz = UINT64_MAX;
	refused(image, ELF_LEN, "without a PVH note");
	*file = good;
	file->ph[0].p_paddr = 0x2000000; /* the entry is not in it */
	refused(image, ELF_LEN, "outside");
	*file = good;
	file->ph[0].p_paddr = 0x1000; /* over the boot parameters */
	file->ph[0].p_filesz = 0x1000000;
	refused(image, ELF_LEN, "");
	*file = good;
	file->ph[0].p_memsz = GIB(1);
	refused(image, ELF_LEN, "memory");
	*file = good;
	file->ph[0].p_memsz = UINT64_MAX;
	refused(image, ELF_LEN, "");
	*file = good;
	file->ph[0].p_memsz = 0x800; /* less than the file has */
	refused(image, ELF_LEN, "truncated");
	*file = good;
	file->head.e_phoff = UINT64_MAX - 8;
	refused(image, ELF_LEN, "truncated");
	*file = good;
	file->head.e_phnum = 0;
	refused(image, ELF_LEN, "program headers");
	free(image);
}

static void a_program_is_not_a_kernel(void **state)
{
	char *self = NULL;
	size_t len;

	(void)state;
	assert_int_equal(file_read("/proc/self/exe", MIB(64), &self, &len), 0);
	refused((const uint8_t *)self, len, "without a PVH note");
	free(self);
}

/* ---- others, and chance -----------------------------------------------------------------------
 */

static void other_files_are_named(void **state)
{
	static const struct {
		const char *bytes, *says;
	} cases[] = {
		{"", "empty"},
		{"#!/bin/sh\necho I am no kernel\n", "a text file"},
		{"\x1f\x8b\x08 and so on", "gzip"},
		{"\xfd"
		 "7zXZ",
		 "not a kernel"},
		{"\x28\xb5\x2f\xfd\x01", "zstd"},
		{"\x01\x02\x03", "too few"},
	};
	uint8_t zeros[1024] = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		refused((const uint8_t *)cases[i].bytes, strlen(cases[i].bytes), cases[i].says);
	refused(zeros, sizeof(zeros), "neither");
	memcpy(zeros + 56, "ARM\x64", 4);
	refused(zeros, sizeof(zeros), "arm64");
	memcpy(zeros, "MZ\0\0zimg", 8);
	memset(zeros + 56, 0, 4);
	refused(zeros, sizeof(zeros), "EFI-compressed");
}

/* Whatever a header says, it is loaded or refused, and nothing outside guest memory is touched. */
static void random_headers_do_no_harm(void **state)
{
	unsigned seed = 2, loaded = 0, judged = 0;

	(void)state;
	for (unsigned n = 0; n < 6000; n++) {
		bool elf = n & 1;
		uint8_t *image = elf ? make_vmlinux() : make_bzimage();
		size_t at = elf ? 0 : 0x1F1;
		size_t len = elf ? sizeof(struct elf_file) : sizeof(struct setup_header);
		int r;

		for (unsigned k = 1 + (unsigned)rand_r(&seed) % 3; k > 0; k--)
			image[at + (unsigned)rand_r(&seed) % len] = (uint8_t)rand_r(&seed);
		if (elf)
			image[NOTE_AT + (unsigned)rand_r(&seed) % 56] = (uint8_t)rand_r(&seed);
		r = load(image, elf ? ELF_LEN : IMAGE_LEN, NULL);
		assert_true(r == 0 || r == -EINVAL);
		loaded += r == 0;
		judged += r != 0;
		free(image);
	}
	assert_true(loaded > 100 && judged > 100);
}

static void command_lines_fit_and_show_panics(void **state)
{
	(void)state;
	for (int verbose = 0; verbose < 2; verbose++) {
		const char *text = arch_cmdline(verbose);

		assert_true(strlen(text) < 512);
		assert_non_null(strstr(text, "console=ttyS0"));
		assert_non_null(strstr(text, "earlycon=uart8250,io,0x3f8"));
		assert_non_null(strstr(text, "reboot=k"));
		assert_non_null(strstr(text, "panic=-1"));
		assert_non_null(strstr(text, verbose ? "loglevel=7" : "loglevel=4"));
	}
}

#define with_machine(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_machine(bzimage_is_loaded),
		with_machine(bzimage_cut_anywhere_is_refused),
		with_machine(bzimage_headers_are_judged),
		with_machine(bzimage_without_its_entry_is_refused),
		with_machine(a_shorter_header_is_read_to_its_end),
		with_machine(initrd_and_kernel_do_not_overlap),
		with_machine(initrd_too_large_is_refused),
		cmocka_unit_test(initrd_is_below_the_hole_and_2_gib),
		with_machine(one_mebibyte_is_refused),
		with_machine(vmlinux_is_loaded_by_its_note),
		with_machine(vmlinux_does_not_cut_its_command_line),
		with_machine(vmlinux_cut_anywhere_is_refused),
		with_machine(vmlinux_headers_are_judged),
		with_machine(a_program_is_not_a_kernel),
		with_machine(other_files_are_named),
		with_machine(random_headers_do_no_harm),
		cmocka_unit_test(command_lines_fit_and_show_panics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
