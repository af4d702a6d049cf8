/* Freezes, makes what was asked for, and lets go who nobody else holds. Control thread. */
#include "vm/capture.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "vm/machine.h"

/* Hits can come without end, and cores are large: a run makes so many sets of files. */
#define SETS_MAX 100

/* ---- what is known of the kernel ----------------------------------------------------------- */

static bool variable(void *arg, const char *name, uint64_t *ret_value)
{
	const struct inspect *in = arg;
	uint64_t gva;

	return inspect_symbol(in, name, &gva, NULL) == 0 &&
	       space_read_uint(&in->space, gva, 8, ret_value) == 0;
}

/* The kernel's image, which lies in one piece. */
static void find_text(const struct inspect *in, struct vmcore_kernel *k)
{
	uint64_t start, end, gpa;

	if (inspect_symbol(in, "_text", &start, NULL) < 0 ||
	    inspect_symbol(in, "_end", &end, NULL) < 0 || end <= start ||
	    space_translate(&in->space, start, &gpa) < 0)
		return;
	k->text_gva = start;
	k->text_gpa = gpa;
	k->text_len = end - start;
}

/* in: or NULL. What k points to is in's. */
static void know_kernel(const struct inspect *in, struct vmcore_kernel *k)
{
	uint64_t base, gpa;

	*k = (struct vmcore_kernel){0};
	if (!in)
		return;
	k->info = in->info.text;
	k->info_len = in->info.len;
	find_text(in, k);
	/* Believed only if the kernel's own page tables agree. */
	if (k->text_len &&
	    arch_direct_map(&(struct arch_kernel_info){vmcoreinfo_number, &in->info}, variable,
			    (void *)(uintptr_t)in, &base) == 0 &&
	    space_translate(&in->space, base + k->text_gpa, &gpa) == 0 && gpa == k->text_gpa) {
		k->has_direct = true;
		k->direct = base;
	}
}

/* ---- notes ---------------------------------------------------------------------------------- */

/* In the entry of this freeze: the file, or why it isn't there. */
static void note(struct capture *c, const char *what, const char *path, const struct error *err)
{
	struct capture_state *s = &c->machine->capture;
	char key[32];

	if (!s->noted)
		s->noted = json_object();
	snprintf(key, sizeof(key), "%s%s", what, err ? "_error" : "");
	json_object_set_new(s->noted, key,
			    json_string(err ? err->what : path) ?: json_string("(not UTF-8)"));
	if (!err)
		return;
	if (c->error.code == 0)
		c->error = *err;
	if (c->own) {
		log_failure(err);
		vm_result_degraded(c->machine->result, err->what);
	}
}

/* ---- one capture ------------------------------------------------------------------------------
 */

static void work(struct machine *m);

/* Takes c off, and tells who asked. */
static void tell(struct capture *c)
{
	struct machine *m = c->machine;
	struct error err = c->error;

	STAILQ_REMOVE(&m->capture.queue, c, capture, link);
	c->done(c, err.code < 0 ? &err : NULL);
}

/* The guest was frozen for it. */
static void finish(struct capture *c)
{
	struct machine *m = c->machine;

	tell(c);
	/* A machine that ends does not run once more. */
	if (!m->capture.ended)
		freeze_leave(&m->freeze);
}

/* The JSON dump, of whoever has parked. */
static void make_dump(struct capture *c, const struct inspect *in, const struct error *lack)
{
	struct machine *m = c->machine;
	const struct dump_config config = {
		.cause = &c->cause,
		.freeze = &m->freeze,
		.pool = m->pool,
		.inspect = in,
		.inspect_lack = in ? NULL : lack->what,
		.release = m->config->kernel_release,
	};
	struct error err = {0};

	if (c->json || (!c->dump_path && !c->wants_json))
		return;
	c->json = dump_make(&config);
	if (!c->json) {
		error_set(&err, -ENOMEM, "making a dump");
		note(c, "dump", NULL, &err);
	} else if (c->dump_path) {
		int r = vm_json_write(json_incref(c->json), "dump", c->dump_path, &err);

		note(c, "dump", c->dump_path, r < 0 ? &err : NULL);
	}
}

static void on_core(struct vmcore *v, const struct error *err, void *arg)
{
	struct capture *c = arg;
	struct machine *m = c->machine;
	struct capture_state *s = &m->capture;

	vmcore_progress(v, &s->core_done, &s->core_total);
	s->core = err ? CORE_FAILED : CORE_COMPLETED;
	if (!err)
		log_info("core %s: %llu of %llu MiB of RAM were in use", c->vmcore_path,
			 (unsigned long long)(vmcore_written(v) >> 20),
			 (unsigned long long)(s->core_total >> 20));
	note(c, "vmcore", c->vmcore_path, err);
	machine_tell_core(m, err);
	s->vmcore = NULL;
	vmcore_free(v); /* err with it */
	finish(c);
	work(m);
}

/* False: there is none to wait for. */
static bool begin_core(struct capture *c, const struct inspect *in)
{
	struct machine *m = c->machine;
	unsigned count = vcpu_pool_count(m->pool);
	CLEANUP_FREE const struct arch_vcpu_state **cpu = calloc(count, sizeof(*cpu));
	struct vmcore_kernel kernel;
	struct vmcore_config config = {
		.loop = m->loop,
		.mem = &m->mem,
		.cpu = cpu,
		.cpus = count,
		.kernel = &kernel,
		.path = c->vmcore_path,
		.done = on_core,
		.arg = c,
	};
	struct error err = {0};
	int r;

	if (!c->vmcore_path)
		return false;
	know_kernel(in, &kernel);
	for (unsigned i = 0; cpu && i < count; i++) {
		const struct vcpu *vcpu = vcpu_pool_get(m->pool, i);

		cpu[i] = vcpu->capture_error ? NULL : vcpu->state;
	}
	r = cpu ? vmcore_start(&config, &m->capture.vmcore, &err)
		: error_set(&err, -ENOMEM, "writing the core %s", c->vmcore_path);
	m->capture.core = r < 0 ? CORE_FAILED : CORE_ACTIVE;
	if (r == 0)
		return true;
	m->capture.core_done = m->capture.core_total = 0;
	note(c, "vmcore", NULL, &err);
	machine_tell_core(m, &err);
	return false;
}

/* Goes through the queue until something takes its time. */
static void work(struct machine *m)
{
	struct capture_state *s = &m->capture;
	struct capture *c;

	while (!s->vmcore && !s->ended && (c = STAILQ_FIRST(&s->queue))) {
		const struct inspect *in = NULL;
		struct error lack = {0};

		if (!c->frozen)
			return; /* it is told soon */
		if (c->dump_path || c->wants_json || c->vmcore_path)
			(void)!machine_inspect(m, &in, &lack);
		make_dump(c, in, &lack);
		if (begin_core(c, in))
			return;
		finish(c);
	}
}

static void on_frozen(struct freeze_wait *wait, const struct error *err)
{
	struct capture *c = container_of(wait, struct capture, wait);
	struct machine *m = c->machine;

	c->frozen = true;
	if (!err) {
		work(m);
		return;
	}
	/* A dump of those that did park is better than none, and says so. */
	if (!c->json || c->dump_path || c->vmcore_path)
		c->error = *err;
	if (c->own && (c->dump_path || c->vmcore_path))
		vm_result_degraded(m->result, err->what);
	tell(c);
}

void machine_capture_late(struct machine *m)
{
	const struct inspect *in = NULL;
	struct error lack = {0};
	struct capture *c;

	STAILQ_FOREACH (c, &m->capture.queue, link) {
		if (!in && (c->dump_path || c->wants_json))
			(void)!machine_inspect(m, &in, &lack);
		make_dump(c, in, &lack);
	}
}

/* ---- what others ask ------------------------------------------------------------------------- */

int machine_capture(struct machine *m, struct capture *c, struct error *err)
{
	int r;

	if (!m->started_ns || m->ended || m->capture.ended)
		return error_set(err, -ESHUTDOWN, "dumping a machine that does not run");
	c->machine = m;
	c->wait.done = on_frozen;
	STAILQ_INSERT_TAIL(&m->capture.queue, c, link);
	r = machine_freeze_begin(m, c->cause.name, false, &c->wait, err);
	if (r < 0)
		STAILQ_REMOVE(&m->capture.queue, c, capture, link);
	return r;
}

/* FILE, FILE.2, FILE.3: the evidence of an earlier hit stays. *ret_path NULL: no such file asked.
 */
static int path_of_set(const char *path, unsigned set, char **ret_path)
{
	*ret_path = NULL;
	if (!path)
		return 0;
	*ret_path = set == 1 ? strdup(path) : text_format("%s.%u", path, set);
	return *ret_path ? 0 : -ENOMEM;
}

static void own_free(struct capture *c)
{
	json_decref(c->json);
	free(c->dump_path);
	free(c->vmcore_path);
	free(c);
}

static void own_done(struct capture *c, const struct error *err UNUSED)
{
	/* What failed was noted. */
	own_free(c);
}

int machine_freeze_and_capture(struct machine *m, const struct dump_cause *cause,
			       enum capture_then then, struct error *err)
{
	struct capture *c = calloc(1, sizeof(*c));
	const struct vm_config *config = m->config;
	bool files = config->dump || config->vmcore;
	int r = c ? 0 : -ENOMEM;

	/* Out of a lab, one set is taken. */
	if (files && m->capture.files >= (m->result->lab ? 1 : SETS_MAX)) {
		vm_result_degraded(m->result, "dumps: more than a run keeps; later ones are left "
					      "out");
		files = false;
	}
	if (r == 0 && files) {
		m->capture.files++;
		r = path_of_set(config->dump, m->capture.files, &c->dump_path);
		if (r == 0)
			r = path_of_set(config->vmcore, m->capture.files, &c->vmcore_path);
	}
	if (r < 0) {
		if (c)
			own_free(c);
		return error_set(err, r, "freezing the guest (%s)", cause->name);
	}
	c->cause = *cause;
	c->own = true;
	c->done = own_done;
	r = machine_capture(m, c, err);
	if (r < 0)
		own_free(c);
	else if (then == CAPTURE_STAY &&
		 machine_freeze_begin(m, cause->name, false, NULL, err) == 0)
		machine_freeze_stay(m);
	return r;
}

bool machine_capture_kill(struct machine *m, uint64_t limit_ns)
{
	struct capture_state *s = &m->capture;
	struct capture *c, *next;

	s->ended = true;
	if (s->vmcore && !vmcore_cancel_wait(s->vmcore, limit_ns))
		return false;
	/* Those that were not told yet are, by the freeze's end. */
	STAILQ_FOREACH_SAFE(c, &s->queue, link, next)
	{
		if (!c->frozen)
			continue;
		error_set(&c->error, -ESHUTDOWN, "dumping the guest: the machine ended before");
		tell(c);
	}
	return true;
}
