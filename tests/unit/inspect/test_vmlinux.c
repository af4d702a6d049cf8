/* A vmlinux, made by hand, beside the tiny kernel: what it adds, and files that are refused. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "inspect/vmlinux.h"
#include "kernel_fake.h"

#define LINKED UINT64_C(0xffffffff81000000) /* where the file says the image is */

enum { NAMES = 1, STRINGS, SYMBOLS, BTF, NOTES, SECTIONS };

/* The file: its head, sections' heads, sections. */
struct elf {
	Elf64_Ehdr head;
	Elf64_Shdr section[SECTIONS];
	char names[64];
	char strings[256];
	Elf64_Sym symbol[8];
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint8_t id[4];
	} note;
	uint8_t btf[0x7000];
};

static struct kernel_fake fake;
static struct elf elf;
static char path[] = "/tmp/stasis-vmlinux-XXXXXX";

static void section(unsigned i, const char *name, uint32_t type, const void *data, size_t size)
{
	size_t at = 1;

	while (elf.names[at])
		at += strlen(elf.names + at) + 1;
	memcpy(elf.names + at, name, strlen(name) + 1);
	elf.section[i].sh_name = (Elf64_Word)at;
	elf.section[i].sh_type = type;
	elf.section[i].sh_offset = (Elf64_Off)((const uint8_t *)data - (const uint8_t *)&elf);
	elf.section[i].sh_size = size;
	elf.section[i].sh_addralign = 1;
}

static void symbol(unsigned i, const char *name, uint64_t address, unsigned type)
{
	size_t at = 1;

	while (elf.strings[at])
		at += strlen(elf.strings + at) + 1;
	memcpy(elf.strings + at, name, strlen(name) + 1);
	elf.symbol[i] = (Elf64_Sym){.st_name = (Elf64_Word)at,
				    .st_info = ELF64_ST_INFO(STB_GLOBAL, type),
				    .st_shndx = 1,
				    .st_value = address};
}

/* fake is built, with its BTF. */
static void build_elf(void)
{
	memset(&elf, 0, sizeof(elf));
	memcpy(elf.head.e_ident, ELFMAG, SELFMAG);
	elf.head.e_ident[EI_CLASS] = ELFCLASS64;
	elf.head.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.head.e_ident[EI_VERSION] = EV_CURRENT;
	elf.head.e_type = ET_EXEC;
	elf.head.e_machine = EM_X86_64;
	elf.head.e_version = EV_CURRENT;
	elf.head.e_ehsize = sizeof(Elf64_Ehdr);
	elf.head.e_shentsize = sizeof(Elf64_Shdr);
	elf.head.e_shnum = SECTIONS;
	elf.head.e_shstrndx = NAMES;
	elf.head.e_shoff = offsetof(struct elf, section);
	section(NAMES, ".shstrtab", SHT_STRTAB, elf.names, sizeof(elf.names));
	section(STRINGS, ".strtab", SHT_STRTAB, elf.strings, sizeof(elf.strings));
	section(SYMBOLS, ".symtab", SHT_SYMTAB, elf.symbol, sizeof(elf.symbol));
	elf.section[SYMBOLS].sh_link = STRINGS;
	elf.section[SYMBOLS].sh_entsize = sizeof(Elf64_Sym);
	memcpy(elf.btf, kernel_fake_at(&fake, FAKE_BTF), fake.btf_len);
	section(BTF, ".BTF", SHT_PROGBITS, elf.btf, fake.btf_len);
	elf.note.head = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 4, .n_type = NT_GNU_BUILD_ID};
	memcpy(elf.note.name, "GNU", 4);
	memcpy(elf.note.id, "\x00\xff", 2);
	elf.note.head.n_descsz = 2; /* as the fake's VMCOREINFO says: 00ff */
	section(NOTES, ".notes", SHT_NOTE, &elf.note, sizeof(elf.note));
	elf.section[NOTES].sh_addralign = 4;
	symbol(1, "_stext", LINKED, STT_NOTYPE);
	symbol(2, "schedule", LINKED + 0x100, STT_FUNC);
	symbol(3, "secret", LINKED + 0x2380, STT_OBJECT);
	symbol(4, "percpu_secret", 0x90, STT_OBJECT);
	symbol(5, "jiffies_64", LINKED + 0x2100, STT_OBJECT);
}

static int add(struct inspect *in, struct error *err)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(&elf, 1, sizeof(elf), f), sizeof(elf));
	assert_int_equal(fclose(f), 0);
	return inspect_add_vmlinux(in, path, err);
}

/* The fake without BTF, and the file for it. */
static struct inspect *open_fake(void)
{
	struct inspect *in = NULL;
	struct error err = {0};

	kernel_fake_build(&fake, 0);
	build_elf();
	kernel_fake_build(&fake, FAKE_NO_BTF);
	if (inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, &err))
		fail_msg("%s", err.what);
	return in;
}

static void what_lacks_is_added(void **state)
{
	struct inspect *in = open_fake();
	unsigned before = in->symbols.count;
	struct inspect_place place;
	struct error err = {0};
	struct kallsyms_hit hit;
	uint64_t gva;

	(void)state;
	assert_null(in->types);
	if (add(in, &err))
		fail_msg("%s", err.what);
	assert_int_equal(in->symbols.count, before + 2);
	assert_int_equal(inspect_symbol(in, "secret", &gva, NULL), 0);
	assert_true(gva == FAKE_IMAGE + 0x2380);
	assert_true(kallsyms_name(&in->symbols, gva + 3, &hit));
	assert_string_equal(hit.name, "secret");
	assert_int_equal(inspect_symbol(in, "percpu_secret", &gva, NULL), 0);
	assert_int_equal(gva, 0x90);
	assert_int_equal(inspect_symbol(in, "schedule", &gva, NULL), 0);
	assert_true(gva == FAKE_IMAGE + 0x100);
	assert_non_null(in->types);
	assert_int_equal(inspect_place(in, "init_task.pid", 0, &place, NULL), 0);
	/* Once more adds nothing. */
	assert_int_equal(add(in, &err), 0);
	assert_int_equal(in->symbols.count, before + 2);
	inspect_free(in);
}

static void refused(struct inspect *in, const char *why)
{
	struct error err = {0};

	assert_true(add(in, &err) < 0);
	if (!strstr(err.what, why))
		fail_msg("%s", err.what);
}

static void other_files_are_refused(void **state)
{
	struct inspect *in = open_fake();
	unsigned before = in->symbols.count;

	(void)state;
	elf.note.id[0] ^= 1;
	refused(in, "another kernel");
	build_elf();
	/* Without a build ID the places tell. */
	elf.section[NOTES].sh_type = SHT_PROGBITS;
	elf.symbol[2].st_value += 8;
	refused(in, "schedule");
	elf.symbol[2].st_name = 0;
	refused(in, "nothing tells");
	build_elf();
	elf.section[SYMBOLS].sh_type = SHT_PROGBITS;
	refused(in, "symbol table");
	build_elf();
	elf.section[SYMBOLS].sh_size = UINT64_MAX / 2;
	refused(in, "");
	build_elf();
	elf.symbol[1].st_name = 0;
	refused(in, "_stext");
	memcpy(elf.head.e_ident, "MZ", 2);
	refused(in, "no vmlinux");
	assert_int_equal(inspect_add_vmlinux(in, "/nonexistent/vmlinux", NULL), -ENOENT);
	assert_int_equal(in->symbols.count, before);
	assert_null(in->types);
	inspect_free(in);
}

static void broken_files_do_no_harm(void **state)
{
	struct inspect *in = open_fake();

	(void)state;
	srand(1);
	for (unsigned round = 0; round < 2000; round++) {
		struct error err = {0};

		kernel_fake_build(&fake, 0);
		build_elf();
		for (unsigned i = 0; i < 4; i++)
			((uint8_t *)&elf)[(unsigned)rand() % offsetof(struct elf, btf)] =
				(uint8_t)rand();
		(void)!add(in, &err);
	}
	inspect_free(in);
}

static int make_path(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int drop_path(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_lacks_is_added),
		cmocka_unit_test(other_files_are_refused),
		cmocka_unit_test(broken_files_do_no_harm),
	};

	return cmocka_run_group_tests(tests, make_path, drop_path);
}
