/* Core files of memory and registers that the test makes up, parsed back with libelf. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "freeze/vmcore.h"
#include "guest/backing.h"
#ifdef __x86_64__
#include "arch/x86_64/machine.h"
#else
#include "arch/aarch64/machine.h"
#endif

#define LOWER_SIZE MIB(6)
#define UPPER_GPA  GIB(4)
#define UPPER_SIZE MIB(64)
#define DIRECT	   UINT64_C(0xffff9a0000000000)
#define TEXT_GVA   UINT64_C(0xffffffff9b000000)

static const char info[] = "OSRELEASE=6.12.0-made-up\nPAGESIZE=4096\n";

struct fixture {
	struct loop *loop;
	struct guest_memory mem;
	struct arch_vcpu_state state[3];
	const struct arch_vcpu_state *cpu[3];
	struct vmcore_kernel kernel;
	char dir[64];
	char *path;
	struct vmcore *v;
	bool over;
	struct error error; /* code 0: it went well */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct guest_layout layout = {
		.range = {{.gpa = 0, .size = LOWER_SIZE}, {.gpa = UPPER_GPA, .size = UPPER_SIZE}},
		.count = 2,
	};
	struct error err = {0};

	strcpy(f->dir, "/tmp/test-vmcore.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->path = text_format("%s/core", f->dir);
	assert_int_equal(loop_new(&f->loop, &err), 0);
	assert_int_equal(guest_memory_init(&f->mem, &layout, &err), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(f->cpu); i++)
		f->cpu[i] = &f->state[i];
	f->kernel = (struct vmcore_kernel){
		.info = info,
		.info_len = sizeof(info) - 1,
		.has_direct = true,
		.direct = DIRECT,
		.text_gva = TEXT_GVA,
		.text_gpa = MIB(1),
		.text_len = MIB(2),
	};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	vmcore_free(f->v);
	loop_free(f->loop);
	guest_memory_done(&f->mem);
	unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0); /* nothing else was left */
	free(f->path);
	free(f);
	return 0;
}

static void on_done(struct vmcore *v UNUSED, const struct error *err, void *arg)
{
	struct fixture *f = arg;

	assert_false(f->over);
	f->over = true;
	if (err)
		f->error = *err;
}

static int start(struct fixture *f, struct error *err)
{
	const struct vmcore_config config = {
		.loop = f->loop,
		.mem = &f->mem,
		.cpu = f->cpu,
		.cpus = ARRAY_SIZE(f->cpu),
		.kernel = &f->kernel,
		.path = f->path,
		.done = on_done,
		.arg = f,
	};

	return vmcore_start(&config, &f->v, err);
}

static void turn_until_over(struct fixture *f)
{
	while (!f->over)
		assert_true(loop_turn(f->loop, UINT64_C(10000000000)) >= 0);
}

static void write_core(struct fixture *f)
{
	struct error err = {0};

	assert_int_equal(start(f, &err), 0);
	assert_false(f->over);
	turn_until_over(f);
	assert_true(f->over);
}

static void set_pc(struct arch_vcpu_state *s, uint64_t pc)
{
#ifdef __x86_64__
	s->regs.rip = pc;
#else
	s->pc = pc;
#endif
}

static void never_started(struct arch_vcpu_state *s)
{
#ifdef __x86_64__
	s->mp.mp_state = KVM_MP_STATE_UNINITIALIZED;
#else
	s->mp.mp_state = KVM_MP_STATE_STOPPED;
#endif
}

static uint64_t pc_of(const struct elf_prstatus *p)
{
#ifdef __x86_64__
	return p->pr_reg[16];
#else
	return p->pr_reg[32];
#endif
}

/* ---- what is in it ---------------------------------------------------------------------------
 */

struct parsed {
	GElf_Phdr load[4];
	unsigned loads;
	struct elf_prstatus status[4];
	unsigned statuses, qemus;
	char info[128];
};

static void parse_notes(Elf *elf, const GElf_Phdr *ph, struct parsed *p)
{
	Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)ph->p_offset, ph->p_filesz, ELF_T_NHDR);
	size_t at = 0, name, desc;
	GElf_Nhdr n;

	assert_non_null(data);
	while ((at = gelf_getnote(data, at, &n, &name, &desc))) {
		const char *bytes = data->d_buf;

		if (n.n_type == NT_PRSTATUS && !strcmp(bytes + name, "CORE")) {
			assert_int_equal(n.n_descsz, sizeof(p->status[0]));
			assert_in_range(p->statuses, 0, 3);
			memcpy(&p->status[p->statuses++], bytes + desc, n.n_descsz);
		} else if (!strcmp(bytes + name, "QEMU")) {
			assert_int_equal(n.n_descsz, arch_qemu_note_size);
			p->qemus++;
		} else {
			assert_string_equal(bytes + name, "VMCOREINFO");
			assert_int_equal(n.n_type, 0);
			memcpy(p->info, bytes + desc, n.n_descsz);
		}
	}
}

static void parse(const char *path, struct parsed *p)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t count;
	Elf *elf;
	GElf_Ehdr eh;

	*p = (struct parsed){0};
	assert_true(fd >= 0);
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	assert_non_null(gelf_getehdr(elf, &eh));
	assert_int_equal(eh.e_type, ET_CORE);
	assert_int_equal(eh.e_machine, arch_elf_machine);
	assert_int_equal(eh.e_ident[EI_CLASS], ELFCLASS64);
	assert_int_equal(elf_getphdrnum(elf, &count), 0);
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr ph;

		assert_non_null(gelf_getphdr(elf, (int)i, &ph));
		if (ph.p_type == PT_NOTE) {
			assert_int_equal(i, 0);
			parse_notes(elf, &ph, p);
		} else {
			assert_int_equal(ph.p_type, PT_LOAD);
			assert_in_range(p->loads, 0, 3);
			p->load[p->loads++] = ph;
		}
	}
	elf_end(elf);
	close(fd);
}

static void check_content(const struct fixture *f, const struct parsed *p)
{
	uint8_t *bytes = malloc(UPPER_SIZE);
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	for (unsigned i = 0; i < p->loads; i++) {
		const uint8_t *ram = guest_ptr(&f->mem, p->load[i].p_paddr, p->load[i].p_filesz);

		assert_non_null(ram);
		assert_int_equal(p->load[i].p_filesz, p->load[i].p_memsz);
		assert_int_equal(pread(fd, bytes, p->load[i].p_filesz, (off_t)p->load[i].p_offset),
				 p->load[i].p_filesz);
		assert_memory_equal(bytes, ram, p->load[i].p_filesz);
	}
	close(fd);
	free(bytes);
}

static void test_layout(void **state)
{
	struct fixture *f = *state;
	uint8_t *high = guest_ptr(&f->mem, UPPER_GPA, UPPER_SIZE);
	struct parsed p;
	struct stat st;

	/* A page here and there, a long run, and the first and last byte of all. */
	for (size_t at = 0; at < LOWER_SIZE; at += KIB(4) * 7)
		f->mem.region[0].host[at + at % 4093] = 0xa5;
	memset(high + MIB(8) + 4096, 0x5a, MIB(3) + 12345);
	high[0] = high[UPPER_SIZE - 1] = 1;
	set_pc(&f->state[0], 0xffffffff9b001234);
	never_started(&f->state[1]);
	set_pc(&f->state[2], 0x401000);
	write_core(f);
	assert_int_equal(f->error.code, 0);

	parse(f->path, &p);
	assert_string_equal(p.info, info);
	/* The second never started. The numbers stay the vCPUs' own. */
	assert_int_equal(p.statuses, 2);
	assert_int_equal(p.qemus, arch_qemu_note_size ? 2 : 0);
	assert_int_equal(p.status[0].pr_pid, 1);
	assert_int_equal(pc_of(&p.status[0]), 0xffffffff9b001234);
	assert_int_equal(p.status[1].pr_pid, 3);
	assert_int_equal(pc_of(&p.status[1]), 0x401000);

	assert_int_equal(p.loads, 3);
	assert_int_equal(p.load[0].p_vaddr, TEXT_GVA);
	assert_int_equal(p.load[0].p_paddr, MIB(1));
	assert_int_equal(p.load[0].p_filesz, MIB(2));
	assert_int_equal(p.load[0].p_offset, p.load[1].p_offset + MIB(1));
	assert_int_equal(p.load[1].p_vaddr, DIRECT);
	assert_int_equal(p.load[1].p_paddr, 0);
	assert_int_equal(p.load[2].p_vaddr, DIRECT + UPPER_GPA);
	assert_int_equal(p.load[2].p_paddr, UPPER_GPA);
	check_content(f, &p);

	/* For its owner only. */
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 077, 0);
}

static size_t pages_there(const struct fixture *f)
{
	struct guest_backing b;
	bool there[GUEST_BACKING_PAGES];
	size_t n = 0;

	guest_backing_init(&b, &f->mem);
	for (size_t at = 0; at < UPPER_SIZE; at += GUEST_BACKING_PAGES * b.page) {
		size_t pages = MIN((size_t)GUEST_BACKING_PAGES, (UPPER_SIZE - at) / b.page);

		guest_backing_look(&b, f->mem.region[1].host + at, pages, there);
		for (size_t i = 0; i < pages; i++)
			n += there[i];
	}
	guest_backing_done(&b);
	return n;
}

static void test_sparse(void **state)
{
	struct fixture *f = *state;
	uint8_t *high = guest_ptr(&f->mem, UPPER_GPA, UPPER_SIZE);
	size_t before;
	struct parsed p;
	struct stat st;

	high[MIB(33)] = 1;
	memset(high + MIB(40), 0, MIB(8)); /* there, and empty */
	before = pages_there(f);
	assert_in_range(before, MIB(8) / KIB(64), UPPER_SIZE / KIB(4));
	write_core(f);
	assert_int_equal(f->error.code, 0);
	/* Nothing was brought in by it, and nothing empty was written. */
	assert_int_equal(pages_there(f), before);
	assert_in_range(vmcore_written(f->v), 1, KIB(64));
	assert_int_equal(stat(f->path, &st), 0);
	assert_in_range(st.st_blocks * 512, 1, MIB(1));
	assert_true(st.st_size > (off_t)(LOWER_SIZE + UPPER_SIZE));
	parse(f->path, &p);
	check_content(f, &p);
}

static void test_search(void **state)
{
	struct fixture *f = *state;
	struct guest_search *s = malloc(sizeof(*s));
	uint8_t *upper = guest_ptr(&f->mem, UPPER_GPA, UPPER_SIZE);
	uint64_t at;

	madvise(f->mem.reservation, f->mem.reservation_size, MADV_NOHUGEPAGE);
	guest_search_init(s, &f->mem);
	assert_true(guest_search_next(s, 0) == UINT64_MAX);
	guest_search_done(s);
	f->mem.region[0].host[MIB(3) + 5] = 1;
	upper[MIB(17)] = 1;
	guest_search_init(s, &f->mem);
	at = guest_search_next(s, 0);
	assert_int_equal(ALIGN_DOWN(at, s->backing.page), MIB(3));
	at = guest_search_next(s, MIB(3) + s->backing.page);
	assert_int_equal(at, UPPER_GPA + MIB(17));
	assert_true(guest_search_next(s, at + s->backing.page) == UINT64_MAX);
	assert_true(guest_search_next(s, GIB(8)) == UINT64_MAX);
	guest_search_done(s);
	free(s);
}

/* A file that lies over memory has content that no page table shows. */
static void test_mapped_file(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("initramfs", MFD_CLOEXEC);
	struct error err = {0};
	struct parsed p;
	char page[4096];

	memset(page, 0x77, sizeof(page));
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	assert_int_equal(guest_map_private(&f->mem, UPPER_GPA + MIB(2), KIB(256), fd, &err), 0);
	close(fd);
	write_core(f);
	assert_int_equal(f->error.code, 0);
	assert_int_equal(vmcore_written(f->v), KIB(256));
	parse(f->path, &p);
	check_content(f, &p);
}

static void test_unknown_kernel(void **state)
{
	struct fixture *f = *state;
	struct parsed p;

	f->kernel = (struct vmcore_kernel){0};
	write_core(f);
	assert_int_equal(f->error.code, 0);
	parse(f->path, &p);
	assert_int_equal(p.statuses, 3);
	assert_int_equal(p.loads, 2);
	assert_int_equal(p.load[1].p_vaddr, 0);
	assert_string_equal(p.info, "");
	/* Text that isn't all in RAM is left out. */
	f->kernel = (struct vmcore_kernel){.text_gva = TEXT_GVA,
					   .text_gpa = MIB(5),
					   .text_len = MIB(2)};
	vmcore_free(f->v);
	f->over = false;
	write_core(f);
	parse(f->path, &p);
	assert_int_equal(p.loads, 2);
}

/* A thousand vCPUs and sixty-four nodes of memory past 4 GiB; the head alone. */
static void test_many(void **state)
{
	struct fixture *f = *state;
	const struct arch_vcpu_state **cpu = calloc(1024, sizeof(*cpu));
	struct guest_memory mem = {.count = 64};
	struct vmcore_head head;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	for (unsigned i = 0; i < mem.count; i++)
		mem.region[i].range =
			(struct guest_range){.gpa = GIB(16) * i, .size = GIB(16), .node = i};
	for (unsigned i = 0; i < 1024; i++)
		cpu[i] = &f->state[0];
	assert_int_equal(vmcore_head_make(&mem, cpu, 1024, &f->kernel, &head), 0);
	memcpy(&eh, head.data, sizeof(eh));
	assert_int_equal(eh.e_phnum, 66);
	memcpy(&ph, head.data + eh.e_phoff, sizeof(ph));
	assert_true(ph.p_filesz > 1024 * arch_prstatus_size);
	assert_true(ph.p_offset + ph.p_filesz <= head.len);
	memcpy(&ph, head.data + eh.e_phoff + 65 * sizeof(ph), sizeof(ph));
	assert_int_equal(ph.p_paddr, GIB(16) * 63);
	assert_int_equal(ph.p_offset, head.len + GIB(16) * 63);
	assert_int_equal(head.size, head.len + GIB(1024));
	vmcore_head_done(&head);
	free(cpu);
}

/* ---- whole or absent -------------------------------------------------------------------------
 */

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void test_cancel(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	uint64_t done, total;

	memset(f->mem.region[1].host, 0x33, UPPER_SIZE);
	assert_int_equal(start(f, &err), 0);
	while (loop_turn(f->loop, 0) >= 0) {
		vmcore_progress(f->v, &done, &total);
		if (done > LOWER_SIZE)
			break;
	}
	assert_int_equal(total, LOWER_SIZE + UPPER_SIZE);
	assert_true(done < total);
	assert_true(vmcore_cancel_wait(f->v, UINT64_C(10000000000)));
	assert_true(f->over);
	assert_int_equal(f->error.code, -ECANCELED);
	assert_int_equal(entries(f->dir), 0);

	/* And before anything was written. */
	vmcore_free(f->v);
	f->over = false;
	f->error = (struct error){0};
	assert_int_equal(start(f, &err), 0);
	vmcore_cancel(f->v);
	assert_false(f->over);
	turn_until_over(f);
	assert_int_equal(f->error.code, -ECANCELED);
	assert_int_equal(entries(f->dir), 0);
}

static void test_replaces(void **state)
{
	struct fixture *f = *state;
	char text[8] = "";
	int fd = open(f->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	struct error err = {0};
	struct parsed p;

	assert_int_equal(write(fd, "before", 7), 7);
	close(fd);
	assert_int_equal(start(f, &err), 0);
	assert_true(vmcore_cancel_wait(f->v, UINT64_C(10000000000)));
	fd = open(f->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 7);
	assert_string_equal(text, "before");
	close(fd);
	vmcore_free(f->v);
	f->over = false;
	f->error = (struct error){0};
	write_core(f);
	assert_int_equal(f->error.code, 0);
	parse(f->path, &p);
	assert_int_equal(p.loads, 3);
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	char *path = f->path;

	f->path = text_format("%s/none/core", f->dir);
	assert_int_equal(start(f, &err), -ENOENT);
	free(f->path);
	f->path = f->dir;
	err = (struct error){0};
	assert_int_equal(start(f, &err), -EISDIR);
	f->path = (char[]){"/dev/null"};
	err = (struct error){0};
	assert_int_equal(start(f, &err), -ENOTSUP);
	f->path = path;
	assert_null(f->v);
	assert_int_equal(entries(f->dir), 0);
}

/* Runs the test's child and gives what it exited with; 77 is a skip. */
static int status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* In a child with a mount namespace of its own: a file system of 4 MiB. */
static int fill_disk(struct fixture *f)
{
	struct error err = {0};

	if (unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", f->dir, "tmpfs", 0, "size=4m") < 0)
		return 77;
	loop_free(f->loop); /* a ring belongs to the process that made it */
	if (loop_new(&f->loop, &err) < 0)
		return 1;
	memset(f->mem.region[1].host, 0x33, UPPER_SIZE);
	write_core(f);
	if (f->error.code != -ENOSPC || !f->error.hint[0] || entries(f->dir) != 0)
		return 2;
	return f->mem.region[1].host[UPPER_SIZE - 1] == 0x33 ? 0 : 3;
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	pid_t pid;
	int r;

	/* The child's memory is a copy, but guest memory is not in it: made anew there. */
	loop_free(f->loop);
	f->loop = NULL;
	pid = fork();
	if (pid == 0) {
		struct fixture *mine;
		void *made;

		set_up(&made);
		mine = made;
		_exit(fill_disk(mine));
	}
	r = status_of(pid);
	assert_int_equal(loop_new(&f->loop, &err), 0);
	if (r == 77) {
		print_message("[   SKIP   ] no mount namespace here: a full disk is not tried\n");
		skip();
	}
	assert_int_equal(r, 0);
}

static void test_killed(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	int started[2];
	char byte;
	pid_t pid;

	loop_free(f->loop);
	f->loop = NULL;
	assert_int_equal(pipe(started), 0);
	pid = fork();
	if (pid == 0) {
		struct fixture *mine;
		void *made;

		set_up(&made);
		mine = made;
		free(mine->path);
		mine->path = f->path;
		memset(mine->mem.region[1].host, 0x33, UPPER_SIZE);
		if (start(mine, &err) == 0 && loop_turn(mine->loop, 0) >= 0 &&
		    loop_turn(mine->loop, 0) >= 0)
			(void)!write(started[1], "", 1);
		rmdir(mine->dir);
		pause();
	}
	close(started[1]);
	assert_int_equal(read(started[0], &byte, 1), 1);
	kill(pid, SIGKILL);
	assert_int_equal(status_of(pid), 128 + SIGKILL);
	close(started[0]);
	assert_int_equal(loop_new(&f->loop, &err), 0);
	assert_int_not_equal(access(f->path, F_OK), 0);
	/* Where the file system has files without names, not even that. */
	if (entries(f->dir) > 0)
		print_message("a temporary name stays on this file system\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_layout, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sparse, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_search, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mapped_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unknown_kernel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_replaces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
