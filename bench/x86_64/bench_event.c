/* bench-event: events that pass by the exits. A doorbell is a guest's write that KVM turns into an
 * event for the loop; an interrupt is an event of the host's that KVM turns into one for the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "devices/irq.h"
#include "floor_freeze.h"
#include "rig.h"

#define RINGS	    200u /* in a round */
#define ROUNDS	    60
#define IRQ_GSI	    24 /* past the pins of any controller in KVM */
#define PATIENCE_NS 2000000000u

/* ---- doorbells ------------------------------------------------------------------------- */

struct bell {
	struct loop_event event;
	struct guest_area *area;
	uint64_t rung;
};

static void answer(struct guest_area *area)
{
	/* Release, though nothing but the word is passed on: it is what the guest waits for. */
	atomic_fetch_add_explicit(&area->answer, 1, memory_order_release);
}

static void on_bell(struct loop_event *e, uint64_t count)
{
	struct bell *bell = container_of(e, struct bell, event);

	bell->rung += count;
	answer(bell->area);
}

/* The least: a descriptor that is read, blocking or over and over. */
static int floor_rings(struct floor_freeze *floor, struct guest_area *area, int fd,
		       struct error *err)
{
	uint64_t count, rung = 0;
	int r = floor_freeze_go(floor, err);

	while (r == 0 && rung < RINGS) {
		if (read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
			rung += count;
			answer(area);
		} else if (errno != EAGAIN && errno != EINTR) {
			r = error_set(err, -errno, "reading the floor's event");
		}
	}
	return r < 0 ? r : floor_freeze_hold(floor, err);
}

static int product_rings(struct rig *rig, struct bell *bell, struct error *err)
{
	uint64_t target = bell->rung + RINGS;
	int r = rig_go(rig, err);

	while (r == 0 && bell->rung < target)
		r = rig_turn(rig, err);
	return r < 0 ? r : rig_hold(rig, err);
}

static int doorbell_rounds(struct bench *b, struct floor_freeze *floor, int floor_fd,
			   struct rig *rig, struct bell *bell, struct error *err)
{
	struct guest_area *area = floor_freeze_vm(floor)->vcpu[0].area;

	bell->area = rig_area(rig, 0);
	while (bench_round(b, err)) {
		/* Relaxed: both are held. */
		uint64_t from = atomic_load_explicit(&area->count, memory_order_relaxed);
		int r = floor_rings(floor, area, floor_fd, err);

		if (r == 0)
			r = rig_samples(b, RESULTS_FLOOR, area, from, err);
		from = atomic_load_explicit(&bell->area->count, memory_order_relaxed);
		if (r == 0)
			r = product_rings(rig, bell, err);
		if (r == 0)
			r = rig_samples(b, RESULTS_PRODUCT, bell->area, from, err);
		if (r < 0)
			break;
	}
	return err->code;
}

/* asleep: whoever answers blocks until the bell rings; else it looks all the time. */
static int measure_doorbell(struct bench *b, bool asleep, struct error *err)
{
	const struct rig_config config = {.count = 1,
					  .program = GUEST_RING,
					  .pin = &b->options.cpu[0]};
	struct bell bell = {.event = {.fire = on_bell, .fd = -1}};
	struct floor_freeze *floor = NULL;
	struct rig rig = {0};
	CLEANUP_FD int fd = eventfd(0, EFD_CLOEXEC | (asleep ? 0 : EFD_NONBLOCK));
	struct kvm floor_kvm;
	int r = fd < 0 ? error_set_shortage(err, -errno, "making an event descriptor")
		       : bench_pin(b, -1, err);

	if (r == 0)
		r = floor_freeze_open(b, 1, GUEST_RING, true, &floor, err);
	if (r == 0) {
		floor_kvm = (struct kvm){.vm_fd = floor_freeze_vm(floor)->fd};
		r = kvm_ioeventfd_mmio(&floor_kvm, fd, GUEST_DOORBELL_GPA, 0, err);
	}
	if (r == 0)
		r = rig_prepare(&rig, &config, err);
	if (r == 0)
		r = loop_event_init(rig.loop, &bell.event, err);
	/* The guest rings at once. */
	if (r == 0)
		r = kvm_ioeventfd_mmio(&rig.kvm, bell.event.fd, GUEST_DOORBELL_GPA, 0, err);
	if (r == 0) {
		bell.area = rig_area(&rig, 0);
		r = rig_start(&rig, err);
	}
	if (r == 0)
		r = rig_hold(&rig, err);
	if (r == 0)
		r = bench_pin(b, 1, err);
	if (r == 0) {
		if (asleep)
			loop_set_spin(rig.loop, 0);
		r = doorbell_rounds(b, floor, fd, &rig, &bell, err);
	}
	loop_event_done(&bell.event);
	rig_close(&rig);
	floor_freeze_close(floor);
	return err->code;
}

/* ---- interrupts ------------------------------------------------------------------------ */

static int bind_irq(int vm_fd, int fd, struct error *err)
{
	/* To APIC id 0, edge, fixed (SDM 3, 11.11). */
	const struct kvm_route route = {.gsi = IRQ_GSI,
					.addr_lo = 0xfee00000,
					.data = GUEST_VECTOR};
	struct kvm kvm = {.vm_fd = vm_fd};
	int r = kvm_set_msi_routes(&kvm, &route, 1);

	return r < 0 ? error_set(err, r, "routing an interrupt")
		     : kvm_irqfd(&kvm, fd, IRQ_GSI, err);
}

/* Until the guest's handler has counted one. */
static int interrupt(struct bench *b, enum results_side side, struct irq_line *line,
		     const struct guest_area *area, struct error *err)
{
	static const uint64_t one = 1;
	uint32_t before = atomic_load_explicit(&area->answer, memory_order_relaxed);
	uint64_t begin_ns = now_ns(), now = begin_ns;

	if (side == RESULTS_PRODUCT)
		irq_raise(line);
	else if (write(line->fd, &one, sizeof(one)) < 0)
		return error_set(err, -errno, "raising the floor's interrupt");
	/* Acquire: nothing is read behind it, but the time of its coming. */
	while (atomic_load_explicit(&area->answer, memory_order_acquire) == before &&
	       now - begin_ns < PATIENCE_NS)
		now = now_ns();
	if (now - begin_ns >= PATIENCE_NS)
		return error_failed(err, "the guest took no interrupt for %llu s",
				    PATIENCE_NS / 1000000000ull);
	return bench_sample(b, side, (double)(now_ns() - begin_ns), err);
}

static int interrupt_rounds(struct bench *b, struct floor_freeze *floor,
			    struct irq_line *floor_line, struct rig *rig, struct irq_line *line,
			    struct error *err)
{
	const struct guest_area *area = floor_freeze_vm(floor)->vcpu[0].area;
	const struct timespec settle = {.tv_nsec = 200000};
	int r = 0;

	/* Both wait at their hlt, and take nothing from each other. */
	while (r == 0 && bench_round(b, err)) {
		for (unsigned i = 0; r == 0 && i < RINGS / 10; i++) {
			nanosleep(&settle, NULL);
			r = interrupt(b, RESULTS_FLOOR, floor_line, area, err);
		}
		for (unsigned i = 0; r == 0 && i < RINGS / 10; i++) {
			nanosleep(&settle, NULL);
			r = interrupt(b, RESULTS_PRODUCT, line, rig_area(rig, 0), err);
		}
	}
	return err->code;
}

static int measure_interrupt(struct bench *b, struct error *err)
{
	const struct rig_config config = {.count = 1,
					  .program = GUEST_IRQ,
					  .pin = &b->options.cpu[0]};
	const struct timespec settle = {.tv_nsec = 50000000};
	struct irq_line floor_line = {.fd = eventfd(0, EFD_CLOEXEC)};
	struct irq_line line = {.fd = eventfd(0, EFD_CLOEXEC)};
	struct floor_freeze *floor = NULL;
	struct rig rig = {0};
	int r = floor_line.fd < 0 || line.fd < 0
			? error_set_shortage(err, -errno, "making an event descriptor")
			: bench_pin(b, -1, err);

	if (r == 0)
		r = floor_freeze_open(b, 1, GUEST_IRQ, true, &floor, err);
	if (r == 0)
		r = bind_irq(floor_freeze_vm(floor)->fd, floor_line.fd, err);
	if (r == 0)
		r = rig_prepare(&rig, &config, err);
	if (r == 0)
		r = rig_start(&rig, err);
	if (r == 0)
		r = bind_irq(rig.kvm.vm_fd, line.fd, err);
	if (r == 0)
		r = bench_pin(b, 1, err);
	if (r == 0)
		r = floor_freeze_go(floor, err);
	if (r == 0) {
		nanosleep(&settle, NULL);
		r = interrupt_rounds(b, floor, &floor_line, &rig, &line, err);
	}
	rig_close(&rig);
	floor_freeze_close(floor);
	fd_close(&floor_line.fd);
	fd_close(&line.fd);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	static const struct results_spec asleep =
		{"event.bell", "doorbell to an answer, the loop asleep; floor: a blocking read",
		 "ns"};
	static const struct results_spec spin =
		{"event.bell.spin",
		 "doorbell to an answer, the loop spinning; floor: so does a read", "ns"};
	static const struct results_spec irq = {"event.irq",
						"interrupt of a halted guest; floor: write(2)",
						"ns"};

	if (bench_row(b, &asleep, ROUNDS, err))
		(void)!measure_doorbell(b, true, err);
	if (bench_row(b, &spin, ROUNDS, err))
		(void)!measure_doorbell(b, false, err);
	if (bench_row(b, &irq, ROUNDS, err))
		(void)!measure_interrupt(b, err);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"event", "doorbells from the guest and interrupts to it", run};

	return bench_main(&program, argc, argv);
}
