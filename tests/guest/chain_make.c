/* Makes the first snapshot of the guest of hash chains: CPUs that are about to begin at CPL 3,
 * which every KVM runs at native speed, with FPU and vector registers; one that emulates CPL 0 has
 * no way there. usage: chain-make DIR PAYLOAD CPUS ROUNDS [MIB | plain]; 77 without KVM. With
 * MIB, it has so much memory, and all of it from 16 MiB on has content: each page begins with its
 * number. plain: its CPUs say AMD, and have no more than the first of 64 bits had, so that other
 * hosts take it: as the stored samples are made. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "freeze/snapshot_folder.h"
#include "vm/board_state.h"
#include "vm/machine.h"
#include "vm/snapshot_file.h"
#include "vm/snapshot_names.h"

#define MEMORY	    MIB(64)
#define CONTENT	    MIB(16)
#define PML4_GPA    0x1000
#define PDPT_GPA    0x2000
#define DIRS_GPA    0x4000 /* four: the first 4 GiB one to one */
#define GDT_GPA	    0x8000
#define PORTS_GPA   0x9000
#define CODE_GPA    0x100000
#define STACKS_GPA  0x200000
#define STACK_BYTES 0x4000
#define USER_CODE   (0x20 | 3)
#define USER_DATA   (0x18 | 3)
#define TSS	    0x28

static void die(const char *what, const struct error *err)
{
	fprintf(stderr, "chain-make: %s: %s\n", what,
		err && err->code ? err->what : strerror(errno));
	exit(1);
}

static void must(int r, const char *what)
{
	if (r < 0) {
		errno = -r;
		die(what, NULL);
	}
}

static void fill(struct guest_memory *mem, const char *payload)
{
	uint8_t *ram = mem->region[0].host;
	uint64_t *gdt = (uint64_t *)(void *)(ram + GDT_GPA);
	char *code;
	size_t len;

	*(uint64_t *)(void *)(ram + PML4_GPA) = PDPT_GPA | 7;
	for (unsigned i = 0; i < 4; i++)
		((uint64_t *)(void *)(ram + PDPT_GPA))[i] = (DIRS_GPA + i * 0x1000) | 7;
	for (uint64_t i = 0; i < 4 * 512; i++)
		((uint64_t *)(void *)(ram + DIRS_GPA))[i] = i << 21 | 0x87;
	gdt[4] = 0x00affb000000ffff;
	gdt[3] = 0x00cff3000000ffff;
	must(file_read(payload, MIB(1), &code, &len), payload);
	memcpy(ram + CODE_GPA, code, len);
	free(code);
}

static void fill_rest(struct guest_memory *mem, uint64_t size)
{
	uint8_t *ram = mem->region[0].host;

	memset(ram + CONTENT, 0x5a, size - CONTENT);
	for (uint64_t at = CONTENT; at < size; at += 4096)
		*(uint64_t *)(void *)(ram + at) = at >> 12;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .s = 1,
				    .g = 1,
				    .dpl = 3,
				    .l = code,
				    .db = !code};
}

/* Everything as a thread of a 64-bit system's has it, but for IOPL. */
static void enter(int fd, unsigned cpu, unsigned cpus, unsigned long rounds)
{
	const struct kvm_regs regs = {
		.rip = CODE_GPA,
		.rsp = STACKS_GPA + (cpu + 1) * STACK_BYTES,
		.rflags = 2 | 3 << 12,
		.rdi = cpu,
		.rsi = rounds,
		.rdx = cpus,
	};
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_sregs s;

	must(kvm_ioctl(fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cs = flat(USER_CODE, 11, true);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(USER_DATA, 3, false);
	/* All zeros, so that its bitmap opens every port, where a back end forgets IOPL. */
	s.tr = (struct kvm_segment){.base = PORTS_GPA,
				    .limit = 0x2fff,
				    .selector = TSS,
				    .type = 11,
				    .present = 1};
	s.gdt = (struct kvm_dtable){.base = GDT_GPA, .limit = 5 * 8 - 1};
	s.cr3 = PML4_GPA;
	s.cr4 = 0x620;	    /* PAE, OSFXSR, OSXMMEXCPT */
	s.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	s.efer = 0x500;	    /* LMA, LME */
	must(kvm_ioctl(fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	must(kvm_ioctl(fd, KVM_SET_REGS, (void *)(uintptr_t)&regs), "KVM_SET_REGS");
	must(kvm_ioctl(fd, KVM_SET_MP_STATE, &mp), "KVM_SET_MP_STATE");
}

/* Features that come and go with hosts: no more than the first 64-bit CPUs had. */
static void reduce(struct kvm_cpuid_entry2 *e)
{
	if (e->function == 1) {
		e->ecx &= 1u << 0 /* SSE3 */ | 1u << 21 /* X2APIC */ | 1u << 31;
		e->edx &= 0x0783fbff;
	} else if (e->function == 0x80000001) {
		e->ecx = 0;
		e->edx &= 0x2193fbff; /* no RDTSCP, 1 GiB pages, FFXSR */
	} else if (e->function == 0x80000008) {
		e->ebx = 0;
	} else if (e->function == 7 || e->function == 0xd || e->function == 0x40000001 ||
		   e->function == 0x80000007) {
		e->eax = e->ebx = e->ecx = e->edx = 0;
	}
}

/* KVM asks it which MSRs there are. */
static void make_plain(int fd)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	cpuid->nent = 256;
	must(kvm_ioctl(fd, KVM_GET_CPUID2, cpuid), "KVM_GET_CPUID2");
	for (unsigned i = 0; i < cpuid->nent; i++)
		reduce(&cpuid->entries[i]);
	must(kvm_ioctl(fd, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
	free(cpuid);
}

/* What a back end has put back because it can't hide it, and the rate that only this host's TSC
 * has: 0 is any. Sections as in base/state_io.h. */
static void save_plain(struct state_io *io)
{
	const uint32_t any_khz = 0;

	for (size_t at = 0; at < io->len;) {
		uint8_t *section = io->bytes + at, *fields = section + STATE_HEAD_BYTES;
		uint32_t len, count;

		memcpy(&len, section + 20, sizeof(len));
		memcpy(&count, fields, sizeof(count));
		at += STATE_HEAD_BYTES + len;
		if (memcmp(section, "tsc", sizeof("tsc")) == 0)
			memcpy(fields + 16, &any_khz, sizeof(any_khz));
		if (memcmp(section, "cpuid", sizeof("cpuid")) != 0)
			continue;
		for (fields += 4; count-- > 0; fields += sizeof(struct kvm_cpuid_entry2)) {
			struct kvm_cpuid_entry2 entry;

			memcpy(&entry, fields, sizeof(entry));
			reduce(&entry);
			memcpy(fields, &entry, sizeof(entry));
		}
	}
}

static void save_vcpus(struct kvm *kvm, struct arch_vm *vm, const struct topology *t,
		       unsigned long rounds, bool plain, struct arch_clock *clock,
		       struct snapshot_writer *w)
{
	struct arch_vcpu_state *state = aligned_alloc(16, arch_vcpu_state_size);
	unsigned cpus = topology_vcpus(t);
	char name[SNAPSHOT_NAME_MAX + 1];
	struct error err = {0};

	for (unsigned i = 0; i < cpus; i++) {
		int fd = kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU,
				   (void *)(uintptr_t)arch_vcpu_id(t, i));
		struct state_io io;

		must(fd, "KVM_CREATE_VCPU");
		if (arch_vcpu_setup(vm, i, fd, &err) < 0)
			die("a vCPU", &err);
		if (plain)
			make_plain(fd);
		enter(fd, i, cpus, rounds);
		memset(state, 0, arch_vcpu_state_size);
		must(arch_vcpu_capture(fd, NULL, state), "capturing a vCPU");
		state_save(&io);
		arch_vcpu_save(vm, i, fd, state, clock, &io);
		close(fd);
		if (plain && !io.err.code)
			save_plain(&io);
		snapshot_add(w, snapshot_vcpu_name(i, name), SNAPSHOT_VCPU_VERSION, &io);
	}
	free(state);
}

static void write_memory(struct snapshot_folder *folder, const struct guest_memory *mem,
			 uint64_t size, uint64_t content)
{
	int fd = openat(folder->fd, SNAPSHOT_MEMORY, O_WRONLY | O_CREAT | O_EXCL, 0600);

	must(fd < 0 || ftruncate(fd, (off_t)size) < 0 ? -errno : 0, SNAPSHOT_MEMORY);
	must(fd_write_all(fd, mem->region[0].host, content), SNAPSHOT_MEMORY);
	close(fd);
}

static void on_event(struct legacy *dev UNUSED, enum legacy_event event UNUSED)
{
}
static const struct legacy_ops no_events = {.event = on_event};

int main(int argc, char **argv)
{
	struct vm_config config = {.session = VM_SESSION_NONE};
	struct arch_vm_config vm_config = {.topology = &config.topology};
	static char amd[] = "amd";
	bool plain;
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	static struct guest_memory mem;
	struct snapshot_writer w = {0};
	struct snapshot_folder folder;
	struct session session = {0};
	struct state_io io;
	struct arch_clock clock = {0};
	struct virtio_console_port port[PORT_COUNT];
	const struct board_config board_config = {
		.topology = &config.topology,
		.ports = port,
		.port_count = PORT_COUNT,
		.disk_queues = 1,
		.vsock.listen_fd = -1,
		.net_pairs = 1,
		.legacy_ops = &no_events,
	};
	static struct board board; /* as after power-on */
	struct loop *loop = NULL;
	struct guest_layout layout;
	struct arch_vm *vm = NULL;
	struct error err = {0};
	uint8_t *state = NULL;
	uint64_t memory = MEMORY;
	unsigned bits;
	size_t len = 0;
	char *text, id[SNAPSHOT_ID_LEN + 1];

	if (argc != 5 && argc != 6)
		return 2;
	plain = argc == 6 && !strcmp(argv[5], "plain");
	if (argc == 6 && !plain)
		memory = MIB(strtoull(argv[5], NULL, 10));
	if (memory < MEMORY || memory > GIB(1))
		return 2;
	if (plain)
		vm_config.cpu_vendor = config.cpu_vendor = amd;
	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return 77;
	if (topology_from_cpus((unsigned)atoi(argv[3]), &config.topology, &err) < 0 ||
	    topology_set_memory(&config.topology, memory, &err) < 0 ||
	    kvm_open(&kvm, "/dev/kvm", &err) < 0 || arch_host_check(&kvm, &bits, &err) < 0 ||
	    arch_memory_layout(&config.topology, bits, &layout, &err) < 0 ||
	    guest_memory_init(&mem, &layout, &err) < 0 || kvm_create_vm(&kvm, 0, &err) < 0 ||
	    arch_vm_new(&kvm, &mem, &vm_config, &vm, &err) < 0 ||
	    kvm_set_memory(&kvm, &mem, &err) < 0)
		die("a machine", &err);
	fill(&mem, argv[2]);
	if (argc == 6 && !plain)
		fill_rest(&mem, memory);
	for (unsigned i = 0; i < PORT_COUNT; i++)
		port[i] = (struct virtio_console_port){.in_fd = -1, .out_fd = -1};
	if (loop_new(&loop, &err) < 0 ||
	    board_init(&board, loop, &kvm, &mem, &board_config, &err) < 0 ||
	    !board_quiesce(&board, 1000000000))
		die("a board", &err);
	save_vcpus(&kvm, vm, &config.topology, strtoul(argv[4], NULL, 10), plain, &clock, &w);
	arch_clock_stop(vm, &clock);
	state_save(&io);
	arch_vm_save(vm, &clock, &io);
	snapshot_add(&w, SNAPSHOT_VM, SNAPSHOT_VM_VERSION, &io);
	board_state_save(&board, &w);
	session_init(&session);
	state_save(&io);
	session_state(&session, &io);
	snapshot_add(&w, SNAPSHOT_SESSION, SNAPSHOT_SESSION_VERSION, &io);
	snapshot_new_id(id);
	text = snapshot_describe(&config, vm, &mem, board.disk, &(struct snapshot_kind){.id = id});
	if (!text || snapshot_encode(&w, text, strlen(text), &state, &len, &err) < 0)
		die("encoding", &err);
	if (snapshot_folder_open(&folder, argv[1], &err) < 0 ||
	    snapshot_folder_write(&folder, SNAPSHOT_STATE, state, len, &err) < 0 ||
	    snapshot_folder_write(&folder, SNAPSHOT_DESCRIPTION, text, strlen(text), &err) < 0)
		die("writing", &err);
	write_memory(&folder, &mem, memory, argc == 6 && !plain ? memory : MIB(3));
	if (snapshot_folder_append(&folder, SNAPSHOT_MEMORY, id, SNAPSHOT_ID_LEN, &err) < 0 ||
	    snapshot_folder_commit(&folder, &err) < 0)
		die("writing", &err);
	snapshot_writer_done(&w);
	board_done(&board);
	arch_vm_free(vm);
	kvm_close_vm(&kvm);
	guest_memory_done(&mem);
	kvm_close(&kvm);
	loop_free(loop);
	free(state);
	free(text);
	return 0;
}
