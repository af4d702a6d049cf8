/* The head of a core file, as one buffer: ELF header, segments, notes; and how long a core is, by
 * its head. Control thread. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "freeze/vmcore.h"

#define NOTE_ALIGN 4u

static const char core_name[] = "CORE", qemu_name[] = "QEMU", info_name[] = "VMCOREINFO";

static size_t note_len(size_t name_size, size_t desc_len)
{
	return sizeof(Elf64_Nhdr) + ALIGN_UP(name_size, NOTE_ALIGN) +
	       ALIGN_UP(desc_len, NOTE_ALIGN);
}

/* Returns what follows; the buffer is zeroed. */
static uint8_t *put_note(uint8_t *at, uint32_t type, const char *name, const void *desc, size_t len)
{
	size_t name_size = strlen(name) + 1;
	Elf64_Nhdr head = {.n_namesz = (uint32_t)name_size,
			   .n_descsz = (uint32_t)len,
			   .n_type = type};

	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), name, name_size);
	memcpy(at + sizeof(head) + ALIGN_UP(name_size, NOTE_ALIGN), desc, len);
	return at + note_len(name_size, len);
}

static uint8_t *put_segment(uint8_t *at, const Elf64_Phdr *segment)
{
	memcpy(at, segment, sizeof(*segment));
	return at + sizeof(*segment);
}

/* Where in the file the RAM at gpa is; 0: it is not all in one region. */
static uint64_t file_offset(const struct guest_memory *mem, const struct vmcore_head *h,
			    uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_range *r = &mem->region[i].range;

		if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
			return h->region_at[i] + (gpa - r->gpa);
	}
	return 0;
}

static void lay_out(const struct guest_memory *mem, struct vmcore_head *h)
{
	uint64_t at = h->len;

	for (unsigned i = 0; i < mem->count; i++) {
		h->region_at[i] = at;
		/* Below 2^52 in sum, so nothing overflows (guest/memory.c). */
		at = ALIGN_UP(at + mem->region[i].range.size, (uint64_t)VMCORE_ALIGN);
	}
	h->size = at;
}

static void put_elf(uint8_t *at, unsigned segments)
{
	Elf64_Ehdr elf = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
			    ELFOSABI_NONE},
		.e_type = ET_CORE,
		.e_machine = arch_elf_machine,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(elf),
		.e_ehsize = sizeof(elf),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (uint16_t)segments,
	};

	memcpy(at, &elf, sizeof(elf));
}

/* Theirs, kind by kind; returns what follows. */
static uint8_t *put_vcpus(uint8_t *note, const struct arch_vcpu_state *const *cpu, unsigned cpus)
{
	uint8_t status[ARCH_PRSTATUS_MAX], qemu[ARCH_QEMU_NOTE_MAX];

	for (unsigned i = 0; i < cpus; i++)
		/* Readers tell threads apart by this, and a host's 0 is nobody's. */
		if (cpu[i] && arch_vcpu_prstatus(cpu[i], i + 1, status))
			note = put_note(note, NT_PRSTATUS, core_name, status, arch_prstatus_size);
	for (unsigned i = 0; i < cpus && arch_qemu_note_size; i++) {
		if (!cpu[i] || !arch_vcpu_prstatus(cpu[i], i + 1, status))
			continue;
		arch_vcpu_qemu_note(cpu[i], qemu);
		note = put_note(note, 0, qemu_name, qemu, arch_qemu_note_size);
	}
	return note;
}

int vmcore_head_make(const struct guest_memory *mem, const struct arch_vcpu_state *const *cpu,
		     unsigned cpus, const struct vmcore_kernel *k, struct vmcore_head *ret_head)
{
	unsigned segments = mem->count + 1 + (k->text_len ? 1 : 0);
	size_t notes_at = sizeof(Elf64_Ehdr) + segments * sizeof(Elf64_Phdr);
	size_t notes_max = cpus * (note_len(sizeof(core_name), arch_prstatus_size) +
				   note_len(sizeof(qemu_name), arch_qemu_note_size)) +
			   (k->info ? note_len(sizeof(info_name), k->info_len) : 0);
	struct vmcore_head h = {.len = ALIGN_UP(notes_at + notes_max, (size_t)VMCORE_ALIGN)};
	uint8_t *note, *segment;
	Elf64_Phdr notes = {.p_type = PT_NOTE, .p_offset = notes_at};
	Elf64_Phdr text = {.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X};

	_Static_assert(GUEST_MAX_REGIONS + 2 < PN_XNUM, "segments are counted in 16 bits");
	h.data = aligned_alloc(VMCORE_ALIGN, h.len);
	if (!h.data)
		return -ENOMEM;
	memset(h.data, 0, h.len);
	lay_out(mem, &h);
	note = put_vcpus(h.data + notes_at, cpu, cpus);
	if (k->info)
		note = put_note(note, 0, info_name, k->info, k->info_len);
	notes.p_filesz = notes.p_memsz = (uint64_t)(note - h.data) - notes_at;

	segment = put_segment(h.data + sizeof(Elf64_Ehdr), &notes);
	if (k->text_len) {
		text.p_offset = file_offset(mem, &h, k->text_gpa, k->text_len);
		text.p_vaddr = k->text_gva;
		text.p_paddr = k->text_gpa;
		text.p_filesz = text.p_memsz = text.p_offset ? k->text_len : 0;
		if (!text.p_offset)
			segments--;
		else
			segment = put_segment(segment, &text);
	}
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_range *r = &mem->region[i].range;
		Elf64_Phdr ram = {
			.p_type = PT_LOAD,
			.p_flags = PF_R | PF_W | PF_X,
			.p_offset = h.region_at[i],
			.p_vaddr = k->has_direct ? k->direct + r->gpa : 0,
			.p_paddr = r->gpa,
			.p_filesz = r->size,
			.p_memsz = r->size,
		};

		segment = put_segment(segment, &ram);
	}
	put_elf(h.data, segments);
	*ret_head = h;
	return 0;
}

void vmcore_head_raw(const struct guest_memory *mem, struct vmcore_head *ret_head)
{
	struct vmcore_head head = {0};

	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_range *range = &mem->region[i].range;

		head.region_at[i] = range->gpa;
		head.size = range->gpa + range->size;
	}
	*ret_head = head;
}

void vmcore_head_done(struct vmcore_head *head)
{
	free(head->data);
	*head = (struct vmcore_head){0};
}

int vmcore_length(int fd, uint64_t *ret_len)
{
	Elf64_Ehdr elf;
	uint64_t len = 0;

	if (pread(fd, &elf, sizeof(elf), 0) != sizeof(elf) ||
	    memcmp(elf.e_ident, ELFMAG, SELFMAG) || elf.e_type != ET_CORE ||
	    elf.e_phoff != sizeof(elf) || elf.e_phentsize != sizeof(Elf64_Phdr))
		return -ENODATA;
	for (unsigned i = 0; i < elf.e_phnum; i++) {
		Elf64_Phdr ph;
		uint64_t end;

		if (pread(fd, &ph, sizeof(ph), (off_t)(elf.e_phoff + i * sizeof(ph))) !=
			    sizeof(ph) ||
		    __builtin_add_overflow(ph.p_offset, ph.p_filesz, &end))
			return -ENODATA;
		len = MAX(len, end);
	}
	*ret_len = len;
	return 0;
}
