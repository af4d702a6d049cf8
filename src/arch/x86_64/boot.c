/* Loads a kernel: bzImage by its 64-bit entry (Documentation/arch/x86/boot.rst), or an ELF vmlinux
 * by its PVH note (Xen, docs/misc/pvh). The file is hostile. Control thread. */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "arch/x86_64/machine.h"

#define SETUP_HEADER_AT	  0x1F1
#define SETUP_MAGIC_AT	  0x202
#define SETUP_VERSION_MIN 0x020C /* xloadflags */
#define ENTRY_AT	  0x200ull
#define LOADER_UNDEFINED  0xFF
#define ELF_CMDLINE_MAX	  2048 /* bytes, with the NUL: COMMAND_LINE_SIZE of x86 */
#define PVH_NOTE_TYPE	  18   /* XEN_ELFNOTE_PHYS32_ENTRY */
#define PVH_MAGIC	  0x336ec578
#define ELF_SEGMENTS_MAX  64

/* Xen, public/arch-x86/hvm/start_info.h, version 1. */
struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_gpa, cmdline_gpa, rsdp_gpa, memmap_gpa;
	uint32_t memmap_entries, reserved;
};
struct pvh_module {
	uint64_t gpa, size, cmdline_gpa, reserved;
};
struct pvh_memmap {
	uint64_t gpa, size;
	uint32_t type, reserved;
};

/* earlycon: early panics are seen. panic=-1, reboot=k: a panic ends in a reset at once, through the
 * i8042. tsc=reliable, no_timer_check: there is nothing to calibrate against. pci=off: no bridge.
 * i8042.*: the FADT says that there is no keyboard; a kernel without ACPI shall not look long. */
#define CMDLINE                                                                                    \
	"console=ttyS0 earlycon=uart8250,io,0x3f8,115200 panic=-1 reboot=k tsc=reliable "          \
	"no_timer_check pci=off random.trust_cpu=on i8042.noaux i8042.nomux i8042.dumbkbd "

const char *arch_cmdline(bool verbose)
{
	return verbose ? CMDLINE "loglevel=7" : CMDLINE "quiet loglevel=4";
}

/* End of the RAM that begins at 1 MiB, or 0. */
static uint64_t low_ram_end(const struct guest_memory *mem)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_range *range = &mem->region[i].range;

		/* Nodes follow one another without a gap below the hole. */
		if (range->gpa == end && range->gpa < HOLE_GPA)
			end = range->gpa + range->size;
	}
	return end;
}

int arch_initrd_place(struct arch_vm *vm, uint64_t len, uint64_t *ret_gpa, struct error *err)
{
	/* initrd_addr_max is 0x7fffffff in every kernel of this protocol version. */
	uint64_t end = MIN(low_ram_end(vm->mem), 0x80000000ull);
	uint64_t rounded = len <= end ? ALIGN_UP(len, 4096) : end;

	if (len > end || end < HIGH_GPA || rounded > end - HIGH_GPA)
		return error_usage(
			err,
			"the initramfs (%llu KiB) does not fit into the guest's memory (%llu "
			"KiB are there for it and the kernel); give more with -m",
			(unsigned long long)(len >> 10), (unsigned long long)(end >> 10));
	vm->initrd_gpa = *ret_gpa = ALIGN_DOWN(end - rounded, 4096);
	vm->initrd_len = len;
	return 0;
}

unsigned memory_map(const struct guest_memory *mem, struct map_entry map[MAP_MAX])
{
	unsigned n = 0;

	map[n++] = (struct map_entry){0, EBDA_GPA, 1};
	map[n++] = (struct map_entry){EBDA_GPA, HIGH_GPA - EBDA_GPA, 2};
	for (unsigned i = 0; i < mem->count; i++) {
		uint64_t gpa = MAX(mem->region[i].range.gpa, (uint64_t)HIGH_GPA);
		uint64_t end = mem->region[i].range.gpa + mem->region[i].range.size;

		if (gpa < end)
			map[n++] = (struct map_entry){gpa, end - gpa, 1};
	}
	return n;
}

/* What both ways of booting need in memory: tables, command line, descriptor tables, paging. */
static int write_common(struct arch_vm *vm, const struct arch_boot *boot, uint64_t *ret_rsdp,
			struct error *err)
{
	static const uint64_t gdt[5] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff,
					0x00008b0000000067};
	uint64_t tables[3 * 512] = {PAGE_TABLES_GPA + 0x1003};
	size_t cmdline_len = strlen(boot->cmdline) + 1;
	struct guest_layout layout = {0};
	struct acpi_tables acpi = {0};
	int r;

	if (cmdline_len > CMDLINE_MAX)
		return error_usage(err, "the kernel's command line is %zu bytes; %d are accepted",
				   cmdline_len - 1, CMDLINE_MAX - 1);
	tables[512] = PAGE_TABLES_GPA + 0x2003;
	for (uint64_t i = 0; i < 512; i++)
		tables[1024 + i] = i << 21 | 0x83; /* present, writable, 2 MiB */
	for (unsigned i = 0; i < vm->mem->count; i++)
		layout.range[layout.count++] = vm->mem->region[i].range;
	r = acpi_build(vm->topology, &layout, boot->slots, boot->slot_count, ACPI_GPA, &acpi, err);
	if (r < 0)
		return r;
	if (acpi.len > VMGENID_GPA - ACPI_GPA)
		r = -ENOSPC;
	if (r == 0)
		r = guest_write(vm->mem, ACPI_GPA, acpi.data, acpi.len);
	if (r == 0)
		r = guest_write(vm->mem, CMDLINE_GPA, boot->cmdline, cmdline_len);
	if (r == 0)
		r = guest_write(vm->mem, GDT_GPA, gdt, sizeof(gdt));
	if (r == 0)
		r = guest_write(vm->mem, PAGE_TABLES_GPA, tables, sizeof(tables));
	*ret_rsdp = acpi.rsdp_gpa;
	acpi_done(&acpi);
	return r < 0 ? error_set(err, r, "writing the firmware tables") : 0;
}

static int too_small(const struct arch_vm *vm, const struct arch_boot *boot, uint64_t end,
		     struct error *err)
{
	return error_usage(
		err, "%s needs %llu MiB of memory%s, the guest has %llu MiB; give more with -m",
		boot->kernel_name, (unsigned long long)(end >> 20) + 1,
		vm->initrd_len ? " below its initramfs" : "",
		(unsigned long long)(topology_memory(vm->topology) >> 20));
}

/* ---- bzImage ------------------------------------------------------------------------------ */

static bool is_bzimage(const struct arch_boot *boot)
{
	return boot->kernel_len >= SETUP_MAGIC_AT + 4 &&
	       !memcmp(boot->kernel + SETUP_MAGIC_AT, "HdrS", 4);
}

static int load_bzimage(struct arch_vm *vm, const struct arch_boot *boot, struct error *err)
{
	struct boot_params params = {0};
	struct setup_header *hdr = &params.hdr;
	struct map_entry map[MAP_MAX];
	uint64_t setup_len, body_len, end, rsdp_gpa;
	size_t hdr_len;
	unsigned entries;
	int r;

	if (boot->kernel_len < SETUP_HEADER_AT + sizeof(*hdr))
		return error_usage(err, "%s: a truncated bzImage, %zu bytes", boot->kernel_name,
				   boot->kernel_len);
	/* The header ends where its jump leads to (boot.rst, "jump"); past it is code. */
	hdr_len = 0x202u + boot->kernel[0x201] - SETUP_HEADER_AT;
	memcpy(hdr, boot->kernel + SETUP_HEADER_AT, MIN(hdr_len, sizeof(*hdr)));
	if (hdr->boot_flag != 0xAA55 || hdr->version < SETUP_VERSION_MIN ||
	    !(hdr->loadflags & LOADED_HIGH))
		return error_usage(err, "%s: boot protocol %u.%02u, 2.12 (Linux 3.8) is needed",
				   boot->kernel_name, hdr->version >> 8, hdr->version & 0xff);
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return error_usage(err, "%s: a 32-bit kernel; a 64-bit one is needed",
				   boot->kernel_name);
	setup_len = ((hdr->setup_sects ?: 4) + 1ull) * 512;
	body_len = (uint64_t)hdr->syssize * 16;
	/* The entry is at 200h of the body (boot.rst, "64-bit boot protocol"). */
	if (setup_len + MAX(body_len, ENTRY_AT + 1) > boot->kernel_len)
		return error_usage(err, "%s: a truncated bzImage, %zu bytes of %llu",
				   boot->kernel_name, boot->kernel_len,
				   (unsigned long long)(setup_len + body_len));
	body_len = boot->kernel_len - setup_len;
	/* Where it unpacks itself to, without KASLR, and what it needs there. */
	if (__builtin_add_overflow(MAX(hdr->pref_address, (uint64_t)HIGH_GPA), hdr->init_size,
				   &end))
		end = UINT64_MAX;
	end = MAX(end, HIGH_GPA + body_len);
	if (end > (vm->initrd_len ? vm->initrd_gpa : low_ram_end(vm->mem)))
		return too_small(vm, boot, end, err);
	if (vm->initrd_len && vm->initrd_gpa + vm->initrd_len - 1 > hdr->initrd_addr_max)
		return error_usage(err,
				   "%s takes an initramfs up to %#x only, this one ends at %#llx",
				   boot->kernel_name, hdr->initrd_addr_max,
				   (unsigned long long)(vm->initrd_gpa + vm->initrd_len - 1));
	if (strlen(boot->cmdline) > hdr->cmdline_size)
		return error_usage(err, "%s takes a command line of %u bytes, this one has %zu",
				   boot->kernel_name, hdr->cmdline_size, strlen(boot->cmdline));
	r = write_common(vm, boot, &rsdp_gpa, err);
	if (r < 0)
		return r;

	entries = memory_map(vm->mem, map);
	if (entries > E820_MAX_ENTRIES_ZEROPAGE)
		return error_contention(err, "more memory ranges than the boot parameters hold");
	for (unsigned i = 0; i < entries; i++)
		params.e820_table[i] = (struct boot_e820_entry){.addr = map[i].gpa,
								.size = map[i].size,
								.type = map[i].type};
	params.e820_entries = (uint8_t)entries;
	params.acpi_rsdp_addr = rsdp_gpa;
	hdr->type_of_loader = LOADER_UNDEFINED;
	hdr->cmd_line_ptr = CMDLINE_GPA;
	hdr->setup_data = 0;
	hdr->ramdisk_image = (uint32_t)vm->initrd_gpa;
	hdr->ramdisk_size = (uint32_t)vm->initrd_len;
	r = guest_write(vm->mem, BOOT_PARAMS_GPA, &params, sizeof(params));
	if (r == 0)
		r = guest_write(vm->mem, HIGH_GPA, boot->kernel + setup_len, body_len);
	if (r < 0)
		return error_set(err, r, "loading %s", boot->kernel_name);
	vm->entry = (struct cpu_entry){.long_mode = true,
				       .rip = HIGH_GPA + ENTRY_AT,
				       .params_gpa = BOOT_PARAMS_GPA};
	return 0;
}

/* ---- ELF with a PVH note ------------------------------------------------------------------ */

/* The bytes [at, at + len) of the file, or NULL. */
static const void *file_part(const struct arch_boot *boot, uint64_t at, uint64_t len)
{
	if (at > boot->kernel_len || len > boot->kernel_len - at)
		return NULL;
	return boot->kernel + at;
}

/* Looks through one PT_NOTE segment for the 32-bit entry. */
static bool find_note(const uint8_t *notes, uint64_t len, uint32_t *ret_entry)
{
	Elf64_Nhdr note;

	while (len >= sizeof(note)) {
		uint64_t name_len, desc_len;

		memcpy(&note, notes, sizeof(note));
		name_len = ALIGN_UP((uint64_t)note.n_namesz, 4);
		desc_len = ALIGN_UP((uint64_t)note.n_descsz, 4);
		notes += sizeof(note);
		len -= sizeof(note);
		if (name_len > len || desc_len > len - name_len)
			return false;
		if (note.n_type == PVH_NOTE_TYPE && note.n_namesz == 4 &&
		    !memcmp(notes, "Xen", 4) && note.n_descsz >= 4) {
			memcpy(ret_entry, notes + name_len, sizeof(*ret_entry));
			return true;
		}
		notes += name_len + desc_len;
		len -= name_len + desc_len;
	}
	return false;
}

static int load_segment(struct arch_vm *vm, const struct arch_boot *boot, const Elf64_Phdr *ph,
			struct error *err)
{
	const void *data = file_part(boot, ph->p_offset, ph->p_filesz);
	uint64_t limit = vm->initrd_len ? vm->initrd_gpa : low_ram_end(vm->mem);
	uint64_t end;
	uint8_t *to;

	if (!data || ph->p_filesz > ph->p_memsz)
		return error_usage(err, "%s: a truncated ELF file", boot->kernel_name);
	if (ph->p_memsz == 0)
		return 0;
	if (__builtin_add_overflow(ph->p_paddr, ph->p_memsz, &end) || ph->p_paddr < HIGH_GPA)
		return error_usage(err,
				   "%s: a segment at physical address %#llx, below 1 MiB or past "
				   "the end",
				   boot->kernel_name, (unsigned long long)ph->p_paddr);
	to = end <= limit ? guest_ptr(vm->mem, ph->p_paddr, ph->p_memsz) : NULL;
	if (!to)
		return too_small(vm, boot, end, err);
	memcpy(to, data, ph->p_filesz);
	memset(to + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
	return 0;
}

static int write_start_info(struct arch_vm *vm, uint64_t rsdp_gpa, struct error *err)
{
	struct {
		struct pvh_start_info info;
		struct pvh_module module;
		struct pvh_memmap map[MAP_MAX];
	} start = {0};
	struct map_entry map[MAP_MAX];
	unsigned entries = memory_map(vm->mem, map);
	int r;

	start.info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = 1,
		.nr_modules = vm->initrd_len ? 1 : 0,
		.modlist_gpa = vm->initrd_len ? BOOT_PARAMS_GPA + sizeof(start.info) : 0,
		.cmdline_gpa = CMDLINE_GPA,
		.rsdp_gpa = rsdp_gpa,
		.memmap_gpa = BOOT_PARAMS_GPA + sizeof(start.info) + sizeof(start.module),
		.memmap_entries = entries,
	};
	start.module = (struct pvh_module){.gpa = vm->initrd_gpa, .size = vm->initrd_len};
	for (unsigned i = 0; i < entries; i++)
		start.map[i] = (struct pvh_memmap){.gpa = map[i].gpa,
						   .size = map[i].size,
						   .type = map[i].type};
	_Static_assert(sizeof(start) <= PAGE_TABLES_GPA - BOOT_PARAMS_GPA, "room for start info");
	r = guest_write(vm->mem, BOOT_PARAMS_GPA, &start, sizeof(start));
	return r < 0 ? error_set(err, r, "writing the start info") : 0;
}

static int not_vmlinux(const struct arch_boot *boot, const char *why, struct error *err)
{
	return error_usage(err, "%s: an ELF file %s", boot->kernel_name, why);
}

static Elf64_Phdr program_header(const uint8_t *headers, unsigned i)
{
	Elf64_Phdr ph;

	memcpy(&ph, headers + i * sizeof(ph), sizeof(ph));
	return ph;
}

/* The entry by the PVH note, before anything is loaded: other ELF files have none. */
static int find_entry(const struct arch_boot *boot, const uint8_t *headers, unsigned n,
		      uint32_t *ret_entry, struct error *err)
{
	uint32_t entry = 0;
	bool found = false, inside = false;

	for (unsigned i = 0; i < n && !found; i++) {
		Elf64_Phdr ph = program_header(headers, i);
		const uint8_t *notes =
			ph.p_type == PT_NOTE ? file_part(boot, ph.p_offset, ph.p_filesz) : NULL;

		found = notes && find_note(notes, ph.p_filesz, &entry);
	}
	if (!found)
		return not_vmlinux(boot,
				   "without a PVH note; a vmlinux needs CONFIG_PVH, or use its "
				   "bzImage",
				   err);
	for (unsigned i = 0; i < n; i++) {
		Elf64_Phdr ph = program_header(headers, i);

		inside |= ph.p_type == PT_LOAD && entry >= ph.p_paddr &&
			  entry - ph.p_paddr < ph.p_filesz;
	}
	if (!inside)
		return not_vmlinux(boot, "whose PVH note leads outside of it", err);
	*ret_entry = entry;
	return 0;
}

static int load_elf(struct arch_vm *vm, const struct arch_boot *boot, struct error *err)
{
	const uint8_t *headers;
	uint32_t entry = 0;
	uint64_t rsdp_gpa;
	Elf64_Ehdr elf;
	int r;

	if (boot->kernel_len < sizeof(elf))
		return not_vmlinux(boot, "that is truncated", err);
	memcpy(&elf, boot->kernel, sizeof(elf));
	if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_ident[EI_DATA] != ELFDATA2LSB ||
	    elf.e_machine != EM_X86_64)
		return not_vmlinux(boot, "of another machine; x86-64 is needed", err);
	headers = file_part(boot, elf.e_phoff, (uint64_t)elf.e_phnum * sizeof(Elf64_Phdr));
	if (!headers)
		return not_vmlinux(boot, "that is truncated", err);
	/* A vmlinux has five. Each costs a copy up to the guest's size, so they are bounded. */
	if (elf.e_phnum == 0 || elf.e_phnum > ELF_SEGMENTS_MAX ||
	    elf.e_phentsize != sizeof(Elf64_Phdr))
		return not_vmlinux(boot, "without a kernel's program headers", err);
	/* A bzImage says how much it takes; a vmlinux would cut the rest off in silence. */
	if (strlen(boot->cmdline) >= ELF_CMDLINE_MAX)
		return error_usage(err, "%s takes a command line of %d bytes, this one has %zu",
				   boot->kernel_name, ELF_CMDLINE_MAX - 1, strlen(boot->cmdline));
	r = find_entry(boot, headers, elf.e_phnum, &entry, err);
	if (r == 0)
		r = write_common(vm, boot, &rsdp_gpa, err);
	for (unsigned i = 0; r == 0 && i < elf.e_phnum; i++) {
		Elf64_Phdr ph = program_header(headers, i);

		if (ph.p_type == PT_LOAD)
			r = load_segment(vm, boot, &ph, err);
	}
	if (r == 0)
		r = write_start_info(vm, rsdp_gpa, err);
	if (r < 0)
		return r;
	vm->entry = (struct cpu_entry){.rip = entry, .params_gpa = BOOT_PARAMS_GPA};
	return 0;
}

/* ---- what else a file may be -------------------------------------------------------------- */

static bool is_text(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < MIN(len, (size_t)256); i++)
		if ((data[i] < ' ' && data[i] != '\n' && data[i] != '\t' && data[i] != '\r') ||
		    data[i] == 0x7f)
			return false;
	return true;
}

static int not_a_kernel(const struct arch_boot *boot, struct error *err)
{
	/* arm64: Documentation/arch/arm64/booting.rst. zboot: drivers/firmware/efi/libstub. */
	static const struct {
		size_t at, len;
		const char *magic, *what;
	} kinds[] = {
		{56, 4, "ARM\x64", "a kernel for arm64; one for x86-64 is needed"},
		{4, 4, "zimg", "an EFI-compressed kernel; a bzImage is needed"},
		{0, 2, "\x1f\x8b", "a gzip file, not a kernel; unpack it first"},
		{0, 6,
		 "\xfd"
		 "7zXZ",
		 "an xz file, not a kernel; unpack it first"},
		{0, 4, "\x28\xb5\x2f\xfd", "a zstd file, not a kernel; unpack it first"},
		{0, 4, "\x02\x21\x4c\x18", "an LZ4 file, not a kernel; unpack it first"},
	};

	if (boot->kernel_len == 0)
		return error_usage(err, "%s: an empty file, not a kernel", boot->kernel_name);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (boot->kernel_len >= kinds[i].at + kinds[i].len &&
		    !memcmp(boot->kernel + kinds[i].at, kinds[i].magic, kinds[i].len))
			return error_usage(err, "%s: %s", boot->kernel_name, kinds[i].what);
	if (is_text(boot->kernel, boot->kernel_len))
		return error_usage(err, "%s: a text file, not a kernel", boot->kernel_name);
	if (boot->kernel_len < SETUP_MAGIC_AT + 4)
		return error_usage(err, "%s: %zu bytes are too few for a kernel", boot->kernel_name,
				   boot->kernel_len);
	return error_usage(err, "%s: not a kernel: neither a bzImage nor an ELF file",
			   boot->kernel_name);
}

int arch_boot_load(struct arch_vm *vm, const struct arch_boot *boot, struct error *err)
{
	if (!guest_ptr(vm->mem, 0, HIGH_GPA + 4096))
		return error_usage(err,
				   "a guest needs more than 1 MiB of memory; give more with -m");
	if (boot->kernel_len >= SELFMAG && !memcmp(boot->kernel, ELFMAG, SELFMAG))
		return load_elf(vm, boot, err);
	if (is_bzimage(boot))
		return load_bzimage(vm, boot, err);
	return not_a_kernel(boot, err);
}
