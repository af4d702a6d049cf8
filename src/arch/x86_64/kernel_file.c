/* What an x86 kernel file says of itself, before it is loaded
 * (Documentation/arch/x86/boot.rst, the real-mode kernel header). Any thread. */
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/util.h"

#define SETUP_MAGIC_AT	 0x202 /* "HdrS" */
#define SETUP_VERSION_AT 0x20E /* u16: offset of the version text, less 0x200 */
#define HEAD_LEN	 0x8000

const char *const arch_kernel_in_tree[] = {"arch/x86/boot/bzImage", "vmlinux", NULL};

/* Reads the file's first bytes, at most HEAD_LEN; returns how many. */
static size_t read_head(const char *path, uint8_t *head)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : fd_read_all(fd, head, HEAD_LEN);

	return n < 0 ? 0 : (size_t)n;
}

static bool is_bzimage(const uint8_t *head, size_t len)
{
	return len > SETUP_VERSION_AT + 2 && !memcmp(head + SETUP_MAGIC_AT, "HdrS", 4);
}

bool arch_kernel_fits(const char *path)
{
	CLEANUP_FREE uint8_t *head = malloc(HEAD_LEN);
	size_t len = head ? read_head(path, head) : 0;
	Elf64_Ehdr elf;

	if (is_bzimage(head, len))
		return true;
	if (len < sizeof(elf))
		return false;
	memcpy(&elf, head, sizeof(elf));
	return !memcmp(elf.e_ident, ELFMAG, SELFMAG) && elf.e_machine == EM_X86_64;
}

char *arch_kernel_release(const char *path)
{
	CLEANUP_FREE uint8_t *head = malloc(HEAD_LEN);
	size_t len = head ? read_head(path, head) : 0;
	const char *text;
	uint16_t at;
	size_t room;

	if (!is_bzimage(head, len))
		return NULL;
	memcpy(&at, head + SETUP_VERSION_AT, sizeof(at));
	/* "6.12.117+deb12-cloud-amd64 (builder) #1 SMP …": the first word. */
	if (at == 0 || (size_t)at + 0x200 >= len)
		return NULL;
	text = (const char *)head + at + 0x200;
	room = MIN(len - at - 0x200, 128);
	for (size_t i = 0; i < room; i++) {
		if (text[i] == ' ' || text[i] == '\0')
			return i ? strndup(text, i) : NULL;
		/* It is printed, and names a folder of modules. */
		if (text[i] <= ' ' || text[i] > '~' || text[i] == '/')
			return NULL;
	}
	return NULL;
}
