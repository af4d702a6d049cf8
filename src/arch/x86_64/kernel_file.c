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
#define RELEASE_MAX	 128 /* bytes; utsname's is 64 */
#define BANNER		 "Linux version "
#define SCAN_BLOCK	 0x10000
#define SCAN_MAX	 0x10000000 /* of a vmlinux: its read-only data comes early */

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

/* The first word of text, which a space ends within room bytes; NULL if it is none. It is printed,
 * and names a folder of modules. */
static char *release_word(const char *text, size_t room)
{
	for (size_t i = 0; i < MIN(room, (size_t)RELEASE_MAX); i++) {
		if (text[i] == ' ' || text[i] == '\0')
			return i ? strndup(text, i) : NULL;
		if (text[i] <= ' ' || text[i] > '~' || text[i] == '/')
			return NULL;
	}
	return NULL;
}

/* Looks for Linux's banner ("Linux version 6.12.117 (builder) …", init/version-timestamp.c) in a
 * vmlinux. The blocks overlap, so that one across their border is found. */
static char *banner_release(int fd)
{
	CLEANUP_FREE char *block = malloc(SCAN_BLOCK);
	const size_t overlap = strlen(BANNER) + RELEASE_MAX;

	for (off_t at = 0; block && at < SCAN_MAX; at += (off_t)(SCAN_BLOCK - overlap)) {
		ssize_t n = pread(fd, block, SCAN_BLOCK, at);
		const char *end = block + (n > 0 ? n : 0), *p = block;

		while (n > 0 && (p = memmem(p, (size_t)(end - p), BANNER, strlen(BANNER)))) {
			p += strlen(BANNER);
			/* Formats and messages have the words, too; a release begins with a digit.
			 */
			if (p < end && *p >= '0' && *p <= '9') {
				char *release = release_word(p, (size_t)(end - p));

				if (release)
					return release;
			}
		}
		if (n < SCAN_BLOCK)
			return NULL;
	}
	return NULL;
}

char *arch_kernel_release(const char *path)
{
	CLEANUP_FREE uint8_t *head = malloc(HEAD_LEN);
	size_t len = head ? read_head(path, head) : 0;
	uint16_t at;

	if (len >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG)) {
		CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

		return fd < 0 ? NULL : banner_release(fd);
	}
	if (!is_bzimage(head, len))
		return NULL;
	memcpy(&at, head + SETUP_VERSION_AT, sizeof(at));
	/* "6.12.117+deb12-cloud-amd64 (builder) #1 SMP …": the first word. */
	if (at == 0 || (size_t)at + 0x200 >= len)
		return NULL;
	return release_word((const char *)head + at + 0x200, len - at - 0x200);
}
