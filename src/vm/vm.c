/* Builds a machine step by step, and takes it down in the reverse order. Control thread. */
#include "vm/vm.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/util.h"
#include "guest/hugepages.h"
#include "vcpu/pin.h"
#include "vm/host.h"
#include "vm/machine.h"
#include "vm/machine_perf.h"
#include "vm/stats.h"

#define HALT_POLL_NS	200000u
#define KERNEL_FILE_MAX GIB(1)
/* A disk that is slow to write what it was given gets so long; others need no time. */
#define QUIESCE_LIMIT_NS 30000000000u
/* Reads and writes of streams end at once when they are cancelled, but for a hanging disk's. */
#define CANCEL_LIMIT_NS 2000000000u
/* vCPUs of a snapshot take their state side by side, each in milliseconds. */
#define RESTORE_LIMIT_NS 30000000000u
#define TAIL_LINES	 40

static int claim_name(struct machine *m, struct error *err)
{
	char *name = NULL;
	int r = runtime_claim(m->config->name, &name, &m->runtime, err);

	if (r < 0)
		return r;
	free(m->config->name);
	m->config->name = name;
	vm_config_settle(m->config);
	return 0;
}

/* /dev/kvm, the VM, its memory, and what the architecture needs before vCPUs. */
static int build_vm(struct machine *m, struct error *err)
{
	const struct topology *t = &m->config->topology;
	struct arch_vm_config config = {.topology = t, .cpu_vendor = m->config->cpu_vendor};
	struct guest_layout layout;
	unsigned phys_bits;
	int r;

	r = kvm_open(&m->kvm, "/dev/kvm", err);
	if (r == 0)
		r = arch_host_check(&m->kvm, &phys_bits, err);
	if (r == 0)
		r = arch_memory_layout(t, phys_bits, &layout, err);
	if (r == 0)
		r = guest_memory_init(&m->mem, &layout, err);
	if (r == 0 && m->config->hugepages)
		r = hugepages_use(&m->mem, err);
	if (r == 0)
		r = kvm_create_vm(&m->kvm, arch_vm_type(&m->kvm, &layout), err);
	if (r < 0)
		return r;
	machine_perf_vm(m);
	/* Whatever is mapped there later is the guest's, too. KVM waits until nobody reads its
	 * table of memory: behind the devices that it has been told of, that is a tick of the host.
	 */
	r = kvm_set_memory(&m->kvm, &m->mem, err);
	if (r < 0)
		return r;
	/* Before anything is put there: a huge page that is not to be had is a SIGBUS later. */
	r = machine_perf_memory(m, err);
	if (r == 0)
		r = hugepages_populate(&m->mem, err);
	if (r < 0)
		return r;
	/* Where a vCPU has its host CPU, its guest polls or halts by itself. Else, halt polling
	 * pays only where a host CPU is there to poll on. */
	config.realtime_hint = machine_perf_own_cpus(m);
	config.halt_poll_ns =
		m->config->perf.mode == PERF_OFF && pin_may_poll(topology_vcpus(t), m->config->pin)
			? HALT_POLL_NS
			: 0;
	return arch_vm_new(&m->kvm, &m->mem, &config, &m->arch, err);
}

static char *command_line(const struct machine *m)
{
	const struct vm_config *c = m->config;

	return text_format("%s%s%s",
			   arch_cmdline(c->verbosity > 0 || c->session == VM_SESSION_NONE),
			   c->append ? " " : "", c->append ?: "");
}

static int load_guest(struct machine *m, struct error *err)
{
	CLEANUP_FREE char *kernel = NULL;
	CLEANUP_FREE char *cmdline = command_line(m);
	struct arch_boot boot = {
		.kernel_name = m->config->kernel_name ?: m->config->kernel,
		.cmdline = cmdline,
		.slots = m->board.slot,
		.slot_count = m->board.slot_count,
	};
	uint64_t initrd_gpa;
	int r;

	if (!cmdline)
		return error_set(err, -ENOMEM, "writing the command line");
	r = image_build(m->config, &m->image, err);
	if (r < 0)
		return r;
	boot.initrd_len = image_len(&m->image);
	if (boot.initrd_len > 0) {
		r = arch_initrd_place(m->arch, boot.initrd_len, &initrd_gpa, err);
		if (r == 0)
			r = image_place(&m->image, &m->mem, initrd_gpa, err);
	}
	if (r < 0)
		return r;
	r = file_read(m->config->kernel, KERNEL_FILE_MAX, &kernel, &boot.kernel_len);
	if (r < 0)
		return error_usage(err, "--kernel %s: %s", m->config->kernel, strerror(-r));
	boot.kernel = (const uint8_t *)kernel;
	return arch_boot_load(m->arch, &boot, err);
}

/* Instead of a kernel: what a snapshot has. */
static int load_memory(struct machine *m, struct error *err)
{
	int r = restore_memory(m->config->restore, &m->mem, err);

	return r == 0 && m->config->prefault ? restore_prefault(m->config->restore, &m->mem, err)
					     : r;
}

/* Before any guest code runs. */
static int vcpus_ready(void *arg, struct error *err)
{
	struct machine *m = arg;
	int r = m->config->restore ? restore_vcpus_ready(m, err) : 0;

	return r < 0 ? r : machine_perf_isolate(m, err);
}

static int build_vcpus(struct machine *m, struct error *err)
{
	struct vcpu_pool_config config = {
		.count = topology_vcpus(&m->config->topology),
		.topology = &m->config->topology,
		.mem = &m->mem,
		.pin = machine_perf_pins(m),
		.serve = machine_serve,
		.failed = machine_vcpu_failed,
		.arg = m,
		.set_up = m->config->restore ? restore_vcpu : NULL,
		.set_up_limit_ns = m->config->restore ? RESTORE_LIMIT_NS : 0,
		.all_set_up = m->config->restore || machine_perf_own_cpus(m) ? vcpus_ready : NULL,
	};
	int r = vcpu_pool_new(m->loop, &m->kvm, &config, &m->pool, err);

	if (r == 0)
		r = arch_vm_vcpus_created(m->arch, err);
	return r < 0 ? r : machine_perf_before_threads(m, err);
}

static int build(struct machine *m, struct error *err)
{
	struct board_config board = {
		.topology = &m->config->topology,
		.ports = m->port,
		.port_count = PORT_COUNT,
		.disks = m->config->disk,
		.disk_count = m->config->disk_count,
		.disk_queues =
			MIN(topology_vcpus(&m->config->topology), (unsigned)VIRTIO_BLK_MAX_QUEUES),
		.nets = m->config->net,
		.net_count = m->config->net_count,
		.net_pairs = topology_vcpus(&m->config->topology),
		.vsock = {.listen_fd = -1, .connect = vm_vsock_connect, .arg = &m->vsock},
		.legacy_ops = &machine_legacy_ops,
		.uart_output = machine_uart_output,
		.arg = m,
	};
	int r = claim_name(m, err);

	if (r == 0)
		r = machine_perf_claim(m, err);
	if (r == 0)
		r = loop_new(&m->loop, err);
	if (r == 0)
		r = machine_control_start(m, err);
	if (r == 0) {
		r = machine_publish(m, "booting");
		if (r < 0)
			error_set_shortage(err, r, "writing to %s", m->runtime.path);
	}
	if (r == 0)
		r = build_vm(m, err);
	machine_events_init(m);
	if (r == 0)
		r = vm_vsock_open(&m->vsock, m->runtime.path, err);
	board.vsock.listen_fd = m->vsock.socket.fd;
	if (r == 0)
		r = board_init(&m->board, m->loop, &m->kvm, &m->mem, &board, err);
	if (r == 0 && m->config->restore)
		r = restore_check_disks(m, err);
	if (r == 0)
		r = m->config->restore ? load_memory(m, err) : load_guest(m, err);
	if (r == 0)
		r = build_vcpus(m, err);
	if (r == 0)
		r = board_wire(&m->board, &m->kvm, err);
	if (r == 0)
		r = machine_freeze_init(m, err);
	if (r == 0)
		r = machine_watch_init(m, err);
	if (r == 0)
		r = machine_monitor_init(m, err);
	if (r == 0)
		r = machine_events_start(m, err);
	if (r == 0 && m->config->restore)
		r = restore_machine(m, err);
	return r;
}

static uint64_t sum(struct machine *m, size_t field)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++) {
		struct vcpu_stats *stats = &vcpu_pool_get(m->pool, i)->stats;
		_Atomic uint64_t *count = (void *)((char *)stats + field);

		/* Relaxed: the threads have been joined, or a recent value will do. */
		total += atomic_load_explicit(count, memory_order_relaxed);
	}
	return total;
}

json_t *machine_exits(struct machine *m)
{
	json_t *reasons = json_object();
	const size_t known = ARRAY_SIZE(((struct vcpu_stats *)0)->by_reason);

	for (unsigned reason = 0; reason < known; reason++) {
		uint64_t n = sum(m, offsetof(struct vcpu_stats, by_reason) +
					    reason * sizeof(_Atomic uint64_t));

		if (n > 0)
			json_object_set_new(reasons, host_exit_name(reason),
					    json_integer((json_int_t)n));
	}
	return json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "total",
			 (json_int_t)sum(m, offsetof(struct vcpu_stats, exits)), "by_reason",
			 reasons, "handed_off",
			 (json_int_t)sum(m, offsetof(struct vcpu_stats, handed_off)), "posted",
			 (json_int_t)sum(m, offsetof(struct vcpu_stats, posted)), "unmapped_reads",
			 (json_int_t)m->board.bus.unmapped_reads, "unmapped_writes",
			 (json_int_t)m->board.bus.unmapped_writes, "route_installs",
			 (json_int_t)m->board.irqchip.ioapic.installs, "route_install_failures",
			 (json_int_t)m->board.irqchip.ioapic.install_failures);
}

json_t *machine_disks(const struct machine *m)
{
	json_t *list = json_array();

	for (size_t i = 0; i < m->config->disk_count; i++)
		if (m->board.disk[i])
			json_array_append_new(list, vm_disk_report(&m->config->disk[i],
								   m->board.disk[i]));
	return list;
}

json_t *machine_nets(const struct machine *m)
{
	json_t *list = json_array();

	for (size_t i = 0; i < m->config->net_count; i++)
		if (m->board.net[i])
			json_array_append_new(list,
					      vm_net_report(&m->config->net[i], m->board.net[i]));
	return list;
}

static void print_tail(const struct machine *m)
{
	CLEANUP_FREE char *tail = console_log_tail(&m->log, TAIL_LINES);
	int status = vm_result_status(m->result);

	/* Where the console was streamed, the person has seen it. */
	if ((status != 124 && status != 125 && status != 126) || m->console_out.loop)
		return;
	if (tail && tail[0])
		fprintf(stderr, "---- end of the guest's console ----\n%s----\n", tail);
	else
		fprintf(stderr, "---- the guest's console is empty ----\n");
}

/* Accounts are always on, so what they lack is the run's. */
static void degrade_accounts(struct vm_result *result)
{
	const json_t *lacks = json_object_get(result->exits, "lacks");

	for (size_t i = 0; i < json_array_size(lacks); i++) {
		CLEANUP_FREE char *text =
			text_format("accounts: %s", json_string_value(json_array_get(lacks, i)));

		if (text)
			vm_result_degraded(result, text);
	}
}

/* DESIGN.md, Ownership: vCPU descriptors, in-kernel devices, VM descriptor, guest mappings,
 * reservation, shared segments, /dev/kvm. False where the kernel keeps an operation past its
 * cancellation (a write to a file system that hangs): what it may still touch is left to it, until
 * the process ends. */
static bool take_down(struct machine *m)
{
	bool quiet = !m->core_stuck;

	if (m->pool) {
		vcpu_pool_stop(m->pool);
		machine_trace_done(m);
		machine_profile_done(m);
		m->result->exits = machine_exits(m);
		stats_add_exits(m->result->exits, m->pool);
		stats_add_kvm(m->result->exits, m->kvm.vm_fd, m->pool);
		stats_add_counters(m->result->exits, &m->counters);
		stats_add_lacks(m->result->exits, m->halts_unseen);
		degrade_accounts(m->result);
	}
	machine_control_done(m);
	board_give_up(&m->board);
	if (m->loop)
		quiet = board_quiesce(&m->board, QUIESCE_LIMIT_NS) && quiet;
	m->result->disks = machine_disks(m);
	m->result->nets = machine_nets(m);
	quiet = machine_events_done(m, CANCEL_LIMIT_NS) && quiet;
	quiet = machine_monitor_done(m, CANCEL_LIMIT_NS) && quiet;
	machine_watch_done(m);
	machine_freeze_done(m);
	machine_inspect_done(m);
	vcpu_pool_free(m->pool);
	if (quiet)
		board_done(&m->board);
	arch_vm_free(m->arch);
	kvm_close_vm(&m->kvm);
	if (quiet)
		guest_memory_done(&m->mem);
	image_done(&m->image);
	kvm_close(&m->kvm);
	loop_free(m->loop);
	machine_perf_done(m);
	vm_vsock_close(&m->vsock);
	runtime_release(&m->runtime);
	return quiet;
}

int vm_run(struct vm_config *config, struct vm_result *result, struct error *err)
{
	uint64_t begin_ns = now_ns(), end_ns;
	struct machine *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return error_set(err, -ENOMEM, "making the machine");
	*m = (struct machine){
		.config = config,
		.result = result,
		.runtime = {.lock_fd = -1},
		.vsock = VM_VSOCK_NONE,
		.kvm = {.fd = -1, .vm_fd = -1},
		.image = {.base = {.fd = -1}},
		.signals = {.fd = -1},
		.control_socket = {{.fd = -1, .dir_fd = -1}, {.fd = -1, .dir_fd = -1}},
		.claim = PERF_CLAIM_NONE,
		.monitoring.csv_fd = -1,
	};
	STAILQ_INIT(&m->capture.queue);
	progress_init(&m->progress, config->verbosity >= 0);
	result->host = host_kind();
	if (config->lacks)
		vm_result_degraded(result, config->lacks);
	r = build(m, err);
	if (r == 0)
		r = vcpu_pool_start(m->pool, m->arch, err);
	if (r == 0 && config->restore)
		arch_clock_ticks_go_on(m->arch, &m->freeze.clock);
	if (r == 0)
		machine_perf_running(m);
	result->setup_ns = now_ns() - begin_ns;
	if (r == 0)
		r = machine_events_running(m, err);
	if (r == 0)
		machine_trace_running(m);
	if (r == 0)
		r = machine_freeze_running(m, err);
	if (r == 0 && config->restore)
		restore_resume(m);
	if (r == 0) {
		machine_watch_running(m);
		machine_monitor_running(m);
		if (config->session == VM_SESSION_NONE)
			machine_profile_begin(m);
		(void)!machine_publish(m, "running");
		r = loop_run(m->loop);
		if (r < 0)
			error_set(err, r, "running the event loop");
	}
	if (r == -EINTR && m->claim.signo) {
		/* No failure: it ends the run as it would when the loop turns. */
		*err = (struct error){0};
		machine_end(m, VM_KILLED, m->claim.signo, "stopped by %s",
			    strsignal(m->claim.signo));
		r = 0;
	} else if (r < 0) {
		result->outcome = err->kind == ERROR_CONTENTION ? VM_SKIPPED : VM_ERROR;
	}
	end_ns = now_ns();
	terminal_restore(&m->terminal);
	machine_perf_command_ended(m);
	machine_monitor_stop(m);
	if ((machine_watch_frozen(m) || machine_monitor_frozen(m)) &&
	    (result->outcome == VM_KILLED || result->outcome == VM_TIMEOUT))
		result->outcome = VM_HIT;
	machine_freeze_kill(m);
	/* Whoever reads standard error slowly must not keep the guest running. */
	if (m->pool)
		vcpu_pool_stop(m->pool);
	if (m->started_ns)
		print_tail(m);
	m->ended = true; /* whatever comes meanwhile decides nothing */
	if (take_down(m))
		free(m);
	result->teardown_ns = now_ns() - end_ns;
	return r;
}
