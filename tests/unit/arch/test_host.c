/* The host: how a missing, foreign or poor /dev/kvm is told, and a real one where there is one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

/* ---- a KVM that lacks what a test says (the calls of kvm.c and machine.c are wrapped) ------- */

static struct {
	bool on;
	int api_version;     /* or a negative errno */
	long lacks[4];	     /* capabilities, -1 ends */
	unsigned long fails; /* this request … */
	int code, times;     /* … with this errno, so many times */
	unsigned calls;	     /* of that request */
	const struct kvm_cpuid2 *supported;
} fake;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

static int fake_ioctl(unsigned long request, void *arg)
{
	struct kvm_cpuid2 *cpuid = arg;

	switch (request) {
	case KVM_GET_API_VERSION:
		if (fake.api_version >= 0)
			return fake.api_version;
		errno = -fake.api_version;
		return -1;
	case KVM_GET_VCPU_MMAP_SIZE:
		return 12288;
	case KVM_CHECK_EXTENSION:
		for (size_t i = 0; i < ARRAY_SIZE(fake.lacks) && fake.lacks[i] >= 0; i++)
			if (fake.lacks[i] == (long)(intptr_t)arg)
				return 0;
		return 1;
	case KVM_GET_SUPPORTED_CPUID:
		if (cpuid->nent < fake.supported->nent) {
			errno = E2BIG;
			return -1;
		}
		memcpy(cpuid, fake.supported,
		       sizeof(*cpuid) + fake.supported->nent * sizeof(cpuid->entries[0]));
		return 0;
	case KVM_CREATE_VM:
		return dup(0);
	default:
		errno = ENOTTY;
		return -1;
	}
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (fake.fails == request && ++fake.calls <= (unsigned)fake.times) {
		errno = fake.code;
		return -1;
	}
	return fake.on ? fake_ioctl(request, arg) : __real_ioctl(fd, request, arg);
}

static int clear_fake(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.api_version = 12;
	memset(fake.lacks, 0xff, sizeof(fake.lacks));
	return 0;
}

static void open_fake(struct kvm *kvm)
{
	fake.on = true;
	assert_int_equal(kvm_open(kvm, "/dev/null", NULL), 0);
}

static struct kvm_cpuid2 *supported(unsigned nent, uint32_t features, uint32_t widths)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + nent * sizeof(c->entries[0]));

	assert_non_null(c);
	assert_true(nent >= 2);
	c->nent = nent;
	for (unsigned i = 0; i < nent; i++)
		c->entries[i].function = 0x1000 + i;
	c->entries[0] = (struct kvm_cpuid_entry2){.function = 1, .ecx = features};
	c->entries[nent - 1] = (struct kvm_cpuid_entry2){.function = 0x80000008, .eax = widths};
	return c;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void a_missing_device_says_what_to_load(void **state)
{
	struct kvm kvm = {.fd = -7};
	struct error err = {0};

	(void)state;
	assert_int_equal(kvm_open(&kvm, "/dev/no-such-kvm", &err), -ENOENT);
	assert_non_null(strstr(err.what, "/dev/no-such-kvm"));
	assert_non_null(strstr(err.hint, "modprobe"));
	assert_int_equal(err.kind, ERROR_HOST);
	assert_int_equal(kvm.fd, -7);
}

static void a_forbidden_device_says_which_group(void **state)
{
	char path[] = "/tmp/stasis-kvm-XXXXXX";
	struct kvm kvm = {.fd = -7};
	struct error err = {0};
	int fd, r;

	(void)state;
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0), 0);
	/* Root may open everything. */
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	r = kvm_open(&kvm, path, &err);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	close(fd);
	unlink(path);
	assert_int_equal(r, -EACCES);
	assert_non_null(strstr(err.hint, "group"));
}

static void another_device_is_not_kvm(void **state)
{
	struct kvm kvm = {.fd = -7};
	struct error err = {0};

	(void)state;
	assert_int_equal(kvm_open(&kvm, "/dev/null", &err), -ENOTTY);
	assert_non_null(strstr(err.what, "/dev/null"));
	assert_null(strstr(err.what, "-25"));
	assert_int_equal(kvm.fd, -7);
}

static void another_version_is_told(void **state)
{
	struct kvm kvm = {.fd = -7};
	struct error err = {0};

	(void)state;
	fake.on = true;
	fake.api_version = 13;
	assert_true(kvm_open(&kvm, "/dev/null", &err) < 0);
	assert_non_null(strstr(err.what, "13"));
	assert_non_null(strstr(err.what, "12"));
	assert_int_equal(kvm.fd, -7);
}

/* ---- capabilities --------------------------------------------------------------------------- */

static void all_that_lacks_is_named_at_once(void **state)
{
	struct kvm_cpuid2 *c = supported(8, 0, 48);
	struct error err = {0};
	unsigned bits = 77;
	struct kvm kvm;

	(void)state;
	open_fake(&kvm);
	fake.supported = c;
	fake.lacks[0] = KVM_CAP_IRQFD;
	fake.lacks[1] = KVM_CAP_PIT_STATE2;
	fake.lacks[2] = KVM_CAP_EXT_CPUID;
	assert_true(arch_host_check(&kvm, &bits, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "IRQFD, PIT_STATE2, EXT_CPUID"));
	assert_null(strstr(err.what, "IOEVENTFD"));
	assert_int_equal(bits, 77);
	free(c);
	kvm_close(&kvm);
}

static void every_need_is_asked_for(void **state)
{
	static const struct kvm_need wanted[] = {
		{KVM_CAP_IRQCHIP, "IRQCHIP"},
		{KVM_CAP_IOEVENTFD, "IOEVENTFD"},
		{KVM_CAP_IRQFD, "IRQFD"},
		{KVM_CAP_USER_MEMORY, "USER_MEMORY"},
		{KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR"},
		{KVM_CAP_PIT2, "PIT2"},
		{KVM_CAP_PIT_STATE2, "PIT_STATE2"},
		{KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK"},
		{KVM_CAP_DEBUGREGS, "DEBUGREGS"},
		{KVM_CAP_MP_STATE, "MP_STATE"},
		{KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS"},
		{KVM_CAP_XSAVE, "XSAVE"},
		{KVM_CAP_EXT_CPUID, "EXT_CPUID"},
		{KVM_CAP_XCRS, "XCRS"}, /* the host below has XSAVE */
	};
	struct kvm_cpuid2 *c = supported(8, 1u << 26, 48);
	unsigned bits;
	struct kvm kvm;

	(void)state;
	open_fake(&kvm);
	fake.supported = c;
	assert_int_equal(arch_host_check(&kvm, &bits, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		struct error err = {0};
		char text[64];

		fake.lacks[0] = wanted[i].cap;
		assert_true(arch_host_check(&kvm, &bits, &err) < 0);
		snprintf(text, sizeof(text), "lacks %s", wanted[i].name);
		assert_non_null(strstr(err.what, text));
	}
	/* XCRS only where the guest is told of XSAVE. */
	fake.lacks[0] = KVM_CAP_XCRS;
	c->entries[0].ecx = 0;
	assert_int_equal(arch_host_check(&kvm, &bits, NULL), 0);
	free(c);
	kvm_close(&kvm);
}

static void address_bits_are_what_the_guest_can_use(void **state)
{
	static const struct {
		uint32_t eax;
		unsigned bits;
	} widths[] = {
		{0x3030, 48}, {0x303024, 36}, {0x303034, 48}, {0x343030, 48}, {0, 36}, {0x2E00, 36},
	};
	struct kvm kvm;

	(void)state;
	open_fake(&kvm);
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		/* More leaves than the first guess has room for. */
		struct kvm_cpuid2 *c = supported(300, 0, widths[i].eax);
		unsigned bits = 0;

		fake.supported = c;
		assert_int_equal(arch_host_check(&kvm, &bits, NULL), 0);
		assert_int_equal(bits, widths[i].bits);
		free(c);
	}
	kvm_close(&kvm);
}

/* ---- creating ------------------------------------------------------------------------------- */

static void a_vm_survives_what_passes(void **state)
{
	static const int codes[] = {EINTR, ENOMEM, EBUSY, EMFILE, ENFILE, EAGAIN};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct kvm kvm;

		clear_fake(NULL);
		open_fake(&kvm);
		fake.fails = KVM_CREATE_VM;
		fake.code = codes[i];
		fake.times = 5;
		assert_int_equal(kvm_create_vm(&kvm, 0, NULL), 0);
		assert_int_equal(fake.calls, 6);
		kvm_close(&kvm);
		assert_int_equal(kvm.vm_fd, -1);
	}
}

static void a_lasting_shortage_is_contention(void **state)
{
	uint64_t begin_ns = now_ns();
	struct error err = {0};
	struct kvm kvm;

	(void)state;
	open_fake(&kvm);
	fake.fails = KVM_CREATE_VM;
	fake.code = EBUSY;
	fake.times = INT32_MAX;
	assert_int_equal(kvm_create_vm(&kvm, 0, &err), -EBUSY);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_int_equal(error_exit_status(&err), 77);
	assert_true(now_ns() - begin_ns < 5000000000u);
	assert_int_equal(kvm.vm_fd, -1);
	kvm_close(&kvm);
}

static void another_failure_is_not_repeated(void **state)
{
	struct error err = {0};
	struct kvm kvm;

	(void)state;
	open_fake(&kvm);
	fake.fails = KVM_CREATE_VM;
	fake.code = EINVAL;
	fake.times = INT32_MAX;
	assert_int_equal(kvm_create_vm(&kvm, 0, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_HOST);
	assert_int_equal(fake.calls, 1);
	kvm_close(&kvm);
}

static void closing_nothing_is_allowed(void **state)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};

	(void)state;
	kvm_close(&kvm);
	arch_vm_free(NULL);
}

/* ---- the real one --------------------------------------------------------------------------- */

static void open_real(struct kvm *kvm)
{
	struct error err = {0};

	if (kvm_open(kvm, "/dev/kvm", &err) < 0) {
		print_message("skipped: %s\n", err.what);
		skip();
	}
}

static void a_real_host_passes(void **state)
{
	struct error err = {0};
	unsigned bits = 0;
	struct kvm kvm;

	(void)state;
	open_real(&kvm);
	if (arch_host_check(&kvm, &bits, &err) < 0)
		fail_msg("%s", err.what);
	assert_in_range(bits, 32, 52);
	assert_true(kvm.max_vcpus > 0 && kvm.max_vcpu_id >= kvm.max_vcpus);
	assert_true(kvm.run_size >= 8192);
	kvm_close(&kvm);
	assert_int_equal(kvm.fd, -1);
}

/* The CPUID that this host really supports, patched for a shape that it is not. */
static void real_cpuid_is_replaced(void **state)
{
	enum { MOST = 256 };
	struct kvm_cpuid2 *host = calloc(1, sizeof(*host) + MOST * sizeof(host->entries[0]));
	struct kvm_cpuid2 *c;
	struct topology t;
	struct kvm kvm;
	unsigned ids = 0;

	(void)state;
	assert_non_null(host);
	host->nent = MOST;
	open_real(&kvm);
	assert_int_equal(kvm_ioctl(kvm.fd, KVM_GET_SUPPORTED_CPUID, host), 0);
	c = calloc(1, sizeof(*c) + cpuid_room(host) * sizeof(c->entries[0]));
	assert_non_null(c);
	assert_int_equal(topology_parse("1n14l9c2t", &t, NULL), 0);
	for (unsigned i = 0; i < topology_vcpus(&t); i++) {
		const struct cpuid_request q = {.supported = host,
						.topology = &t,
						.index = i,
						.vendor = cpuid_vendor(host)};

		cpuid_build(&q, c);
		assert_true(c->nent <= cpuid_room(host));
		for (uint32_t k = 0; k < c->nent; k++) {
			const struct kvm_cpuid_entry2 *e = &c->entries[k];

			for (uint32_t m = 0; m < k; m++)
				assert_false(c->entries[m].function == e->function &&
					     c->entries[m].index == e->index);
			if (e->function == 0xB || e->function == 0x1F) {
				assert_int_equal(e->edx, arch_vcpu_id(&t, i));
				ids++;
			}
			assert_int_not_equal(e->function, 0x80000026);
		}
	}
	assert_true(ids >= 3 * topology_vcpus(&t));
	free(c);
	free(host);
	kvm_close(&kvm);
}

static void a_real_machine_is_made_and_unmade(void **state)
{
	struct guest_memory mem;
	struct guest_layout layout;
	struct arch_vm *vm = NULL;
	struct error err = {0};
	struct topology t;
	unsigned bits;
	struct kvm kvm;

	(void)state;
	open_real(&kvm);
	assert_int_equal(topology_parse("1n1l2c1t", &t, NULL), 0);
	assert_int_equal(topology_set_memory(&t, MIB(64), NULL), 0);
	for (int i = 0; i < 3; i++) {
		const struct arch_vm_config config = {.topology = &t, .halt_poll_ns = 200000};
		int r;

		assert_int_equal(arch_host_check(&kvm, &bits, NULL), 0);
		assert_int_equal(arch_memory_layout(&t, bits, &layout, NULL), 0);
		assert_int_equal(guest_memory_init(&mem, &layout, NULL), 0);
		r = kvm_create_vm(&kvm, 0, &err);
		if (r == 0)
			r = kvm_set_memory(&kvm, &mem, &err);
		if (r == 0)
			r = arch_vm_new(&kvm, &mem, &config, &vm, &err);
		if (r < 0)
			fail_msg("%s", err.what);
		for (unsigned v = 0; v < topology_vcpus(&t); v++) {
			int fd = ioctl(kvm.vm_fd, KVM_CREATE_VCPU,
				       (void *)(uintptr_t)arch_vcpu_id(&t, v));

			assert_true(fd >= 0);
			r = arch_vcpu_setup(vm, v, fd, &err);
			close(fd);
			if (r < 0)
				fail_msg("%s", err.what);
		}
		assert_int_equal(arch_vm_vcpus_created(vm, &err), 0);
		arch_vm_free(vm);
		kvm_close_vm(&kvm);
		guest_memory_done(&mem);
	}
	kvm_close(&kvm);
}

static void the_probe_answers_in_time(void **state)
{
	uint64_t begin_ns = now_ns();
	struct arch_probe probe = {0};
	struct error err = {0};
	struct kvm kvm;

	(void)state;
	open_real(&kvm);
	if (arch_probe(&kvm, &probe, &err) < 0)
		fail_msg("%s", err.what);
	assert_true(now_ns() - begin_ns < 3000000000u);
	assert_int_equal(probe.lacks[0] == '\0', probe.runs_stock_kernel);
	print_message("this host %s%s\n",
		      probe.runs_stock_kernel ? "runs a stock kernel" : "lacks ", probe.lacks);
	/* The VM was its own. */
	assert_int_equal(kvm.vm_fd, -1);
	kvm_close(&kvm);
}

static void the_probe_goes_on_after_signals(void **state)
{
	struct arch_probe calm = {0}, disturbed = {0};
	struct kvm kvm;

	(void)state;
	open_real(&kvm);
	assert_int_equal(arch_probe(&kvm, &calm, NULL), 0);
	fake.fails = KVM_RUN;
	fake.code = EINTR;
	fake.times = 3;
	assert_int_equal(arch_probe(&kvm, &disturbed, NULL), 0);
	assert_true(fake.calls > 3);
	assert_string_equal(disturbed.lacks, calm.lacks);
	assert_int_equal(disturbed.runs_stock_kernel, calm.runs_stock_kernel);
	kvm_close(&kvm);
}

/* A guest that never comes out: the alarm ends it, not the guest. */
static void the_probe_ends_a_guest_that_hangs(void **state)
{
	uint64_t begin_ns = now_ns();
	struct arch_probe probe = {0};
	struct kvm kvm;

	(void)state;
	open_real(&kvm);
	fake.fails = KVM_RUN;
	fake.code = EINTR;
	fake.times = INT32_MAX;
	assert_int_equal(arch_probe(&kvm, &probe, NULL), 0);
	assert_true(now_ns() - begin_ns < 3000000000u);
	assert_false(probe.runs_stock_kernel);
	assert_string_equal(probe.lacks, "64-bit code at CPL 0");
	kvm_close(&kvm);
}

#define HOST_TEST(f) cmocka_unit_test_setup(f, clear_fake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOST_TEST(a_missing_device_says_what_to_load),
		HOST_TEST(a_forbidden_device_says_which_group),
		HOST_TEST(another_device_is_not_kvm),
		HOST_TEST(another_version_is_told),
		HOST_TEST(all_that_lacks_is_named_at_once),
		HOST_TEST(every_need_is_asked_for),
		HOST_TEST(address_bits_are_what_the_guest_can_use),
		HOST_TEST(a_vm_survives_what_passes),
		HOST_TEST(a_lasting_shortage_is_contention),
		HOST_TEST(another_failure_is_not_repeated),
		HOST_TEST(closing_nothing_is_allowed),
		HOST_TEST(a_real_host_passes),
		HOST_TEST(real_cpuid_is_replaced),
		HOST_TEST(a_real_machine_is_made_and_unmade),
		HOST_TEST(the_probe_answers_in_time),
		HOST_TEST(the_probe_goes_on_after_signals),
		HOST_TEST(the_probe_ends_a_guest_that_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
