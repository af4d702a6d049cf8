/* Finds modules and BPF programs by the kernel's lists of them. Any thread, one at a time. */
#include "inspect/code.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

#define PIECES_MAX  16384 /* modules, and BPF programs, trampolines, dispatchers */
#define PIECE_MAX   MIB(64)
#define SYMBOLS_MAX 65536      /* of a module */
#define SYMBOLS_ALL (1u << 20) /* of all that names are asked of; the rest has none */
#define TABLE_MAX   (1u << 24)

struct symbol {
	uint64_t start;
	uint32_t name; /* in the module's string table */
};

/* A module's text, or one BPF program. */
struct piece {
	uint64_t start, size;
	uint64_t name_gva;
	bool module;
	struct arch_unwind_table table; /* count 0: none */
	uint64_t kallsyms_gva;		/* 0: none */
	/* Read when they are first asked for. */
	bool symbols_read;
	struct symbol *symbols; /* ascending */
	unsigned symbol_count;
	uint64_t strings_gva;
};

struct code {
	const struct inspect *in;
	struct range {
		uint64_t start, end;
	} text[2]; /* the image's: for good, and until it has booted */
	struct arch_unwind_table table;
	struct piece *pieces; /* ascending */
	unsigned count, room;
	uint8_t *places, *entries; /* code_prepare's copy of table, or NULL */
	unsigned symbols_left;	   /* that may still be read; 16 bytes each */
};

/* ---- lists ------------------------------------------------------------------------------- */

static struct piece *add_piece(struct code *code)
{
	if (code->count == code->room) {
		unsigned room = code->room ? 2 * code->room : 64;
		struct piece *pieces = reallocarray(code->pieces, room, sizeof(*pieces));

		if (!pieces)
			return NULL;
		code->pieces = pieces;
		code->room = room;
	}
	code->pieces[code->count] = (struct piece){0};
	return &code->pieces[code->count++];
}

/* The members of a struct that a list goes through, and their places. Missing is NULL or the first
 * that the kernel's types don't have. */
struct plan {
	const struct inspect *in;
	const char *missing;
};

static uint64_t offset_of(struct plan *p, const char *path)
{
	struct types_value v;

	if (inspect_member(p->in, path, &v, NULL) || v.size > KIB(64) || v.offset > MIB(1)) {
		p->missing = p->missing ?: path;
		return 0;
	}
	return v.offset;
}

/* Either of two, of which kernels have one. */
static uint64_t offset_of_either(struct plan *p, const char *path, const char *older)
{
	struct types_value v;

	return offset_of(p, inspect_member(p->in, path, &v, NULL) ? older : path);
}

/* Calls each(object) for what is on a list; link: of its head in an object. */
static int walk_list(struct code *code, uint64_t head, uint64_t link,
		     int (*each)(struct code *code, uint64_t object, const void *arg),
		     const void *arg)
{
	uint64_t at = head;

	for (unsigned i = 0; i < PIECES_MAX; i++) {
		int r;

		if (space_read_uint(&code->in->space, at, 8, &at) || at == head)
			break;
		r = each(code, at - link, arg);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- modules ----------------------------------------------------------------------------- */

struct module_plan {
	uint64_t link, name, kallsyms;
	uint64_t base[2], size[2]; /* of its text: for good, and while it starts */
	uint64_t orc_place, orc_entry, orc_count;
	bool has_init, has_orc, has_kallsyms;
};

static int add_text(struct code *code, uint64_t module, const struct module_plan *m, unsigned part,
		    const struct piece *like)
{
	const struct space *s = &code->in->space;
	struct piece piece = *like, *to;

	if (space_read_uint(s, module + m->base[part], 8, &piece.start) ||
	    space_read_uint(s, module + m->size[part], 4, &piece.size) || !piece.start ||
	    !piece.size || piece.size > PIECE_MAX)
		return 0;
	to = add_piece(code);
	if (!to)
		return -ENOMEM;
	*to = piece;
	return 0;
}

static int add_module(struct code *code, uint64_t module, const void *arg)
{
	const struct module_plan *m = arg;
	const struct space *s = &code->in->space;
	struct piece piece = {.name_gva = module + m->name, .module = true};
	uint64_t count;
	int r;

	if (m->has_orc && !space_read_uint(s, module + m->orc_place, 8, &piece.table.place_gva) &&
	    !space_read_uint(s, module + m->orc_entry, 8, &piece.table.entry_gva) &&
	    !space_read_uint(s, module + m->orc_count, 4, &count) && count <= TABLE_MAX)
		piece.table.count = (uint32_t)count;
	if (m->has_kallsyms && space_read_uint(s, module + m->kallsyms, 8, &piece.kallsyms_gva))
		piece.kallsyms_gva = 0;
	r = add_text(code, module, m, 0, &piece);
	return r < 0 || !m->has_init ? r : add_text(code, module, m, 1, &piece);
}

static int find_modules(struct code *code, struct lacks *lacks)
{
	uint64_t head = kallsyms_address_or_0(&code->in->symbols, "modules");
	struct plan p = {.in = code->in}, init = p, orc = p, names = p;
	struct module_plan m;

	if (!head)
		return 0; /* a kernel without modules */
	m = (struct module_plan){
		.link = offset_of(&p, "module.list"),
		.name = offset_of(&p, "module.name"),
		/* As of 6.4, by enum mod_mem_type; before, in two. */
		.base = {offset_of_either(&p, "module.mem[0].base", "module.core_layout.base"),
			 offset_of_either(&init, "module.mem[4].base", "module.init_layout.base")},
		.size = {offset_of_either(&p, "module.mem[0].size", "module.core_layout.text_size"),
			 offset_of_either(&init, "module.mem[4].size",
					  "module.init_layout.text_size")},
		.orc_place = offset_of(&orc, "module.arch.orc_unwind_ip"),
		.orc_entry = offset_of(&orc, "module.arch.orc_unwind"),
		.orc_count = offset_of(&orc, "module.arch.num_orcs"),
		.kallsyms = offset_of(&names, "module.kallsyms"),
	};
	m.has_init = !init.missing;
	m.has_orc = !orc.missing;
	m.has_kallsyms = !names.missing;
	if (names.missing)
		lacks_add(lacks, names.missing);
	/* Where the image has none, modules have none. */
	if (orc.missing && code->table.count)
		lacks_add(lacks, orc.missing);
	if (p.missing) {
		lacks_add(lacks, p.missing);
		return 0;
	}
	return walk_list(code, head, m.link, add_module, &m);
}

/* ---- BPF --------------------------------------------------------------------------------- */

struct bpf_plan {
	uint64_t link, start, end, name;
};

static int add_bpf(struct code *code, uint64_t ksym, const void *arg)
{
	const struct bpf_plan *b = arg;
	const struct space *s = &code->in->space;
	uint64_t start, end;
	struct piece *to;

	if (space_read_uint(s, ksym + b->start, 8, &start) ||
	    space_read_uint(s, ksym + b->end, 8, &end) || start >= end || end - start > PIECE_MAX)
		return 0;
	to = add_piece(code);
	if (!to)
		return -ENOMEM;
	to->start = start;
	to->size = end - start;
	to->name_gva = ksym + b->name;
	return 0;
}

static int find_bpf(struct code *code, struct lacks *lacks)
{
	uint64_t head = kallsyms_address_or_0(&code->in->symbols, "bpf_kallsyms");
	struct plan p = {.in = code->in};
	struct bpf_plan b;

	if (!head)
		return 0; /* a kernel without BPF, or without its just-in-time compiler */
	b = (struct bpf_plan){
		.link = offset_of(&p, "bpf_ksym.lnode"),
		.start = offset_of(&p, "bpf_ksym.start"),
		.end = offset_of(&p, "bpf_ksym.end"),
		.name = offset_of(&p, "bpf_ksym.name"),
	};
	if (p.missing) {
		lacks_add(lacks, p.missing);
		return 0;
	}
	return walk_list(code, head, b.link, add_bpf, &b);
}

/* ---- the object -------------------------------------------------------------------------- */

static int by_start(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void find_image(struct code *code)
{
	const struct inspect *in = code->in;
	uint64_t place = kallsyms_address_or_0(&in->symbols, "__start_orc_unwind_ip"),
		 place_end = kallsyms_address_or_0(&in->symbols, "__stop_orc_unwind_ip"),
		 entry = kallsyms_address_or_0(&in->symbols, "__start_orc_unwind");

	code->text[0].start = kallsyms_address_or_0(&in->symbols, "_stext");
	code->text[0].end = kallsyms_address_or_0(&in->symbols, "_etext");
	code->text[1].start = kallsyms_address_or_0(&in->symbols, "_sinittext");
	code->text[1].end = kallsyms_address_or_0(&in->symbols, "_einittext");
	if (place && entry && place_end > place && (place_end - place) / 4 <= TABLE_MAX)
		code->table = (struct arch_unwind_table){
			.place_gva = place,
			.entry_gva = entry,
			.count = (uint32_t)((place_end - place) / 4),
		};
}

int code_open(const struct inspect *in, struct lacks *lacks, struct code **ret_code)
{
	struct code *code = calloc(1, sizeof(*code));
	int r = 0;

	if (!code)
		return -ENOMEM;
	code->in = in;
	code->symbols_left = SYMBOLS_ALL;
	find_image(code);
	if (in->types) {
		r = find_modules(code, lacks);
		if (r == 0)
			r = find_bpf(code, lacks);
	}
	if (r < 0) {
		code_free(code);
		return r;
	}
	if (code->count)
		qsort(code->pieces, code->count, sizeof(*code->pieces), by_start);
	*ret_code = code;
	return 0;
}

void code_free(struct code *code)
{
	if (!code)
		return;
	for (unsigned i = 0; i < code->count; i++)
		free(code->pieces[i].symbols);
	free(code->pieces);
	free(code->places);
	free(code->entries);
	free(code);
}

/* ---- a module's symbols ------------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Those in the module's text, from the table that its kallsyms are made of. */
static unsigned take_symbols(const struct space *s, const struct piece *piece, uint64_t table,
			     uint64_t count, struct symbol *to)
{
	Elf64_Sym some[64];
	unsigned taken = 0;

	for (uint64_t i = 0; i < count; i += ARRAY_SIZE(some)) {
		size_t n = MIN(count - i, ARRAY_SIZE(some));

		if (space_read(s, table + i * sizeof(*some), some, n * sizeof(*some)))
			break;
		for (size_t j = 0; j < n; j++) {
			if (!some[j].st_name || some[j].st_shndx == SHN_UNDEF ||
			    some[j].st_value - piece->start >= piece->size)
				continue;
			to[taken++] = (struct symbol){some[j].st_value, some[j].st_name};
		}
	}
	return taken;
}

static void read_symbols(struct code *code, struct piece *piece)
{
	const struct inspect *in = code->in;
	struct plan p = {.in = in};
	uint64_t at = piece->kallsyms_gva, symtab, count;
	uint64_t symtab_at = offset_of(&p, "mod_kallsyms.symtab"),
		 count_at = offset_of(&p, "mod_kallsyms.num_symtab"),
		 strings_at = offset_of(&p, "mod_kallsyms.strtab");

	piece->symbols_read = true;
	if (p.missing || !at || space_read_uint(&in->space, at + symtab_at, 8, &symtab) ||
	    space_read_uint(&in->space, at + count_at, 4, &count) ||
	    space_read_uint(&in->space, at + strings_at, 8, &piece->strings_gva) || !count ||
	    count > MIN(SYMBOLS_MAX, code->symbols_left))
		return;
	code->symbols_left -= (unsigned)count;
	/* Without memory it has no names. */
	piece->symbols = calloc(count, sizeof(*piece->symbols));
	if (!piece->symbols)
		return;
	piece->symbol_count = take_symbols(&in->space, piece, symtab, count, piece->symbols);
	if (piece->symbol_count)
		qsort(piece->symbols, piece->symbol_count, sizeof(*piece->symbols), by_address);
}

/* NULL: none before gva. */
static const struct symbol *find_symbol(struct code *code, struct piece *piece, uint64_t gva,
					uint64_t *ret_end)
{
	unsigned low = 0, high;

	if (!piece->symbols_read)
		read_symbols(code, piece);
	for (high = piece->symbol_count; low < high;) {
		unsigned mid = low + (high - low) / 2;

		if (piece->symbols[mid].start <= gva)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return NULL;
	*ret_end =
		low < piece->symbol_count ? piece->symbols[low].start : piece->start + piece->size;
	return &piece->symbols[low - 1];
}

/* ---- beforehand -------------------------------------------------------------------------- */

#define PLACE_BYTES 4u
#define ENTRY_BYTES 6u
#define COPY_MAX    (1u << 21) /* entries: four times what large kernels have */

/* NULL: out of memory; *ret_copied false: it can't be read. */
static uint8_t *copy(const struct code *code, uint64_t gva, size_t len, bool *ret_copied)
{
	uint8_t *bytes = malloc(len);

	*ret_copied = bytes && !space_read(&code->in->space, gva, bytes, len);
	return bytes;
}

int code_prepare(struct code *code, struct lacks *lacks)
{
	const struct arch_unwind_table *t = &code->table;
	bool places = true, entries = true;

	for (unsigned i = 0; i < code->count; i++)
		if (code->pieces[i].module && !code->pieces[i].symbols_read)
			read_symbols(code, &code->pieces[i]);
	if (!t->count || t->count > COPY_MAX || code->places)
		return 0;
	code->places = copy(code, t->place_gva, PLACE_BYTES * (size_t)t->count, &places);
	code->entries = copy(code, t->entry_gva, ENTRY_BYTES * (size_t)t->count, &entries);
	if (!code->places || !code->entries)
		return -ENOMEM;
	if (!places || !entries) {
		code->table.count = 0; /* no use to anybody */
		lacks_add(lacks, "__start_orc_unwind");
	}
	return 0;
}

static bool from_copy(const uint8_t *bytes, uint64_t start, uint64_t size, uint64_t gva, void *dst,
		      size_t len)
{
	if (gva < start || gva - start >= size || len > size - (gva - start))
		return false;
	memcpy(dst, bytes + (gva - start), len);
	return true;
}

int code_read(const struct code *code, uint64_t gva, void *dst, size_t len)
{
	const struct arch_unwind_table *t = &code->table;

	if (code->places && (from_copy(code->places, t->place_gva, PLACE_BYTES * (uint64_t)t->count,
				       gva, dst, len) ||
			     from_copy(code->entries, t->entry_gva,
				       ENTRY_BYTES * (uint64_t)t->count, gva, dst, len)))
		return 0;
	return space_read(&code->in->space, gva, dst, len);
}

/* ---- questions --------------------------------------------------------------------------- */

static bool in_image(const struct code *code, uint64_t gva)
{
	for (size_t i = 0; i < ARRAY_SIZE(code->text); i++)
		if (gva >= code->text[i].start && gva < code->text[i].end)
			return true;
	return false;
}

static struct piece *find_piece(const struct code *code, uint64_t gva)
{
	unsigned low = 0, high = code->count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (code->pieces[mid].start <= gva)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low || gva - code->pieces[low - 1].start >= code->pieces[low - 1].size)
		return NULL;
	return &code->pieces[low - 1];
}

bool code_is_known(const struct code *code, uint64_t gva)
{
	return in_image(code, gva) || find_piece(code, gva);
}

uint64_t code_function(struct code *code, uint64_t gva)
{
	struct kallsyms_hit hit;
	struct piece *piece;

	if (in_image(code, gva))
		return kallsyms_name(&code->in->symbols, gva, &hit) ? gva - hit.offset : gva;
	piece = find_piece(code, gva);
	if (piece && piece->module) {
		uint64_t end;
		const struct symbol *symbol = find_symbol(code, piece, gva, &end);

		if (symbol)
			return symbol->start;
	}
	return piece ? piece->start : 0;
}

bool code_table(const struct code *code, uint64_t gva, struct arch_unwind_table *ret_table)
{
	const struct piece *piece;

	if (in_image(code, gva)) {
		*ret_table = code->table;
	} else {
		piece = find_piece(code, gva);
		if (!piece)
			return false;
		*ret_table = piece->table;
	}
	return ret_table->count > 0;
}

/* gva: what is named; add: how far on what is printed lies. */
static void format_piece(struct code *code, struct piece *piece, uint64_t gva, uint64_t add,
			 char *buf, size_t len)
{
	const struct space *s = &code->in->space;
	char name[KALLSYMS_NAME_MAX] = "", owner[64] = "bpf";
	uint64_t start = piece->start, end = start + piece->size;

	if (piece->module) {
		const struct symbol *symbol = find_symbol(code, piece, gva, &end);

		if (space_read_text(s, piece->name_gva, owner, sizeof(owner)))
			owner[0] = '\0';
		if (symbol) {
			start = symbol->start;
			if (space_read_text(s, piece->strings_gva + symbol->name, name,
					    sizeof(name)))
				name[0] = '\0';
		}
	} else if (space_read_text(s, piece->name_gva, name, sizeof(name))) {
		name[0] = '\0';
	}
	if (name[0])
		snprintf(buf, len, "%s+0x%" PRIx64 "/0x%" PRIx64 " [%s]", name, gva + add - start,
			 end - start, owner);
	else
		snprintf(buf, len, "0x%" PRIx64 " [%s]", gva + add, owner);
}

void code_format(struct code *code, uint64_t gva, bool back, char *buf, size_t len)
{
	uint64_t in = back ? gva - 1 : gva;
	struct kallsyms_hit hit;
	struct piece *piece;

	if (in_image(code, in) && kallsyms_name(&code->in->symbols, in, &hit)) {
		snprintf(buf, len, "%s+0x%" PRIx64 "/0x%" PRIx64, hit.name, hit.offset + back,
			 hit.size);
		return;
	}
	piece = find_piece(code, in);
	if (piece)
		format_piece(code, piece, in, back, buf, len);
	else
		inspect_format(code->in, gva, buf, len);
}
