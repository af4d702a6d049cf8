/* The whole state of vCPUs and of a VM, from one to another on this host's KVM: it arrives as it
 * was, and what is no such state is refused by name. Exits 77 where there is no KVM. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define VCPUS 2

struct rig {
	struct kvm kvm;
	struct guest_memory mem;
	struct topology topology;
	struct arch_vm *vm;
	struct arch_clock clock;
	struct arch_vcpu_state *state;
	int fd[VCPUS];
};

static void open_rig(struct rig *r)
{
	struct arch_vm_config config = {.topology = &r->topology};
	struct guest_layout layout;
	struct error err = {0};
	unsigned bits;

	memset(r, 0, sizeof(*r));
	r->kvm = (struct kvm){.fd = -1, .vm_fd = -1};
	r->state = aligned_alloc(16, arch_vcpu_state_size);
	assert_non_null(r->state);
	memset(r->state, 0, arch_vcpu_state_size);
	if (topology_from_cpus(VCPUS, &r->topology, &err) < 0 ||
	    topology_set_memory(&r->topology, MIB(64), &err) < 0 ||
	    kvm_open(&r->kvm, "/dev/kvm", &err) < 0 || arch_host_check(&r->kvm, &bits, &err) < 0 ||
	    arch_memory_layout(&r->topology, bits, &layout, &err) < 0 ||
	    guest_memory_init(&r->mem, &layout, &err) < 0 || kvm_create_vm(&r->kvm, 0, &err) < 0 ||
	    arch_vm_new(&r->kvm, &r->mem, &config, &r->vm, &err) < 0 ||
	    kvm_set_memory(&r->kvm, &r->mem, &err) < 0)
		fail_msg("%s", err.what);
	for (unsigned i = 0; i < VCPUS; i++) {
		r->fd[i] = kvm_ioctl(r->kvm.vm_fd, KVM_CREATE_VCPU,
				     (void *)(uintptr_t)arch_vcpu_id(&r->topology, i));
		assert_true(r->fd[i] >= 0);
	}
}

static void close_rig(struct rig *r)
{
	for (unsigned i = 0; i < VCPUS; i++)
		close(r->fd[i]);
	arch_vm_free(r->vm);
	kvm_close_vm(&r->kvm);
	guest_memory_done(&r->mem);
	kvm_close(&r->kvm);
	free(r->state);
}

/* The first with registers of all kinds that are its own; the second never started. */
static void begin(struct rig *r)
{
	struct kvm_regs regs = {.rax = 0x1111, .r15 = 0xffff0000ffff, .rip = 0x123456, .rflags = 2};
	struct kvm_debugregs debug;
	struct kvm_xsave xsave;
	struct error err = {0};
	uint16_t fcw = 0x77f;
	uint32_t mxcsr = 0x7f80;

	for (unsigned i = 0; i < VCPUS; i++)
		if (arch_vcpu_setup(r->vm, i, r->fd[i], &err) < 0)
			fail_msg("%s", err.what);
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_SET_REGS, &regs), 0);
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_GET_XSAVE, &xsave), 0);
	/* The legacy area (SDM vol. 1, 13.4.1), and XSTATE_BV for x87 and SSE. */
	memcpy((uint8_t *)&xsave, &fcw, sizeof(fcw));
	memcpy((uint8_t *)&xsave + 24, &mxcsr, sizeof(mxcsr));
	memset((uint8_t *)&xsave + 160, 0x5a, 256);
	((uint8_t *)&xsave)[512] |= 3;
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_SET_XSAVE, &xsave), 0);
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_GET_DEBUGREGS, &debug), 0);
	debug.db[1] = 0x1000;
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_SET_DEBUGREGS, &debug), 0);
}

static struct state_io save(struct rig *r, unsigned i)
{
	struct state_io io;
	struct error err = {0};

	assert_int_equal(arch_vcpu_capture(r->fd[i], NULL, r->state), 0);
	state_save(&io);
	arch_vcpu_save(r->vm, i, r->fd[i], r->state, &r->clock, &io);
	if (state_result(&io, &err) < 0)
		fail_msg("%s", err.what);
	return io;
}

static struct state_io save_vm(struct rig *r)
{
	struct state_io io;
	struct error err = {0};

	arch_clock_stop(r->vm, &r->clock);
	state_save(&io);
	arch_vm_save(r->vm, &r->clock, &io);
	if (state_result(&io, &err) < 0)
		fail_msg("%s", err.what);
	return io;
}

static int restore(struct rig *r, unsigned i, const uint8_t *data, size_t len, struct error *err)
{
	struct state_io io;

	state_restore(&io, data, len);
	io.where = "vcpu";
	arch_vcpu_restore(r->vm, i, r->fd[i], &r->clock, &io);
	return state_result(&io, err);
}

static int restore_vm(struct rig *r, const uint8_t *data, size_t len, struct error *err)
{
	struct state_io io;

	state_restore(&io, data, len);
	io.where = "vm";
	arch_vm_restore(r->vm, &r->clock, &io);
	return state_result(&io, err);
}

static const char *const vcpu_parts[] = {"cpuid", "sregs", "regs", "xsave", "xcrs",  "debugregs",
					 "lapic", "msrs",  "tsc",  "mp",    "events"};

/* Where the fields of that section are; it has to be there. By the drawing in state_io.h. */
static uint8_t *find(const struct state_io *io, const char *name, size_t *ret_len)
{
	for (size_t at = 0; at + STATE_HEAD_BYTES <= io->len;) {
		uint8_t *head = io->bytes + at;
		uint32_t len;

		memcpy(&len, head + STATE_NAME_BYTES + 4, sizeof(len));
		if (!strncmp((char *)head, name, STATE_NAME_BYTES)) {
			*ret_len = len;
			return head + STATE_HEAD_BYTES;
		}
		at += STATE_HEAD_BYTES + len;
	}
	fail_msg("no section %s", name);
	return NULL;
}

static void everything_arrives(void **state)
{
	struct rig a, b;
	struct state_io vm, one[VCPUS], again;

	(void)state;
	open_rig(&a);
	begin(&a);
	vm = save_vm(&a);
	for (unsigned i = 0; i < VCPUS; i++)
		one[i] = save(&a, i);
	close_rig(&a);

	open_rig(&b);
	assert_int_equal(restore_vm(&b, vm.bytes, vm.len, NULL), 0);
	for (unsigned i = 0; i < VCPUS; i++) {
		struct error err = {0};

		if (restore(&b, i, one[i].bytes, one[i].len, &err) < 0)
			fail_msg("%s", err.what);
	}
	arch_clock_ticks_go_on(b.vm, &b.clock);
	arch_clock_stop(b.vm, &b.clock);
	for (unsigned i = 0; i < VCPUS; i++) {
		again = save(&b, i);
		assert_int_equal(again.len, one[i].len);
		for (size_t k = 0; k < ARRAY_SIZE(vcpu_parts); k++) {
			size_t n, m;
			const uint8_t *was = find(&one[i], vcpu_parts[k], &n);
			const uint8_t *is = find(&again, vcpu_parts[k], &m);

			/* Time goes on. */
			if (strcmp(vcpu_parts[k], "tsc") && (n != m || memcmp(was, is, n)))
				fail_msg("vCPU %u: %s is another", i, vcpu_parts[k]);
		}
		state_free(&again);
		state_free(&one[i]);
	}
	state_free(&vm);
	close_rig(&b);
}

/* ---- a timer that has expired ------------------------------------------------------------------
 */

#define LOOP_GPA	0x1000
#define TIMER_VECTOR	0x30
#define LAPIC_SPIV	0xf0
#define LAPIC_IRR	0x200 /* 32 vectors each 16 bytes */
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_INITIAL	0x380
#define LAPIC_CURRENT	0x390
#define LAPIC_DIVIDE	0x3e0

static void put_register(struct kvm_lapic_state *lapic, size_t at, uint32_t value)
{
	memcpy(lapic->regs + at, &value, sizeof(value));
}

static bool is_requested(int fd)
{
	struct kvm_lapic_state lapic;
	uint32_t irr;

	assert_int_equal(kvm_ioctl(fd, KVM_GET_LAPIC, &lapic), 0);
	memcpy(&irr, lapic.regs + LAPIC_IRR + TIMER_VECTOR / 32 * 16, sizeof(irr));
	return irr >> TIMER_VECTOR % 32 & 1;
}

/* In a loop in real mode that takes no interrupt. */
static void put_in_a_loop(struct rig *r)
{
	const struct kvm_regs regs = {.rip = LOOP_GPA, .rflags = 2};
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_sregs sregs;

	assert_int_equal(kvm_ioctl(r->fd[0], KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_SET_REGS, (void *)(uintptr_t)&regs), 0);
	assert_int_equal(kvm_ioctl(r->fd[0], KVM_SET_MP_STATE, &mp), 0);
}

static void on_alarm(int signo)
{
	(void)signo;
}

/* Until it is asked for, for 2 s at most: the guest runs in slices. */
static bool runs_into_it(struct rig *r)
{
	const struct sigaction action = {.sa_handler = on_alarm};
	const struct itimerval slice = {.it_value.tv_usec = 20000};

	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	for (unsigned i = 0; i < 100 && !is_requested(r->fd[0]); i++) {
		setitimer(ITIMER_REAL, &slice, NULL);
		assert_int_equal(ioctl(r->fd[0], KVM_RUN, NULL), -1);
		assert_int_equal(errno, EINTR);
	}
	return is_requested(r->fd[0]);
}

/* A one-shot timer is at its end, and KVM has not asked for its interrupt before the vCPU parks: in
 * the state there is a count of 0, and no request. KVM takes such a count for one that ends now. */
static void an_interrupt_of_an_expired_timer_comes(void **state)
{
	struct kvm_lapic_state lapic;
	struct state_io out;
	struct rig a, b;

	(void)state;
	open_rig(&a);
	begin(&a);
	put_in_a_loop(&a);
	assert_int_equal(kvm_ioctl(a.fd[0], KVM_GET_LAPIC, &lapic), 0);
	put_register(&lapic, LAPIC_SPIV, 0x1ff);
	put_register(&lapic, LAPIC_LVT_TIMER, TIMER_VECTOR);
	put_register(&lapic, LAPIC_DIVIDE, 0xb); /* by 1 */
	put_register(&lapic, LAPIC_INITIAL, 1000000);
	put_register(&lapic, LAPIC_CURRENT, 0);
	assert_int_equal(kvm_ioctl(a.fd[0], KVM_SET_LAPIC, &lapic), 0);
	usleep(10000);
	out = save(&a, 0);
	close_rig(&a);

	open_rig(&b);
	memcpy(b.mem.region[0].host + LOOP_GPA, "\xeb\xfe", 2);
	assert_int_equal(restore(&b, 0, out.bytes, out.len, NULL), 0);
	assert_true(runs_into_it(&b));
	state_free(&out);
	close_rig(&b);
}

/* At each boundary of sections the next one's name is said; elsewhere something is. */
static void every_truncation_is_refused(void **state)
{
	struct state_io out, vm;
	struct rig r;
	size_t len;

	(void)state;
	open_rig(&r);
	begin(&r);
	vm = save_vm(&r);
	out = save(&r, 0);
	for (size_t i = 0; i < ARRAY_SIZE(vcpu_parts); i++) {
		const uint8_t *at = find(&out, vcpu_parts[i], &len);
		size_t lens[] = {(size_t)(at - out.bytes) - STATE_HEAD_BYTES,
				 (size_t)(at - out.bytes) - 1, (size_t)(at - out.bytes) + len - 1};

		for (size_t k = 0; k < ARRAY_SIZE(lens); k++) {
			uint8_t *copy = malloc(lens[k] ?: 1);
			struct error err = {0};

			memcpy(copy, out.bytes, lens[k]);
			assert_true(restore(&r, 0, copy, lens[k], &err) < 0);
			if (!strstr(err.what, vcpu_parts[i]))
				fail_msg("%s: %s", vcpu_parts[i], err.what);
			free(copy);
		}
	}
	for (size_t n = 0; n < vm.len; n += 7)
		assert_true(restore_vm(&r, vm.bytes, n, NULL) < 0);
	state_free(&out);
	state_free(&vm);
	close_rig(&r);
}

static void what_is_left_over_is_refused(void **state)
{
	struct state_io out;
	struct error err = {0};
	struct rig r;

	(void)state;
	open_rig(&r);
	begin(&r);
	out = save(&r, 0);
	(void)state_begin(&out, "more", 1);
	state_end(&out);
	assert_true(restore(&r, 0, out.bytes, out.len, &err) < 0);
	assert_non_null(strstr(err.what, "vcpu: has more than this machine does"));
	state_free(&out);
	close_rig(&r);
}

/* CPUID comes first: its entries, behind their number, are there to be changed. */
static void what_this_host_lacks_is_named(void **state)
{
	struct error err = {0};
	struct state_io out;
	struct rig r;
	size_t len;
	uint8_t *data;

	(void)state;
	open_rig(&r);
	begin(&r);
	out = save(&r, 0);
	data = find(&out, "cpuid", &len) + sizeof(uint32_t);
	len -= sizeof(uint32_t);
	for (size_t at = 0; at + sizeof(struct kvm_cpuid_entry2) <= len;
	     at += sizeof(struct kvm_cpuid_entry2)) {
		struct kvm_cpuid_entry2 was, e;

		memcpy(&was, data + at, sizeof(was));
		e = was;
		if (e.function == 0)
			e.ebx ^= 1;
		else if (e.function == 0xd && e.index == 0)
			e.eax |= 1u << 30; /* no such state */
		else
			continue;
		memcpy(data + at, &e, sizeof(e));
		err = (struct error){0};
		assert_int_equal(restore(&r, 0, out.bytes, out.len, &err), -EINVAL);
		if (!strstr(err.what, e.function ? "CPUID.DH.0:EAX[bit 30]" : "another vendor"))
			fail_msg("%s", err.what);
		memcpy(data + at, &was, sizeof(was));
	}
	assert_non_null(strstr(err.what, "vcpu: cpuid: "));
	assert_int_equal(restore(&r, 0, out.bytes, out.len, NULL), 0);
	state_free(&out);
	close_rig(&r);
}

/* Whatever KVM makes of it: no crash, and errors that say where. */
static void flips_do_no_harm(void **state)
{
	struct state_io out;
	struct rig r;

	(void)state;
	open_rig(&r);
	begin(&r);
	out = save(&r, 0);
	for (size_t i = 0; i < out.len; i += 5) {
		struct error err = {0};

		out.bytes[i] ^= 0xff;
		if (restore(&r, 0, out.bytes, out.len, &err) < 0 && !strstr(err.what, "vcpu: "))
			fail_msg("%s", err.what);
		out.bytes[i] ^= 0xff;
	}
	state_free(&out);
	close_rig(&r);
}

static unsigned words;

static void see_word(const char *name, uint32_t bits, void *arg)
{
	assert_int_equal(strncmp(name, "CPUID.", 6), 0);
	words++;
	/* Every CPU that runs 64-bit code has SSE2 (SDM vol. 2, CPUID, table 3-11). */
	if (!strcmp(name, "CPUID.1H.0:EDX"))
		*(bool *)arg = bits >> 26 & 1;
}

static void features_are_told(void **state)
{
	bool sse2 = false;
	struct rig r;

	(void)state;
	open_rig(&r);
	arch_vm_features(r.vm, see_word, &sse2);
	assert_true(sse2 && words > 5);
	close_rig(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_arrives),
		cmocka_unit_test(an_interrupt_of_an_expired_timer_comes),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(what_is_left_over_is_refused),
		cmocka_unit_test(what_this_host_lacks_is_named),
		cmocka_unit_test(flips_do_no_harm),
		cmocka_unit_test(features_are_told),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
