/* The kernel of a machine, whose memory is the tiny kernel's: when it is searched for. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "base/util.h"
#include "kernel_fake.h"
#include "vm/machine.h"

static struct kernel_fake fake;
static struct machine machine;
static struct vm_config config;
static char tree[] = "/tmp/stasis-test-tree-XXXXXX";

static void *page(uint64_t gpa)
{
	void *at = guest_ptr(&machine.mem, gpa, 4096);

	assert_non_null(at);
	return at;
}

static void machine_with_kernel(void)
{
	struct guest_layout layout = {.count = 1, .range = {{.size = FAKE_RAM}}};

	machine = (struct machine){.config = &config};
	kernel_fake_build(&fake, 0);
	assert_int_equal(guest_memory_init(&machine.mem, &layout, NULL), 0);
	assert_int_equal(guest_write(&machine.mem, 0, fake.ram, FAKE_RAM), 0);
}

static void machine_gone(void)
{
	machine_inspect_done(&machine);
	guest_memory_done(&machine.mem);
}

static void a_failure_holds_for_its_freeze(void **state)
{
	const struct inspect *in = NULL;
	struct error err = {0}, again = {0};

	(void)state;
	machine_with_kernel();
	memset(page(FAKE_INFO), 0, 4096);
	machine.freeze.state = FREEZE_FREEZING;
	machine.freeze.freezes = 1;
	assert_int_equal(machine_inspect(&machine, &in, &err), -ENODATA);
	/* It is there now, which only the next freeze sees. */
	memcpy(page(FAKE_INFO), fake.ram + FAKE_INFO, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &again), -ENODATA);
	assert_string_equal(again.what, err.what);
	assert_int_equal(machine_inspect(&machine, &in, NULL), -ENODATA);
	assert_null(in);
	machine.freeze.freezes = 2;
	assert_int_equal(machine_inspect(&machine, &in, &again), 0);
	assert_string_equal(in->release, FAKE_RELEASE);
	machine_gone();
}

static void a_running_guest_is_searched_each_time(void **state)
{
	const struct inspect *in = NULL;
	struct error err = {0};

	(void)state;
	machine_with_kernel();
	memset(page(FAKE_INFO), 0, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &err), -ENODATA);
	memcpy(page(FAKE_INFO), fake.ram + FAKE_INFO, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &err), 0);
	/* Found is found. */
	memset(page(FAKE_INFO), 0, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &err), 0);
	machine_gone();
}

/* ---- a build tree ------------------------------------------------------------------------ */

/* A vmlinux with no more than symbols. */
struct elf {
	Elf64_Ehdr head;
	Elf64_Shdr section[4];
	char names[32], strings[32];
	Elf64_Sym symbol[4];
};

static void put_section(struct elf *elf, unsigned i, uint32_t name, uint32_t type, size_t at,
			size_t size)
{
	elf->section[i] = (Elf64_Shdr){.sh_name = name,
				       .sh_type = type,
				       .sh_offset = at,
				       .sh_size = size,
				       .sh_addralign = 1};
}

static void put_symbol(struct elf *elf, unsigned i, uint32_t name, uint64_t gva)
{
	elf->symbol[i] = (Elf64_Sym){.st_name = name,
				     .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
				     .st_shndx = 1,
				     .st_value = gva};
}

/* moved: schedule, which tells another kernel. */
static void put_vmlinux(const char *path, uint64_t moved)
{
	struct elf elf = {.head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
					       EV_CURRENT},
				   .e_type = ET_EXEC,
				   .e_machine = EM_X86_64,
				   .e_version = EV_CURRENT,
				   .e_shoff = offsetof(struct elf, section),
				   .e_ehsize = sizeof(Elf64_Ehdr),
				   .e_shentsize = sizeof(Elf64_Shdr),
				   .e_shnum = 4,
				   .e_shstrndx = 1},
			  .names = "\0.shstrtab\0.symtab",
			  .strings = "\0_stext\0schedule\0secret"};
	FILE *f = fopen(path, "w");

	put_section(&elf, 1, 1, SHT_STRTAB, offsetof(struct elf, names), sizeof(elf.names));
	put_section(&elf, 2, 1, SHT_STRTAB, offsetof(struct elf, strings), sizeof(elf.strings));
	put_section(&elf, 3, 11, SHT_SYMTAB, offsetof(struct elf, symbol), sizeof(elf.symbol));
	elf.section[3].sh_link = 2;
	elf.section[3].sh_entsize = sizeof(Elf64_Sym);
	put_symbol(&elf, 1, 1, FAKE_IMAGE - FAKE_KASLR);
	put_symbol(&elf, 2, 8, FAKE_SCHEDULE - FAKE_KASLR + moved);
	put_symbol(&elf, 3, 17, FAKE_IMAGE - FAKE_KASLR + 0x2380);
	assert_non_null(f);
	assert_int_equal(fwrite(&elf, 1, sizeof(elf), f), sizeof(elf));
	assert_int_equal(fclose(f), 0);
}

/* Where the machine that boots kernel has the symbol that only the vmlinux knows; 0: nowhere. */
static uint64_t secret_of(const char *kernel)
{
	CLEANUP_FREE char *path = text_format("%s%s", tree, kernel);
	const struct inspect *in = NULL;
	uint64_t gva;

	config.kernel = path;
	machine_with_kernel();
	assert_int_equal(machine_inspect(&machine, &in, NULL), 0);
	gva = kallsyms_address_or_0(&in->symbols, "secret");
	machine_gone();
	config.kernel = NULL;
	return gva;
}

static void a_build_tree_adds_its_symbols(void **state)
{
	CLEANUP_FREE char *path = text_format("%s/vmlinux", tree);

	(void)state;
	assert_int_equal(secret_of("/arch/x86/boot/bzImage"), 0);
	put_vmlinux(path, 0);
	assert_true(secret_of("/arch/x86/boot/bzImage") == FAKE_IMAGE + 0x2380);
	assert_true(secret_of("/vmlinux") == FAKE_IMAGE + 0x2380);
	/* No tree, whatever lies beside it. */
	assert_int_equal(secret_of("/bzImage"), 0);
	assert_int_equal(secret_of("/xarch/x86/boot/bzImage"), 0);
	assert_int_equal(secret_of("/xvmlinux"), 0);
	/* Another build's is left out, and the machine has what it had. */
	put_vmlinux(path, 16);
	assert_int_equal(secret_of("/arch/x86/boot/bzImage"), 0);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_holds_for_its_freeze),
		cmocka_unit_test(a_running_guest_is_searched_each_time),
		cmocka_unit_test(a_build_tree_adds_its_symbols),
	};
	int failed;

	if (!mkdtemp(tree))
		return 77; /* nowhere to write */
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(tree);
	return failed;
}
