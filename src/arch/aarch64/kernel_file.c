/* What an arm64 kernel file says of itself before it is loaded, and the lab's machine for arm64.
 * Part of every build. Any thread. */
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/types.h>

#include "arch/aarch64/machine.h"
#include "arch/kernel_banner.h"
#include "arch/kinds.h"
#include "base/util.h"

#define HEAD_LEN      4096
#define FILE_MAX_SIZE MIB(512)

static bool kernel_fits(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint8_t head[HEAD_LEN];
	ssize_t n = fd < 0 ? -1 : fd_read_all(fd, head, sizeof(head));

	return n > 0 && kernel_image_looks(head, (size_t)n);
}

static char *kernel_release(const char *path)
{
	struct kernel_image image;
	CLEANUP_FREE char *file = NULL;
	char *release;
	size_t len;

	if (file_read(path, FILE_MAX_SIZE, &file, &len) < 0 ||
	    kernel_image_read((const uint8_t *)file, len, path, &image, NULL) < 0)
		return NULL;
	release = kernel_banner_release((const char *)image.data, image.len);
	kernel_image_done(&image);
	return release;
}

static const char *const in_tree[] = {"arch/arm64/boot/Image", "arch/arm64/boot/Image.gz",
				      "arch/arm64/boot/vmlinuz.efi", NULL};

/* SVE and SME cost the emulator much and test nothing of ours; its own pointer authentication is
 * far faster than the architecture's algorithm. */
static const char *const qemu_args[] = {"-M", "virt,virtualization=on,gic-version=3", "-cpu",
					"max,pauth-impdef=on,sve=off,sme=off", NULL};
static const char *const lab_modules[] = {NULL}; /* Debian's kernel has its KVM built in */

const struct arch_kind arch_kind_aarch64 = {
	.name = "aarch64",
	.debian = "arm64",
	.elf_machine = EM_AARCH64,
	.kernel_fits = kernel_fits,
	.kernel_release = kernel_release,
	.kernel_in_tree = in_tree,
	.qemu = "qemu-system-aarch64",
	.qemu_package = "qemu-system-arm",
	.qemu_args = qemu_args,
	.qemu_args_old = qemu_args,
	.lab_modules = lab_modules,
	.lab_cmdline = "console=ttyAMA0 quiet loglevel=4 panic=-1",
};
