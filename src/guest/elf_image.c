/* ELF64 (System V ABI, gABI chapters 4 and 5), read defensively. Any thread. */
#include "guest/elf_image.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STRING_MAX  4096
#define DYNAMIC_MAX MIB(1)

/* The linker puts this over the program's own ELF header. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

uint16_t elf_image_own_machine(void)
{
	return __ehdr_start.e_machine;
}

static int read_exactly(int fd, void *data, size_t len, uint64_t offset)
{
	uint8_t *p = data;

	if (offset > INT64_MAX - len)
		return -EBADMSG;
	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static bool is_elf64(const unsigned char *ident)
{
	return memcmp(ident, ELFMAG, SELFMAG) == 0 && ident[EI_CLASS] == ELFCLASS64 &&
	       ident[EI_DATA] == ELFDATA2LSB;
}

uint16_t elf_image_machine_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	Elf64_Ehdr header;
	uint16_t machine = 0;

	if (fd < 0)
		return 0;
	if (read_exactly(fd, &header, sizeof(header), 0) == 0 && is_elf64(header.e_ident))
		machine = le16toh(header.e_machine);
	close(fd);
	return machine;
}

/* A string of at most max bytes with its NUL, at offset. */
static int read_string(int fd, uint64_t offset, uint64_t max, char **ret_text)
{
	char text[STRING_MAX];
	ssize_t n;
	size_t len;
	char *copy;

	max = MIN(max, sizeof(text));
	if (max == 0 || offset > INT64_MAX - sizeof(text))
		return -EBADMSG;
	do {
		n = pread(fd, text, (size_t)max, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	len = strnlen(text, (size_t)n);
	if (len == (size_t)n)
		return -EBADMSG;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*ret_text);
	*ret_text = copy;
	return 0;
}

/* The bytes of the file from the one that is loaded at address to the end of its segment. */
static bool file_offset(const Elf64_Phdr *phdrs, size_t count, uint64_t address,
			uint64_t *ret_offset, uint64_t *ret_rest)
{
	for (size_t i = 0; i < count; i++) {
		const Elf64_Phdr *p = &phdrs[i];
		uint64_t at = address - p->p_vaddr;

		if (p->p_type != PT_LOAD || address < p->p_vaddr || at >= p->p_filesz)
			continue;
		if (__builtin_add_overflow(p->p_offset, at, ret_offset))
			return false;
		*ret_rest = p->p_filesz - at;
		return true;
	}
	return false;
}

struct strings {
	int fd;
	uint64_t offset, size;
};

static int dynamic_string(const struct strings *s, uint64_t at, char **ret_text)
{
	if (at >= s->size || s->offset > UINT64_MAX - at)
		return -EBADMSG;
	return read_string(s->fd, s->offset + at, s->size - at, ret_text);
}

static int add_needed(struct elf_image *image, const struct strings *s, uint64_t at)
{
	char **bigger;
	int r;

	if (image->needed_count == ELF_NEEDED_MAX)
		return -EBADMSG;
	bigger = realloc(image->needed, (image->needed_count + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	image->needed = bigger;
	bigger[image->needed_count] = NULL;
	r = dynamic_string(s, at, &bigger[image->needed_count]);
	if (r == 0)
		image->needed_count++;
	return r;
}

static int read_dynamic(int fd, const Elf64_Phdr *phdrs, size_t phnum, const Elf64_Phdr *dynamic,
			struct elf_image *image)
{
	size_t count = (size_t)MIN(dynamic->p_filesz, DYNAMIC_MAX) / sizeof(Elf64_Dyn);
	struct strings s = {.fd = fd};
	uint64_t address = 0, size = UINT64_MAX, rest;
	bool has_address = false;
	Elf64_Dyn *dyn;
	int r;

	if (dynamic->p_filesz > DYNAMIC_MAX)
		return -EBADMSG;
	dyn = calloc(count + 1, sizeof(*dyn));
	if (!dyn)
		return -ENOMEM;
	r = read_exactly(fd, dyn, count * sizeof(*dyn), dynamic->p_offset);
	if (r < 0)
		goto out;
	for (size_t i = 0; i < count; i++) {
		if (dyn[i].d_tag == DT_NULL) {
			count = i;
			break;
		}
		if (dyn[i].d_tag == DT_STRTAB) {
			address = dyn[i].d_un.d_ptr;
			has_address = true;
		}
		if (dyn[i].d_tag == DT_STRSZ)
			size = dyn[i].d_un.d_val;
		if (dyn[i].d_tag == DT_FLAGS_1 && dyn[i].d_un.d_val & DF_1_NODEFLIB)
			image->no_default = true;
	}
	if (has_address && file_offset(phdrs, phnum, address, &s.offset, &rest))
		s.size = MIN(size, rest);
	for (size_t i = 0; i < count && r == 0; i++) {
		uint64_t at = dyn[i].d_un.d_val;

		switch (dyn[i].d_tag) {
		case DT_NEEDED:
			r = add_needed(image, &s, at);
			break;
		case DT_SONAME:
			r = dynamic_string(&s, at, &image->soname);
			break;
		case DT_RPATH:
			r = dynamic_string(&s, at, &image->rpath);
			break;
		case DT_RUNPATH:
			r = dynamic_string(&s, at, &image->runpath);
			break;
		default:
			break;
		}
	}
out:
	free(dyn);
	return r;
}

int elf_image_read(int fd, struct elf_image *ret_image)
{
	struct elf_image image = {0};
	Elf64_Phdr *phdrs = NULL;
	Elf64_Ehdr ehdr;
	int r;

	r = read_exactly(fd, &ehdr, sizeof(ehdr), 0);
	if (r == -EBADMSG || (r == 0 && !is_elf64(ehdr.e_ident)))
		return -ENOEXEC;
	if (r < 0)
		return r;
	image.machine = ehdr.e_machine;
	if (ehdr.e_phnum && ehdr.e_phentsize != sizeof(*phdrs))
		return -EBADMSG;
	phdrs = calloc((size_t)ehdr.e_phnum + 1, sizeof(*phdrs));
	if (!phdrs)
		return -ENOMEM;
	r = read_exactly(fd, phdrs, ehdr.e_phnum * sizeof(*phdrs), ehdr.e_phoff);
	for (size_t i = 0; i < ehdr.e_phnum && r == 0; i++) {
		if (phdrs[i].p_type == PT_INTERP)
			r = read_string(fd, phdrs[i].p_offset, phdrs[i].p_filesz, &image.interp);
		else if (phdrs[i].p_type == PT_DYNAMIC)
			r = read_dynamic(fd, phdrs, ehdr.e_phnum, &phdrs[i], &image);
	}
	free(phdrs);
	if (r < 0) {
		elf_image_done(&image);
		return r;
	}
	*ret_image = image;
	return 0;
}

void elf_image_done(struct elf_image *image)
{
	for (size_t i = 0; i < image->needed_count; i++)
		free(image->needed[i]);
	free(image->needed);
	free(image->interp);
	free(image->soname);
	free(image->rpath);
	free(image->runpath);
	*image = (struct elf_image){0};
}

/* [offset, offset + size) lies within len. */
static bool inside(uint64_t offset, uint64_t size, size_t len)
{
	return offset <= len && size <= len - offset;
}

static void section_header(const uint8_t *data, const Elf64_Ehdr *ehdr, uint64_t i,
			   Elf64_Shdr *ret_header)
{
	memcpy(ret_header, data + ehdr->e_shoff + i * sizeof(*ret_header), sizeof(*ret_header));
}

int elf_image_section(const uint8_t *data, size_t len, const char *name, const uint8_t **ret_data,
		      size_t *ret_len)
{
	Elf64_Ehdr ehdr;
	Elf64_Shdr names, s;

	if (len < sizeof(ehdr))
		return -ENOEXEC;
	memcpy(&ehdr, data, sizeof(ehdr));
	if (!is_elf64(ehdr.e_ident))
		return -ENOEXEC;
	if (ehdr.e_shnum == 0)
		return -ENOENT;
	if (ehdr.e_shentsize != sizeof(s) || ehdr.e_shstrndx >= ehdr.e_shnum ||
	    !inside(ehdr.e_shoff, ehdr.e_shnum * sizeof(s), len))
		return -EBADMSG;
	section_header(data, &ehdr, ehdr.e_shstrndx, &names);
	if (!inside(names.sh_offset, names.sh_size, len))
		return -EBADMSG;
	for (uint64_t i = 1; i < ehdr.e_shnum; i++) {
		size_t name_size = strlen(name) + 1;

		section_header(data, &ehdr, i, &s);
		if (!inside(s.sh_name, name_size, (size_t)names.sh_size) ||
		    memcmp(data + names.sh_offset + s.sh_name, name, name_size) != 0)
			continue;
		if (s.sh_type == SHT_NOBITS || !inside(s.sh_offset, s.sh_size, len))
			return -EBADMSG;
		*ret_data = data + s.sh_offset;
		*ret_len = (size_t)s.sh_size;
		return 0;
	}
	return -ENOENT;
}
