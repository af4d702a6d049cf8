/* What an x86 kernel file says of itself, before it is loaded
 * (Documentation/arch/x86/boot.rst, the real-mode kernel header), and the lab's machine for x86.
 * Part of every build. Any thread. */
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "arch/kernel_banner.h"
#include "arch/kinds.h"
#include "base/util.h"

#define SETUP_MAGIC_AT	 0x202 /* "HdrS" */
#define SETUP_VERSION_AT 0x20E /* u16: offset of the version text, less 0x200 */
#define HEAD_LEN	 0x8000
#define SCAN_BLOCK	 0x10000
#define SCAN_MAX	 0x10000000 /* of a vmlinux: its read-only data comes early */

static const char *const in_tree[] = {"arch/x86/boot/bzImage", "vmlinux", NULL};

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

static bool kernel_fits(const char *path)
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

/* Looks for Linux's banner in a vmlinux. The blocks overlap, so that one across their border is
 * found. */
static char *banner_release(int fd)
{
	CLEANUP_FREE char *block = malloc(SCAN_BLOCK);

	for (off_t at = 0; block && at < SCAN_MAX; at += SCAN_BLOCK - KERNEL_BANNER_MAX) {
		ssize_t n = pread(fd, block, SCAN_BLOCK, at);
		char *release = n > 0 ? kernel_banner_release(block, (size_t)n) : NULL;

		if (release || n < SCAN_BLOCK)
			return release;
	}
	return NULL;
}

static char *kernel_release(const char *path)
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
	return kernel_release_word((const char *)head + at + 0x200, len - at - 0x200);
}

static const char *const qemu_args[] = {"-M", "q35", "-cpu", "max,-la57", NULL};
static const char *const qemu_args_old[] = {"-M", "q35", "-cpu",
					    "max,-xsave,-la57,-smap,-smep,-pku", NULL};
/* Of what the emulator says that its processor can do for nested guests, only the plain part is
 * used, not virtual GIF, VMLOAD and VMSAVE, and no huge pages: docs/decisions.md, "The lab's KVM".
 */
static const char lab_cmdline[] =
	"console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on kvm_amd.vgif=0 kvm_amd.vls=0 "
	"kvm_amd.lbrv=0 kvm_amd.avic=0 kvm_amd.nested=0 transparent_hugepage=never";
static const char *const lab_modules[] = {"irqbypass", "kvm", "kvm_amd", NULL};

const struct arch_kind arch_kind_x86_64 = {
	.name = "x86_64",
	.debian = "amd64",
	.elf_machine = EM_X86_64,
	.kernel_fits = kernel_fits,
	.kernel_release = kernel_release,
	.kernel_in_tree = in_tree,
	.qemu = "qemu-system-x86_64",
	.qemu_package = "qemu-system-x86",
	.qemu_args = qemu_args,
	.qemu_args_old = qemu_args_old,
	.lab_modules = lab_modules,
	.lab_cmdline = lab_cmdline,
	/* Two that run at the same time break each other's translations now and then: as above. */
	.lab_cpus = 1,
	.lab_cpus_enough = 32,
};
