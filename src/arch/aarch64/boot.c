/* Loads a kernel and its device tree (Documentation/arch/arm64/booting.rst). Control thread. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "arch/aarch64/machine.h"
#include "base/util.h"

#define INITRD_ALIGN KIB(64) /* the largest page of a host: the initrd is mapped */
#define KERNEL_ALIGN MIB(2)

/* earlycon: early panics are seen, on the device tree's stdout. panic=-1: a panic ends in a reset
 * at once, through PSCI. */
#define CMDLINE "console=ttyS0 earlycon panic=-1 "

const char *arch_cmdline(bool verbose)
{
	return verbose ? CMDLINE "loglevel=7" : CMDLINE "quiet loglevel=4";
}

int arch_initrd_place(struct arch_vm *vm, uint64_t len, uint64_t *ret_gpa, struct error *err)
{
	uint64_t room = vm->plan.fdt_gpa - RAM_GPA;

	if (len > room || ALIGN_UP(len, INITRD_ALIGN) > room)
		return error_usage(
			err,
			"the initramfs (%llu KiB) does not fit into the guest's memory (%llu "
			"KiB are there for it and the kernel); give more with -m",
			(unsigned long long)(len >> 10), (unsigned long long)(room >> 10));
	vm->initrd_gpa = *ret_gpa =
		ALIGN_DOWN(vm->plan.fdt_gpa - ALIGN_UP(len, INITRD_ALIGN), INITRD_ALIGN);
	vm->initrd_len = len;
	return 0;
}

static int load_image(struct arch_vm *vm, const struct arch_boot *boot,
		      const struct kernel_image *image, struct error *err)
{
	uint64_t gpa = ALIGN_UP(RAM_GPA, KERNEL_ALIGN) + image->text_offset;
	uint64_t limit = vm->initrd_len ? vm->initrd_gpa : vm->plan.fdt_gpa;
	int r;

	if (gpa > limit || image->image_size > limit - gpa)
		return error_usage(
			err,
			"%s needs %llu MiB of memory%s, the guest has %llu MiB; give more with -m",
			boot->kernel_name, (unsigned long long)(image->image_size >> 20) + 1,
			vm->initrd_len ? " below its initramfs" : "",
			(unsigned long long)(topology_memory(vm->topology) >> 20));
	r = guest_write(vm->mem, gpa, image->data, image->len);
	if (r < 0)
		return error_set(err, r, "loading %s", boot->kernel_name);
	vm->entry_gpa = gpa;
	return 0;
}

static int load_tree(struct arch_vm *vm, const struct arch_boot *boot, struct error *err)
{
	struct guest_layout layout;
	struct fdt_request q = {
		.topology = vm->topology,
		.layout = &layout,
		.ram_end = vm->plan.end,
		.slots = boot->slots,
		.slot_count = boot->slot_count,
		.cmdline = boot->cmdline,
		.initrd_gpa = vm->initrd_gpa,
		.initrd_len = vm->initrd_len,
		.has_pmu = vm->has_pmu,
		.has_seeds = true,
	};
	CLEANUP_FREE uint8_t *fdt = NULL;
	size_t len = 0;
	int r;

	if (getrandom(&q.kaslr_seed, sizeof(q.kaslr_seed), 0) < 0 ||
	    getrandom(q.rng_seed, sizeof(q.rng_seed), 0) < 0)
		return error_set(err, -errno, "reading random bytes");
	layout_of(vm->mem, &layout);
	r = fdt_build(&q, &fdt, &len, err);
	if (r < 0)
		return r;
	r = guest_write(vm->mem, vm->plan.fdt_gpa, fdt, len);
	return r < 0 ? error_set(err, r, "writing the device tree") : 0;
}

int arch_boot_load(struct arch_vm *vm, const struct arch_boot *boot, struct error *err)
{
	struct kernel_image image = {0};
	size_t cmdline_len = strlen(boot->cmdline);
	int r;

	if (cmdline_len >= CMDLINE_MAX)
		return error_usage(err, "the kernel's command line is %zu bytes; %d are accepted",
				   cmdline_len, CMDLINE_MAX - 1);
	r = kernel_image_read(boot->kernel, boot->kernel_len, boot->kernel_name, &image, err);
	if (r < 0)
		return r;
	r = load_image(vm, boot, &image, err);
	kernel_image_done(&image);
	return r < 0 ? r : load_tree(vm, boot, err);
}
