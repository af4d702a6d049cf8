/* Reads a vmlinux with libelf, which bounds sections by the file; what they hold is checked here.
 */
#include "inspect/vmlinux.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/util.h"

#define BUILD_ID_MAX 64 /* bytes; SHA-1 has 20 */

struct file {
	const char *path;
	Elf *elf;
	Elf_Data *symbols;
	size_t symbol_count;
	size_t strings;			     /* the section of their names */
	Elf_Data *btf;			     /* NULL: none */
	char build_id[2 * BUILD_ID_MAX + 1]; /* hexadecimal; "": none */
};

/* ---- sections ---------------------------------------------------------------------------- */

static void take_build_id(struct file *f, Elf_Data *notes)
{
	size_t at = 0, name, desc;
	GElf_Nhdr note;

	while ((at = gelf_getnote(notes, at, &note, &name, &desc)) > 0) {
		const uint8_t *id = (const uint8_t *)notes->d_buf + desc;

		if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 ||
		    memcmp((const char *)notes->d_buf + name, "GNU", 4) != 0 ||
		    note.n_descsz > BUILD_ID_MAX)
			continue;
		for (unsigned i = 0; i < note.n_descsz; i++)
			snprintf(f->build_id + 2 * i, 3, "%02x", id[i]);
		return;
	}
}

static void take_section(struct file *f, Elf_Scn *section, size_t names)
{
	GElf_Shdr head;
	const char *name;

	if (!gelf_getshdr(section, &head))
		return;
	name = elf_strptr(f->elf, names, head.sh_name);
	if (head.sh_type == SHT_SYMTAB && head.sh_entsize) {
		f->symbols = elf_getdata(section, NULL);
		f->symbol_count = head.sh_size / head.sh_entsize;
		f->strings = head.sh_link;
	} else if (head.sh_type == SHT_NOTE && !f->build_id[0]) {
		Elf_Data *notes = elf_getdata(section, NULL);

		if (notes && notes->d_buf)
			take_build_id(f, notes);
	} else if (name && !strcmp(name, ".BTF") && head.sh_type == SHT_PROGBITS) {
		f->btf = elf_getdata(section, NULL);
	}
}

static int take_sections(struct file *f, struct error *err)
{
	Elf_Scn *section = NULL;
	size_t names;

	if (!f->elf || elf_kind(f->elf) != ELF_K_ELF || gelf_getclass(f->elf) != ELFCLASS64 ||
	    elf_getshdrstrndx(f->elf, &names) < 0)
		return error_usage(err, "%s is no vmlinux", f->path);
	while ((section = elf_nextscn(f->elf, section)))
		take_section(f, section, names);
	if (!f->symbols || !f->symbols->d_buf || f->symbol_count > KALLSYMS_MAX_SYMBOLS)
		return error_usage(err, "%s has no symbol table", f->path);
	return 0;
}

/* ---- symbols ----------------------------------------------------------------------------- */

/* A symbol of code or data with a name. */
static bool get_symbol(const struct file *f, size_t i, GElf_Sym *ret_sym, const char **ret_name)
{
	unsigned type;

	if (!gelf_getsym(f->symbols, (int)i, ret_sym) || ret_sym->st_shndx == SHN_UNDEF)
		return false;
	type = GELF_ST_TYPE(ret_sym->st_info);
	if (type != STT_FUNC && type != STT_OBJECT &&
	    (type != STT_NOTYPE || GELF_ST_BIND(ret_sym->st_info) == STB_LOCAL))
		return false;
	*ret_name = elf_strptr(f->elf, f->strings, ret_sym->st_name);
	return *ret_name && (*ret_name)[0] && strlen(*ret_name) < KALLSYMS_NAME_MAX;
}

static uint64_t file_address(const struct file *f, const char *wanted)
{
	for (size_t i = 0; i < f->symbol_count; i++) {
		const char *name;
		GElf_Sym sym;

		if (get_symbol(f, i, &sym, &name) && !strcmp(name, wanted))
			return sym.st_value;
	}
	return 0;
}

/* Where the image begins in the file, and how far from there the guest has it; if it is the same
 * kernel. */
static int check_same(const struct inspect *in, const struct file *f, uint64_t *ret_base,
		      uint64_t *ret_move, struct error *err)
{
	static const char *const marks[] = {"_etext", "do_exit", "schedule", "vprintk"};
	uint64_t stext = file_address(f, "_stext"), text = file_address(f, "_text"), there, move;
	char id[2 * BUILD_ID_MAX + 1];
	unsigned agree = 0;

	if (!stext || kallsyms_address(&in->symbols, "_stext", &there))
		return error_usage(err, "%s has no _stext", f->path);
	move = there - stext;
	if (f->build_id[0] && vmcoreinfo_text(&in->info, "BUILD-ID", id, sizeof(id))) {
		if (strcmp(id, f->build_id))
			return error_usage(
				err, "%s is another kernel than the guest's: build %s, not %s",
				f->path, f->build_id, id);
		agree = 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		uint64_t here = file_address(f, marks[i]);

		if (!here || kallsyms_address(&in->symbols, marks[i], &there))
			continue;
		if (there - here != move)
			return error_usage(
				err, "%s is another kernel than the guest's: %s lies elsewhere",
				f->path, marks[i]);
		agree++;
	}
	if (!agree)
		return error_usage(err, "nothing tells whether %s is the guest's kernel", f->path);
	*ret_base = text && text < stext ? text : stext;
	*ret_move = move;
	return 0;
}

static int add_symbols(struct inspect *in, const struct file *f, uint64_t base, uint64_t move)
{
	struct kallsyms_extra *extra = calloc(f->symbol_count + 1, sizeof(*extra));
	size_t n = 0;
	int r;

	if (!extra)
		return -ENOMEM;
	for (size_t i = 0; i < f->symbol_count; i++) {
		const char *name;
		GElf_Sym sym;

		if (!get_symbol(f, i, &sym, &name))
			continue;
		/* Below the image are per-CPU variables and constants: they don't move. */
		extra[n++] = (struct kallsyms_extra){
			.address = sym.st_value >= base ? sym.st_value + move : sym.st_value,
			.name = name,
			.type = GELF_ST_TYPE(sym.st_info) == STT_FUNC ? 'T' : 'D',
			.absolute = sym.st_value < base,
		};
	}
	r = kallsyms_add(&in->symbols, extra, n);
	free(extra);
	return r;
}

/* ---- the file ---------------------------------------------------------------------------- */

static int add(struct inspect *in, struct file *f, struct error *err)
{
	struct types *types = NULL;
	uint64_t base = 0, move = 0;
	int r = take_sections(f, err);

	if (r == 0)
		r = check_same(in, f, &base, &move, err);
	if (r == 0 && !in->types && f->btf && f->btf->d_buf)
		r = types_new(f->btf->d_buf, f->btf->d_size, &types, err);
	if (r < 0)
		return r;
	r = add_symbols(in, f, base, move);
	if (r < 0) {
		types_free(types);
		return error_set(err, r, "taking the symbols of %s", f->path);
	}
	if (types)
		in->types = types;
	return 0;
}

int inspect_add_vmlinux(struct inspect *in, const char *path, struct error *err)
{
	struct file f = {.path = path};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), r;

	if (fd < 0)
		return error_set(err, -errno, "opening %s", path);
	elf_version(EV_CURRENT);
	f.elf = elf_begin(fd, ELF_C_READ, NULL);
	r = add(in, &f, err);
	elf_end(f.elf);
	close(fd);
	return r;
}
