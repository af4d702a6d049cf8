/* ACPI tables: checksums, what hangs together, what a CPU or device is said to be, and iasl's
 * judgement where iasl is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "devices/legacy.h"
#include "guest/topology_request.h"
#include "machine_fake.h"

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint8_t sum(const uint8_t *data, size_t len)
{
	uint8_t total = 0;

	while (len-- > 0)
		total = (uint8_t)(total + *data++);
	return total;
}

static void build(const struct machine_fake *m, struct acpi_tables *tables)
{
	struct guest_layout layout = {0};

	for (unsigned i = 0; i < m->mem.count; i++)
		layout.range[layout.count++] = m->mem.region[i].range;
	assert_int_equal(acpi_build(&m->topology, &layout, m->slot, m->slot_count, ACPI_GPA, tables,
				    NULL),
			 0);
}

static const uint8_t *table(const struct acpi_tables *t, const char *signature, size_t *ret_len)
{
	for (unsigned i = 0; i < t->count; i++) {
		if (!strcmp(t->table[i].signature, signature)) {
			*ret_len = t->table[i].len;
			return t->data + t->table[i].at;
		}
	}
	fail_msg("no table %s", signature);
	*ret_len = 0;
	return NULL;
}

static const char *const specs[] = {"1n1l1c1t", "1n2l2c2t", "3n15l10c2t", "64n1024l1c1t"};

static void tables_hang_together(void **state)
{
	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
		struct machine_fake m;
		struct acpi_tables t;
		const uint8_t *rsdp, *xsdt, *fadt;
		unsigned linked = 0;
		size_t len;

		machine_fake_init(&m, specs[s], GIB(1));
		build(&m, &t);
		assert_true(t.gpa + t.len <= HIGH_GPA);
		for (unsigned i = 0; i < t.count; i++) {
			const uint8_t *p = t.data + t.table[i].at;

			assert_int_equal(t.table[i].at % 16, 0);
			assert_true(t.table[i].at + t.table[i].len <= t.len);
			assert_memory_equal(p, t.table[i].signature, 4);
			assert_int_equal(get32(p + 4), t.table[i].len);
			assert_int_equal(sum(p, t.table[i].len), 0);
		}
		rsdp = t.data + (t.rsdp_gpa - t.gpa);
		assert_memory_equal(rsdp, "RSD PTR ", 8);
		assert_int_equal(sum(rsdp, 20), 0);
		assert_int_equal(sum(rsdp, 36), 0);
		xsdt = table(&t, "XSDT", &len);
		assert_true(get64(rsdp + 24) == t.gpa + (uint64_t)(xsdt - t.data));
		for (size_t at = 36; at < len; at += 8, linked++) {
			uint64_t gpa = get64(xsdt + at);
			bool found = false;

			for (unsigned i = 0; i < t.count; i++)
				found |= gpa == t.gpa + t.table[i].at;
			assert_true(found);
		}
		assert_int_equal(linked, t.count - 2); /* all but itself and the DSDT */
		fadt = table(&t, "FACP", &len);
		assert_true(get64(fadt + 140) ==
			    t.gpa + (uint64_t)(table(&t, "DSDT", &len) - t.data));
		acpi_done(&t);
		machine_fake_done(&m);
	}
}

static void power_registers_are_the_device_s(void **state)
{
	struct arch_slot power;
	struct machine_fake m;
	struct acpi_tables t;
	const uint8_t *fadt;
	size_t len;

	(void)state;
	machine_fake_init(&m, "1n1l1c1t", MIB(64));
	assert_int_equal(arch_slot(&m.topology, ARCH_POWER, 0, &power), 0);
	build(&m, &t);
	fadt = table(&t, "FACP", &len);
	assert_int_equal(len, 276);
	assert_int_equal(fadt[8], 6);
	assert_int_equal(get32(fadt + 112) >> 20 & 1, 1); /* hardware-reduced */
	assert_int_equal(get32(fadt + 112) >> 10 & 1, 1); /* reset register */
	assert_int_equal(fadt[109] & 3, 0);		  /* no legacy devices, no 8042 */
	/* legacy.h: sleep control, sleep status, reset; all ports of a byte. */
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *gas = fadt + (i == 2 ? 116 : 244 + 12 * i);

		assert_memory_equal(gas, "\1\10\0\1", 4);
		assert_true(get64(gas + 4) == power.base + i);
	}
	assert_int_equal(fadt[128], POWER_RESET_VALUE);
	acpi_done(&t);
	machine_fake_done(&m);
}

static void every_cpu_is_in_the_madt_once(void **state)
{
	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
		struct machine_fake m;
		struct acpi_tables t;
		const uint8_t *madt;
		unsigned cpus = 0, ioapics = 0;
		size_t len;

		machine_fake_init(&m, specs[s], GIB(1));
		build(&m, &t);
		madt = table(&t, "APIC", &len);
		assert_int_equal(get32(madt + 36), LAPIC_GPA);
		assert_int_equal(get32(madt + 40) & 1, 0); /* no PIC */
		for (size_t at = 44; at < len; at += madt[at + 1]) {
			const uint8_t *e = madt + at;

			assert_true(e[1] >= 2 && at + e[1] <= len);
			if (e[0] == 0) {
				assert_int_equal(e[3], arch_vcpu_id(&m.topology, cpus));
				assert_int_equal(e[2], cpus);
				assert_int_equal(get32(e + 4), 1);
				cpus++;
			} else if (e[0] == 9) {
				assert_int_equal(get32(e + 4), arch_vcpu_id(&m.topology, cpus));
				assert_true(get32(e + 4) > XAPIC_LAST_ID);
				assert_int_equal(get32(e + 12), cpus);
				cpus++;
			} else if (e[0] == 1) {
				assert_int_equal(get32(e + 4), IOAPIC_GPA);
				ioapics++;
			}
		}
		assert_int_equal(cpus, topology_vcpus(&m.topology));
		assert_int_equal(ioapics, 1);
		acpi_done(&t);
		machine_fake_done(&m);
	}
}

/* Every CPU and every byte of RAM belongs to its node, and the distances are a square. */
static void nodes_are_in_the_srat_and_slit(void **state)
{
	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
		uint64_t ram[TOPOLOGY_MAX_NODES] = {0};
		unsigned cpus = 0;
		const uint8_t *srat, *slit;
		struct machine_fake m;
		struct acpi_tables t;
		size_t len;

		machine_fake_init(&m, specs[s], GIB(8));
		build(&m, &t);
		if (m.topology.nodes == 1) {
			for (unsigned i = 0; i < t.count; i++)
				assert_true(strcmp(t.table[i].signature, "SRAT") &&
					    strcmp(t.table[i].signature, "SLIT"));
			acpi_done(&t);
			machine_fake_done(&m);
			continue;
		}
		srat = table(&t, "SRAT", &len);
		for (size_t at = 48; at < len; at += srat[at + 1]) {
			const uint8_t *e = srat + at;

			assert_true(e[1] >= 24 && at + e[1] <= len);
			if (e[0] == 2) { /* x2APIC: domain at 4, id at 8, flags at 12 */
				assert_int_equal(get32(e + 4),
						 topology_locate(&m.topology, cpus).node);
				assert_int_equal(get32(e + 8), arch_vcpu_id(&m.topology, cpus));
				assert_int_equal(get32(e + 12), 1);
				cpus++;
			} else { /* memory: domain at 2, base at 8, length at 16, flags at 28 */
				assert_int_equal(e[0], 1);
				assert_int_equal(get32(e + 28), 1);
				assert_non_null(guest_ptr(&m.mem, get64(e + 8), get64(e + 16)));
				assert_true(get32(e + 2) < m.topology.nodes);
				ram[get32(e + 2)] += get64(e + 16);
			}
		}
		assert_int_equal(cpus, topology_vcpus(&m.topology));
		for (unsigned i = 0; i < m.topology.nodes; i++)
			assert_true(ram[i] == m.topology.node[i].memory_bytes);
		slit = table(&t, "SLIT", &len);
		assert_true(get64(slit + 36) == m.topology.nodes);
		assert_int_equal(len, 44 + m.topology.nodes * m.topology.nodes);
		for (unsigned a = 0; a < m.topology.nodes; a++)
			for (unsigned b = 0; b < m.topology.nodes; b++)
				assert_int_equal(slit[44 + a * m.topology.nodes + b],
						 a == b ? 10 : 20);
		acpi_done(&t);
		machine_fake_done(&m);
	}
}

/* ---- random shapes, all tables and leaves against each other ----------------------------------
 */

#define RANDOM_SHAPES 2000

/* Nodes typed one by one, some without CPUs, some without memory; distances and figures. */
static void random_shape(unsigned *seed, struct topology *ret_topology)
{
	unsigned cores = 1 + (unsigned)rand_r(seed) % 9, threads = 1 + (unsigned)rand_r(seed) % 2;
	unsigned nodes = 1 + (unsigned)rand_r(seed) % 8;
	unsigned with_cpus = 1 + (unsigned)rand_r(seed) % nodes;
	struct topology_request q = {0};
	char spec[32], text[64];

	snprintf(spec, sizeof(spec), "%uc%ut", cores, threads);
	q.spec = spec;
	for (unsigned i = 0; i < nodes; i++) {
		unsigned llcs = i < with_cpus ? 1 + (unsigned)rand_r(seed) % 5 : 0;
		bool figures = rand_r(seed) % 4 == 0;
		unsigned mib = i == 0 || llcs == 0 || rand_r(seed) % 3
				       ? 2 + (unsigned)rand_r(seed) % 1500
				       : 0;

		snprintf(text, sizeof(text), "llcs=%u,mem=%uM%s", llcs, mib,
			 mib && figures ? ",latency=120,bandwidth=9000" : "");
		assert_int_equal(topology_request_node(&q, text, NULL), 0);
	}
	for (unsigned a = 0; a < nodes; a++)
		for (unsigned b = a + 1; b < nodes; b++)
			if (rand_r(seed) % 2) {
				snprintf(text, sizeof(text), "%u,%u=%u", a, b,
					 11 + (unsigned)rand_r(seed) % 244);
				assert_int_equal(topology_request_distance(&q, text, NULL), 0);
			}
	assert_int_equal(topology_resolve(&q, GIB(1), ret_topology, NULL), 0);
}

/* The x2APIC id that a vCPU's own CPUID says. */
static uint32_t id_in_cpuid(const struct topology *t, unsigned index, enum cpu_vendor vendor)
{
	static const struct kvm_cpuid_entry2 host[] = {
		{.function = 0, .eax = 0x1F},
		{.function = 1, .ecx = 1u << 21},
		{.function = 0x80000000, .eax = 0x80000026},
		{.function = 0x80000008, .eax = 0x3030},
	};
	struct kvm_cpuid2 *supported = calloc(1, sizeof(*supported) + sizeof(host));
	const struct cpuid_request q = {.supported = supported,
					.topology = t,
					.index = index,
					.vendor = vendor,
					.override_vendor = true};
	const struct kvm_cpuid_entry2 *leaf;
	struct kvm_cpuid2 *c;
	uint32_t id;

	assert_non_null(supported);
	supported->nent = ARRAY_SIZE(host);
	memcpy(supported->entries, host, sizeof(host));
	c = calloc(1, sizeof(*c) + cpuid_room(supported) * sizeof(c->entries[0]));
	assert_non_null(c);
	cpuid_build(&q, c);
	leaf = cpuid_find(c, 0xB);
	assert_non_null(leaf);
	id = leaf->edx;
	free(c);
	free(supported);
	return id;
}

/* Each CPU of the MADT in turn, by its own CPUID and by the SRAT's node. */
static void cpus_agree(const struct topology *t, const uint8_t *madt, size_t madt_len,
		       const uint8_t *srat, size_t srat_len)
{
	size_t at = 44, near = 48;
	uint32_t last = 0;

	for (unsigned i = 0; i < topology_vcpus(t); i++) {
		uint32_t id;

		while (madt[at] != 0 && madt[at] != 9)
			at += madt[at + 1];
		assert_true(at < madt_len);
		id = madt[at] == 0 ? madt[at + 3] : get32(madt + at + 4);
		at += madt[at + 1];
		assert_true(i == 0 || id > last); /* so no id is given twice */
		last = id;
		assert_int_equal(id_in_cpuid(t, i, CPU_VENDOR_AMD), id);
		assert_int_equal(id_in_cpuid(t, i, CPU_VENDOR_INTEL), id);
		if (!srat)
			continue;
		while (srat[near] != 2)
			near += srat[near + 1];
		assert_true(near < srat_len);
		assert_int_equal(get32(srat + near + 8), id);
		assert_int_equal(get32(srat + near + 4), topology_locate(t, i).node);
		near += srat[near + 1];
	}
}

/* The memory of the SRAT is the layout's, range for range, and nothing overlaps. */
static void memory_agrees(const struct topology *t, const struct guest_layout *layout,
			  const uint8_t *srat, size_t srat_len)
{
	uint64_t bytes[TOPOLOGY_MAX_NODES] = {0}, end = 0;
	unsigned ranges = 0;

	for (unsigned i = 0; i < layout->count; i++) {
		const struct guest_range *r = &layout->range[i];

		assert_true(r->gpa >= end && r->gpa + r->size > r->gpa);
		end = r->gpa + r->size;
		bytes[r->node] += r->size;
	}
	for (unsigned i = 0; i < t->nodes; i++)
		assert_true(bytes[i] == t->node[i].memory_bytes);
	for (size_t at = 48; srat && at < srat_len; at += srat[at + 1]) {
		const struct guest_range *r = &layout->range[ranges];

		if (srat[at] != 1)
			continue;
		assert_true(ranges++ < layout->count);
		assert_int_equal(get32(srat + at + 2), r->node);
		assert_true(get64(srat + at + 8) == r->gpa && get64(srat + at + 16) == r->size);
	}
	assert_int_equal(ranges, srat ? layout->count : 0);
}

/* Linux gives numbers to the nodes of CPUs, then to those of memory, as the SRAT first names each:
 * the ones that were typed. */
static void numbers_agree(const uint8_t *srat, size_t srat_len)
{
	uint32_t next = 0;

	for (unsigned type = 2; srat && type >= 1; type--) {
		for (size_t at = 48; at < srat_len; at += srat[at + 1]) {
			uint32_t domain = get32(srat + at + (type == 2 ? 4 : 2));

			if (srat[at] != type)
				continue;
			assert_true(domain <= next);
			next += domain == next;
		}
	}
}

static void random_shapes_agree(void **state)
{
	unsigned seed = 31;

	(void)state;
	for (unsigned n = 0; n < RANDOM_SHAPES; n++) {
		const uint8_t *madt, *srat = NULL, *slit;
		struct guest_layout layout;
		size_t madt_len, srat_len = 0, len;
		struct arch_slot uart;
		struct acpi_tables tables;
		struct topology t;

		random_shape(&seed, &t);
		assert_int_equal(arch_memory_layout(&t, 46, &layout, NULL), 0);
		assert_int_equal(arch_slot(&t, ARCH_UART, 0, &uart), 0);
		assert_int_equal(acpi_build(&t, &layout, &uart, 1, ACPI_GPA, &tables, NULL), 0);
		madt = table(&tables, "APIC", &madt_len);
		if (t.nodes > 1) {
			srat = table(&tables, "SRAT", &srat_len);
			slit = table(&tables, "SLIT", &len);
			for (unsigned i = 0; i < t.nodes * t.nodes; i++)
				assert_int_equal(slit[44 + i],
						 t.distance[i / t.nodes][i % t.nodes]);
		}
		cpus_agree(&t, madt, madt_len, srat, srat_len);
		memory_agrees(&t, &layout, srat, srat_len);
		numbers_agree(srat, srat_len);
		acpi_done(&tables);
	}
}

/* ---- iasl --------------------------------------------------------------------------------- */

static bool have_iasl(void)
{
	return system("command -v iasl >/dev/null 2>&1") == 0;
}

/* How often iasl's listing of the DSDT has a word. */
static unsigned listed(const char *dir, const char *word)
{
	char path[64], *text = NULL;
	unsigned n = 0;
	size_t len;

	snprintf(path, sizeof(path), "%s/DSDT.dsl", dir);
	assert_int_equal(file_read(path, MIB(1), &text, &len), 0);
	for (const char *p = text; (p = strstr(p, word)); p++)
		n++;
	free(text);
	return n;
}

/* Disassembles every table, compiles it again to the same bytes; every word of complaint fails. */
static void judge(const char *spec, bool figures)
{
	char dir[] = "/tmp/stasis-test-XXXXXX", command[1024];
	struct machine_fake m;
	int status;

	assert_non_null(mkdtemp(dir));
	machine_fake_init(&m, spec, GIB(4));
	if (figures) {
		m.topology.node[0].latency_ns = 90;
		m.topology.node[1].bandwidth_mbs = 2000000; /* in units of more than 1 MB/s */
		m.topology.node[1].cache_bytes = MIB(64);
	}
	assert_int_equal(arch_tables_write(&m.topology, m.slot, m.slot_count, dir, NULL), 0);
	snprintf(command, sizeof(command),
		 "cd %s && ls DSDT.dat FACP.dat APIC.dat >/dev/null && for t in *.dat; do "
		 "iasl -d $t >$t.log 2>&1 || exit 1; "
		 "[ $t = XSDT.dat ] || iasl -oa ${t%%.dat}.dsl >>$t.log 2>&1 || exit 2; "
		 "[ $t = XSDT.dat ] || cmp -i 36 $t ${t%%.dat}.aml || exit 3; "
		 "done; "
		 "! grep -hiE 'warning|remark|error|invalid|unknown' *.log | "
		 "grep -v '0 Errors, 0 Warnings, 0 Remarks'",
		 dir);
	status = system(command);
	if (status != 0)
		fail_msg("iasl complains about the tables of %s (kept in %s): status %#x", spec,
			 dir, status);
	/* machine_fake's devices: two UARTs, pvpanic, two virtio windows; the generation
	 * id and the event device that tells of it. */
	assert_int_equal(listed(dir, "Device ("), 7);
	assert_int_equal(listed(dir, "ResourceTemplate ()"), 6);
	assert_int_equal(listed(dir, "IO (Decode16"), 3);
	assert_int_equal(listed(dir, "Memory32Fixed (ReadWrite"), 2);
	assert_int_equal(listed(dir, "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive"),
			 5);
	assert_int_equal(listed(dir, "\"VM_Gen_Counter\""), 2);
	assert_int_equal(listed(dir, "\"ACPI0013\""), 1);
	assert_int_equal(listed(dir, "0x000FF000, "), 1);
	assert_int_equal(listed(dir, "Method (_EVT, 1, Serialized)"), 1);
	assert_int_equal(listed(dir, "Notify (VGEN, 0x80)"), 1);
	assert_int_equal(listed(dir, "EisaId (\"PNP0501\")"), 2);
	assert_int_equal(listed(dir, "\"LNRO0005\""), 2);
	assert_int_equal(listed(dir, "\"QEMU0001\""), 1);
	assert_int_equal(listed(dir, "0x05, "), 2); /* S5's sleep types: POWER_SLP_TYP_S5 */
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	machine_fake_done(&m);
}

static void iasl_has_nothing_to_say(void **state)
{
	(void)state;
	if (!have_iasl()) {
		print_message("iasl is not installed (Debian: acpica-tools)\n");
		skip();
	}
	judge("1n1l1c1t", false);
	judge("2n4l2c2t", false);
	judge("2n4l2c2t", true); /* with an HMAT */
	judge("3n15l10c2t", false);
	judge("64n1024l1c1t", false);
}

static void tables_to_nowhere_are_an_error(void **state)
{
	struct machine_fake m;
	struct error err = {0};

	(void)state;
	machine_fake_init(&m, "1n1l1c1t", MIB(64));
	assert_true(arch_tables_write(&m.topology, m.slot, m.slot_count, "/dev/null/x", &err) < 0);
	assert_non_null(strstr(err.what, "/dev/null/x"));
	machine_fake_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_hang_together),
		cmocka_unit_test(power_registers_are_the_device_s),
		cmocka_unit_test(every_cpu_is_in_the_madt_once),
		cmocka_unit_test(nodes_are_in_the_srat_and_slit),
		cmocka_unit_test(random_shapes_agree),
		cmocka_unit_test(iasl_has_nothing_to_say),
		cmocka_unit_test(tables_to_nowhere_are_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
