/* The device tree of a machine, by libfdt. Pure. Control thread.
 *
 *   /  chosen  aliases  memory@…  distance-map  cpus { cpu-map, cpu@…, caches }  psci  timer  pmu
 *      interrupt-controller@8000000  serial@…  pvpanic@…  virtio@…
 *
 * Names are those of the devicetree bindings (Documentation/devicetree/bindings in Linux). */
#include <errno.h>
#include <libfdt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/util.h"

/* Interrupt cells (interrupt-controller/arm,gic-v3): kind, number, flags. */
enum { IRQ_SPI = 0, IRQ_PPI = 1 };
enum { IRQ_EDGE_RISING = 1, IRQ_LEVEL_HIGH = 4 };

/* Phandles: one for the GIC, then ranges. */
#define PHANDLE_GIC  1u
#define PHANDLE_CPU  0x1000u
#define PHANDLE_CORE 0x2000u /* its L2 */
#define PHANDLE_LLC  0x3000u
_Static_assert(TOPOLOGY_MAX_VCPUS <= 0x1000, "phandles of one kind stay in their range");

#define UART_CLOCK_HZ 1843200u

/* Cells of 32 bits, big-endian, as a property has them. */
struct cells {
	fdt32_t at[3 * TOPOLOGY_MAX_NODES * TOPOLOGY_MAX_NODES];
	unsigned count;
};

struct writer {
	const struct fdt_request *q;
	void *fdt;
	int failed; /* libfdt's first error, negative: what is written after it is thrown away */
	struct cells cells;
};

static void note(struct writer *w, int r)
{
	if (w->failed == 0 && r < 0)
		w->failed = r;
}

static PRINTF_LIKE(2, 3) void begin(struct writer *w, const char *fmt, ...)
{
	char name[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	note(w, fdt_begin_node(w->fdt, name));
}

static void end(struct writer *w)
{
	note(w, fdt_end_node(w->fdt));
}

static void prop(struct writer *w, const char *name, const void *data, size_t len)
{
	note(w, fdt_property(w->fdt, name, data, (int)len));
}

static void prop_text(struct writer *w, const char *name, const char *text)
{
	prop(w, name, text, strlen(text) + 1);
}

static void prop_u32(struct writer *w, const char *name, uint32_t value)
{
	note(w, fdt_property_u32(w->fdt, name, value));
}

static void prop_u64(struct writer *w, const char *name, uint64_t value)
{
	note(w, fdt_property_u64(w->fdt, name, value));
}

static void cell(struct writer *w, uint32_t value)
{
	w->cells.at[w->cells.count++] = cpu_to_fdt32(value);
}

static void cell64(struct writer *w, uint64_t value)
{
	cell(w, (uint32_t)(value >> 32));
	cell(w, (uint32_t)value);
}

/* Writes the cells that were collected, and forgets them. */
static void prop_cells(struct writer *w, const char *name)
{
	prop(w, name, w->cells.at, w->cells.count * sizeof(w->cells.at[0]));
	w->cells.count = 0;
}

static void prop_reg(struct writer *w, uint64_t gpa, uint64_t size)
{
	cell64(w, gpa);
	cell64(w, size);
	prop_cells(w, "reg");
}

static void interrupt(struct writer *w, uint32_t kind, uint32_t number, uint32_t flags)
{
	cell(w, kind);
	cell(w, number);
	cell(w, flags);
}

static const struct arch_slot *first_uart(const struct fdt_request *q)
{
	for (size_t i = 0; i < q->slot_count; i++)
		if (q->slots[i].kind == ARCH_UART)
			return &q->slots[i];
	return NULL;
}

static void write_chosen(struct writer *w)
{
	const struct fdt_request *q = w->q;
	const struct arch_slot *uart = first_uart(q);
	char path[64];

	begin(w, "chosen");
	if (q->cmdline)
		prop_text(w, "bootargs", q->cmdline);
	if (uart) {
		snprintf(path, sizeof(path), "/serial@%llx:115200n8",
			 (unsigned long long)uart->base);
		prop_text(w, "stdout-path", path);
	}
	if (q->initrd_len) {
		prop_u64(w, "linux,initrd-start", q->initrd_gpa);
		prop_u64(w, "linux,initrd-end", q->initrd_gpa + q->initrd_len);
	}
	if (q->has_seeds) {
		prop_u64(w, "kaslr-seed", q->kaslr_seed);
		prop(w, "rng-seed", q->rng_seed, sizeof(q->rng_seed));
	}
	end(w);
}

static void write_memory(struct writer *w)
{
	const struct fdt_request *q = w->q;

	for (unsigned i = 0; i < q->layout->count; i++) {
		const struct guest_range *range = &q->layout->range[i];
		uint64_t stop = MIN(range->gpa + range->size, q->ram_end);

		if (stop <= range->gpa)
			continue;
		begin(w, "memory@%llx", (unsigned long long)range->gpa);
		prop_text(w, "device_type", "memory");
		prop_reg(w, range->gpa, stop - range->gpa);
		prop_u32(w, "numa-node-id", range->node);
		end(w);
	}
}

/* numa.txt: every pair as a triplet; the local ones are 10. */
static void write_distances(struct writer *w)
{
	const struct topology *t = w->q->topology;

	if (t->nodes < 2)
		return;
	begin(w, "distance-map");
	prop_text(w, "compatible", "numa-distance-map-v1");
	for (unsigned a = 0; a < t->nodes; a++) {
		for (unsigned b = 0; b < t->nodes; b++) {
			cell(w, a);
			cell(w, b);
			cell(w, t->distance[a][b]);
		}
	}
	prop_cells(w, "distance-matrix");
	end(w);
}

/* ---- processors -------------------------------------------------------------------------------
 */

/* cpu/cpu-topology.txt: a last-level cache is a socket, as on the other architecture. */
static void write_cpu_map(struct writer *w)
{
	const struct topology *t = w->q->topology;
	unsigned cpu = 0;

	begin(w, "cpu-map");
	for (unsigned llc = 0; llc < t->llcs; llc++) {
		begin(w, "socket%u", llc);
		begin(w, "cluster0");
		for (unsigned core = 0; core < t->cores_per_llc; core++) {
			begin(w, "core%u", core);
			for (unsigned thread = 0; thread < t->threads_per_core; thread++, cpu++) {
				if (t->threads_per_core > 1)
					begin(w, "thread%u", thread);
				prop_u32(w, "cpu", PHANDLE_CPU + cpu);
				if (t->threads_per_core > 1)
					end(w);
			}
			end(w);
		}
		end(w);
		end(w);
	}
	end(w);
}

/* Properties of one cache; prefix is "i-cache", "d-cache" or "cache" (Devicetree Specification
 * 0.4, 3.8). */
static void write_cache(struct writer *w, const struct arch_cache *c, const char *prefix)
{
	char name[32];

	snprintf(name, sizeof(name), "%s-size", prefix);
	prop_u32(w, name, c->bytes);
	snprintf(name, sizeof(name), "%s-line-size", prefix);
	prop_u32(w, name, c->line_bytes);
	snprintf(name, sizeof(name), "%s-sets", prefix);
	prop_u32(w, name, c->bytes / (c->ways * c->line_bytes));
}

static const struct arch_cache *cache_of(unsigned level, char type)
{
	for (unsigned i = 0; i < arch_cache_count; i++)
		if (arch_caches[i].level == level && arch_caches[i].type == type)
			return &arch_caches[i];
	return NULL;
}

static void write_cpu(struct writer *w, unsigned index)
{
	const struct topology *t = w->q->topology;
	uint32_t reg = arch_vcpu_hardware_id(t, index);

	begin(w, "cpu@%x", reg);
	prop_text(w, "device_type", "cpu");
	prop_text(w, "compatible", "arm,armv8");
	prop_u32(w, "reg", reg);
	prop_text(w, "enable-method", "psci");
	prop_u32(w, "numa-node-id", topology_locate(t, index).node);
	write_cache(w, cache_of(1, 'd'), "d-cache");
	write_cache(w, cache_of(1, 'i'), "i-cache");
	prop_u32(w, "next-level-cache", PHANDLE_CORE + index / t->threads_per_core);
	prop_u32(w, "phandle", PHANDLE_CPU + index);
	end(w);
}

static void write_unified(struct writer *w, const char *kind, unsigned index,
			  const struct arch_cache *c, uint32_t phandle, uint32_t next)
{
	begin(w, "%s-%u", kind, index);
	prop_text(w, "compatible", "cache");
	prop_u32(w, "cache-level", c->level);
	prop(w, "cache-unified", NULL, 0);
	write_cache(w, c, "cache");
	if (next)
		prop_u32(w, "next-level-cache", next);
	prop_u32(w, "phandle", phandle);
	end(w);
}

static void write_cpus(struct writer *w)
{
	const struct topology *t = w->q->topology;

	begin(w, "cpus");
	prop_u32(w, "#address-cells", 1);
	prop_u32(w, "#size-cells", 0);
	write_cpu_map(w);
	for (unsigned i = 0; i < topology_vcpus(t); i++)
		write_cpu(w, i);
	for (unsigned i = 0; i < t->llcs * t->cores_per_llc; i++)
		write_unified(w, "l2-cache", i, cache_of(2, 'u'), PHANDLE_CORE + i,
			      PHANDLE_LLC + i / t->cores_per_llc);
	for (unsigned i = 0; i < t->llcs; i++)
		write_unified(w, "l3-cache", i, cache_of(3, 'u'), PHANDLE_LLC + i, 0);
	end(w);
}

/* ---- devices ----------------------------------------------------------------------------------
 */

static void write_psci(struct writer *w)
{
	static const char compatible[] = "arm,psci-1.0\0arm,psci-0.2";

	begin(w, "psci");
	prop(w, "compatible", compatible, sizeof(compatible));
	prop_text(w, "method", "hvc");
	end(w);
}

static void write_gic(struct writer *w)
{
	begin(w, "interrupt-controller@%llx", (unsigned long long)GICD_GPA);
	prop_text(w, "compatible", "arm,gic-v3");
	prop(w, "interrupt-controller", NULL, 0);
	prop_u32(w, "#interrupt-cells", 3);
	prop_u32(w, "#address-cells", 0);
	cell64(w, GICD_GPA);
	cell64(w, GICD_SIZE);
	cell64(w, GICR_GPA);
	cell64(w, GICR_SIZE * topology_vcpus(w->q->topology));
	prop_cells(w, "reg");
	prop_u32(w, "phandle", PHANDLE_GIC);
	end(w);
}

static void write_timer(struct writer *w)
{
	begin(w, "timer");
	prop_text(w, "compatible", "arm,armv8-timer");
	interrupt(w, IRQ_PPI, TIMER_PPI_SECURE, IRQ_LEVEL_HIGH);
	interrupt(w, IRQ_PPI, TIMER_PPI_NON_SECURE, IRQ_LEVEL_HIGH);
	interrupt(w, IRQ_PPI, TIMER_PPI_VIRTUAL, IRQ_LEVEL_HIGH);
	interrupt(w, IRQ_PPI, TIMER_PPI_HYPERVISOR, IRQ_LEVEL_HIGH);
	prop_cells(w, "interrupts");
	prop(w, "always-on", NULL, 0);
	end(w);
}

static void write_pmu(struct writer *w)
{
	begin(w, "pmu");
	prop_text(w, "compatible", "arm,armv8-pmuv3");
	interrupt(w, IRQ_PPI, PMU_PPI, IRQ_LEVEL_HIGH);
	prop_cells(w, "interrupts");
	end(w);
}

static void write_slot(struct writer *w, const struct arch_slot *slot)
{
	static const struct {
		enum arch_device kind;
		const char *node, *compatible;
	} kinds[] = {
		{ARCH_UART, "serial", "ns16550a"},
		{ARCH_VIRTIO_MMIO, "virtio", "virtio,mmio"},
		{ARCH_PVPANIC, "pvpanic", "qemu,pvpanic-mmio"},
		{ARCH_VMGENID, "rng", "microsoft,vmgenid"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i].kind != slot->kind || !slot->present)
			continue;
		begin(w, "%s@%llx", kinds[i].node, (unsigned long long)slot->base);
		prop_text(w, "compatible", kinds[i].compatible);
		prop_reg(w, slot->base, slot->size);
		/* An irqfd is a pulse: a level would be gone before it is seen. */
		if (slot->gsi) {
			interrupt(w, IRQ_SPI, slot->gsi, IRQ_EDGE_RISING);
			prop_cells(w, "interrupts");
		}
		if (slot->kind == ARCH_UART)
			prop_u32(w, "clock-frequency", UART_CLOCK_HZ);
		if (slot->kind == ARCH_VIRTIO_MMIO)
			prop(w, "dma-coherent", NULL, 0);
		end(w);
	}
}

static void write_aliases(struct writer *w)
{
	unsigned n = 0;

	begin(w, "aliases");
	for (size_t i = 0; i < w->q->slot_count; i++) {
		const struct arch_slot *slot = &w->q->slots[i];
		char name[16], path[32];

		if (slot->kind != ARCH_UART)
			continue;
		snprintf(name, sizeof(name), "serial%u", n++);
		snprintf(path, sizeof(path), "/serial@%llx", (unsigned long long)slot->base);
		prop_text(w, name, path);
	}
	end(w);
}

static void write_root(struct writer *w)
{
	begin(w, "%s", "");
	prop_text(w, "compatible", "linux,dummy-virt");
	prop_text(w, "model", "stasis");
	prop_u32(w, "#address-cells", 2);
	prop_u32(w, "#size-cells", 2);
	prop_u32(w, "interrupt-parent", PHANDLE_GIC);
	write_chosen(w);
	write_aliases(w);
	write_memory(w);
	write_distances(w);
	write_cpus(w);
	write_psci(w);
	write_gic(w);
	write_timer(w);
	if (w->q->has_pmu)
		write_pmu(w);
	for (size_t i = 0; i < w->q->slot_count; i++)
		write_slot(w, &w->q->slots[i]);
	end(w);
}

int fdt_build(const struct fdt_request *q, uint8_t **ret_fdt, size_t *ret_len, struct error *err)
{
	CLEANUP_FREE struct writer *w = calloc(1, sizeof(*w));
	CLEANUP_FREE uint8_t *fdt = calloc(1, FDT_MAX_BYTES);

	if (!w || !fdt)
		return error_set(err, -ENOMEM, "writing the device tree");
	w->q = q;
	w->fdt = fdt;
	note(w, fdt_create(fdt, FDT_MAX_BYTES));
	note(w, fdt_finish_reservemap(fdt));
	write_root(w);
	note(w, fdt_finish(fdt));
	if (w->failed)
		return error_set(err, w->failed == -FDT_ERR_NOSPACE ? -ENOSPC : -EPROTO,
				 "writing the device tree (%s)", fdt_strerror(w->failed));
	*ret_fdt = fdt;
	*ret_len = fdt_totalsize(fdt);
	fdt = NULL;
	return 0;
}

const char arch_tables_option[] = "fdt";

int arch_tables_write(const struct topology *t, const struct arch_slot *slots, size_t slot_count,
		      const char *path, struct error *err)
{
	struct guest_layout layout;
	struct ram_plan plan = {0};
	struct fdt_request q = {
		.topology = t,
		.layout = &layout,
		.slots = slots,
		.slot_count = slot_count,
	};
	CLEANUP_FREE uint8_t *fdt = NULL;
	size_t len = 0;
	FILE *out;
	int r;

	if (topology_vcpus(t) > GIC_MAX_VCPUS)
		return error_usage(err, "%u vCPUs are more than the %u of KVM on arm64",
				   topology_vcpus(t), GIC_MAX_VCPUS);
	r = arch_memory_layout(t, 64, &layout, err);
	if (r == 0)
		r = ram_plan(&layout, true, &plan, err);
	q.ram_end = plan.end;
	if (r == 0)
		r = fdt_build(&q, &fdt, &len, err);
	if (r < 0)
		return r;
	out = fopen(path, "we");
	if (!out)
		return error_set(err, -errno, "writing %s", path);
	r = fwrite(fdt, 1, len, out) == len ? 0 : -errno;
	if (fclose(out) != 0 && r == 0)
		r = -errno;
	return r < 0 ? error_set(err, r, "writing %s", path) : 0;
}
