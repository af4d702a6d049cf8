/* What happens while a machine runs, and what it means for the outcome. Control thread. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "vm/machine.h"
#include "vm/machine_perf.h"

/* After a panic the kernel still prints its trace, and resets; both are quick. */
#define PANIC_GRACE_NS 2000000000u
#define TICK_NS	       250000000u
#define NS_PER_S       1000000000u

void machine_end(struct machine *m, enum vm_outcome outcome, int status, const char *fmt, ...)
{
	va_list ap;

	if (m->ended)
		return;
	m->ended = true;
	m->result->outcome = outcome;
	m->result->status = status;
	va_start(ap, fmt);
	vsnprintf(m->result->text, sizeof(m->result->text), fmt, ap);
	va_end(ap);
	progress_set(&m->progress, NULL);
	if (m->loop)
		loop_stop(m->loop);
}

/* The console is a witness of a panic only until init has loaded the panic device's driver: later,
 * anybody may print those words. */
static bool console_panicked(const struct machine *m)
{
	return m->log.panicked && m->session.state == SESSION_WAITING;
}

/* The guest went down by itself; *what happened* is in text. */
static void guest_is_gone(struct machine *m, enum vm_outcome otherwise, const char *text)
{
	bool foreign = m->config->session == VM_SESSION_NONE;

	if (m->panicked || console_panicked(m))
		machine_end(m, VM_PANICKED, 0, "the guest's kernel panicked");
	else if (m->session.state >= SESSION_ENDED)
		machine_end(m, m->session.signalled ? VM_SIGNALLED : VM_EXITED, m->session.status,
			    "%s", m->session.text);
	else if (otherwise == VM_DIED)
		machine_end(m, VM_DIED, 0, "%s", text);
	else if (foreign)
		machine_end(m, VM_EXITED, 0, "%s", text);
	else if (m->session.state == SESSION_WAITING)
		machine_end(m, VM_NO_INIT, 0, "%s before init was reached", text);
	else
		machine_end(m, VM_DIED, 0, "%s while COMMAND was running%s", text,
			    m->log.panicked ? "; its console tells of a panic" : "");
}

static void on_panic(struct machine *m)
{
	if (m->ended || m->grace.slot)
		return;
	machine_tell_panic(m);
	if (loop_timer_set(m->loop, &m->grace, now_ns() + PANIC_GRACE_NS) < 0)
		guest_is_gone(m, VM_PANICKED, "");
}

static void on_legacy(struct legacy *dev, enum legacy_event event)
{
	struct machine *m = dev->arg;

	switch (event) {
	case LEGACY_POWER_OFF:
		guest_is_gone(m, VM_EXITED, "the guest powered off");
		break;
	case LEGACY_RESET:
		m->was_reset = true;
		guest_is_gone(m, VM_EXITED, "the guest reset itself");
		break;
	case LEGACY_PANICKED:
	case LEGACY_CRASH_LOADED:
		m->panicked = true;
		on_panic(m);
		break;
	}
}

const struct legacy_ops machine_legacy_ops = {.event = on_legacy};

void machine_serve(struct vcpu *vcpu, struct kvm_run *run, const struct arch_exit *exit, void *arg)
{
	struct machine *m = arg;
	enum arch_verdict verdict;
	char text[256];

	if (exit->reason == KVM_EXIT_DEBUG) {
		machine_watch_exit(m, exit);
		return;
	}
	verdict =
		arch_exit_serve(m->arch, &m->board.bus, vcpu->index, run, exit, text, sizeof(text));
	switch (verdict) {
	case ARCH_CONTINUE:
		break;
	case ARCH_SHUTDOWN:
	case ARCH_RESET:
		m->was_reset = verdict == ARCH_RESET;
		guest_is_gone(m, VM_EXITED, text);
		break;
	case ARCH_CRASHED:
		m->panicked = true;
		machine_tell_panic(m);
		guest_is_gone(m, VM_PANICKED, text);
		break;
	case ARCH_DIED:
		guest_is_gone(m, VM_DIED, text);
		break;
	}
}

void machine_vcpu_failed(struct vcpu *vcpu, void *arg)
{
	machine_end(arg, VM_DIED, 0, "%s", vcpu->error.what);
}

/* ---- the serial console ---------------------------------------------------------------- */

void machine_uart_output(struct serial *uart, const uint8_t *data, size_t len)
{
	struct machine *m = uart->arg;

	if (uart != &m->board.uart[0])
		return; /* the second one is a test's own channel */
	console_log_add(&m->log, data, len);
	if (m->console_out.loop)
		stream_out_put(&m->console_out, data, len);
	if (console_panicked(m))
		on_panic(m);
}

static void console_read(struct machine *m)
{
	if (!m->console_in.active &&
	    loop_read(m->loop, &m->console_in, STDIN_FILENO, m->console_in_buf,
		      sizeof(m->console_in_buf), UINT64_MAX) < 0)
		m->console_in_len = m->console_in_sent = 0;
}

static void console_push(struct serial *uart)
{
	struct machine *m = uart->arg;

	m->console_in_sent += serial_input(uart, m->console_in_buf + m->console_in_sent,
					   m->console_in_len - m->console_in_sent);
	if (m->console_in_sent == m->console_in_len)
		console_read(m);
}

static void on_console_in(struct loop_op *op, int res)
{
	struct machine *m = container_of(op, struct machine, console_in);

	if (res <= 0) /* end of input: the console stays, output goes on */
		return;
	m->console_in_len = (size_t)res;
	m->console_in_sent = 0;
	console_push(&m->board.uart[0]);
}

/* By the device, and by init: kernels differ in the order that they read the device's in. */
static void tell_size(struct machine *m)
{
	uint16_t cols = m->config->window_cols, rows = m->config->window_rows;

	if (!terminal_size(STDIN_FILENO, &cols, &rows) && !cols)
		return;
	virtio_console_resize(m->board.console, PORT_CONSOLE, cols, rows);
	if (m->session.state >= SESSION_HELLO)
		session_send_size(&m->session, rows, cols);
}

/* ---- init's side of the conversation ---------------------------------------------------- */

static void on_flushed(struct virtio_console_port *port)
{
	struct machine *m = port->arg;

	if (--m->unflushed == 0)
		guest_is_gone(m, VM_EXITED, "");
}

static void on_session(struct session *s)
{
	struct machine *m = s->arg;
	uint64_t now = now_ns();

	switch (s->state) {
	case SESSION_WAITING:
		break;
	case SESSION_HELLO:
		m->result->guest_start_to_init_ns = now - m->started_ns;
		progress_set(&m->progress, NULL);
		machine_monitor_hello(m);
		machine_profile_hello(m);
		machine_watch_hello(m);
		break;
	case SESSION_STARTED:
		m->command_ns = now;
		machine_trace_mark(m, -1, "COMMAND starts");
		machine_perf_command_begins(m);
		machine_profile_begin(m);
		if (m->config->session == VM_SESSION_SHELL)
			tell_size(m);
		break;
	case SESSION_ENDED:
		m->result->command_ns = m->command_ns ? now - m->command_ns : 0;
		machine_trace_mark(m, -1, "COMMAND ends");
		machine_perf_command_ended(m);
		machine_profile_stop(m);
		break;
	case SESSION_DONE:
		m->unflushed = 2;
		virtio_console_flush(m->board.console, PORT_STDOUT);
		virtio_console_flush(m->board.console, PORT_STDERR);
		break;
	}
}

static void session_to_guest(struct session *s, const char *line, size_t len)
{
	struct machine *m = s->arg;

	/* A guest that reads none of its orders loses them; it is not ours to wait for. */
	if (m->board.console)
		(void)virtio_console_input(m->board.console, PORT_CONTROL, line, len);
}

static void on_control_output(struct virtio_console_port *port, const uint8_t *data, size_t len)
{
	struct machine *m = port->arg;

	session_input(&m->session, data, len);
}

/* A reader that went away is COMMAND's business, by SIGPIPE. Anything else is ours. */
static void note_lost_output(struct machine *m, bool errors, int error)
{
	if (error != 0 && error != -EPIPE && !m->lost_output[0])
		snprintf(m->lost_output, sizeof(m->lost_output), VM_LOST_OUTPUT ": %s",
			 errors ? "error" : "output", strerror(-error));
}

static void on_out_failed(struct virtio_console_port *port, int error)
{
	struct machine *m = port->arg;
	bool errors = port == &m->port[PORT_STDERR];

	note_lost_output(m, errors, error);
	session_send_closed(&m->session, errors ? "stderr" : "stdout");
}

/* ---- the host's side ---------------------------------------------------------------------- */

static void on_signal(struct loop_signals *s, int signo)
{
	struct machine *m = container_of(s, struct machine, signals);

	if (signo != SIGWINCH)
		machine_end(m, VM_KILLED, signo, "stopped by %s", strsignal(signo));
	else if (m->board.console)
		tell_size(m);
}

static void on_timeout(struct loop_timer *t)
{
	struct machine *m = container_of(t, struct machine, timeout);
	const char *doing = m->session.state == SESSION_WAITING ? "init was not reached"
			    : m->session.state < SESSION_ENDED	? "COMMAND was still running"
								: "the guest was going down";

	machine_end(m, VM_TIMEOUT, 0, "%g s are over and %s",
		    (double)m->config->timeout_ns / NS_PER_S, doing);
}

static void on_grace_over(struct loop_timer *t)
{
	guest_is_gone(container_of(t, struct machine, grace), VM_PANICKED, "");
}

static void on_tick(struct loop_timer *t)
{
	struct machine *m = container_of(t, struct machine, tick);

	progress_tick(&m->progress);
	if (m->progress.what)
		(void)!loop_timer_set(m->loop, t, now_ns() + TICK_NS);
}

void machine_events_init(struct machine *m)
{
	session_init(&m->session);
	m->session.changed = on_session;
	m->session.send = session_to_guest;
	m->session.arg = m;
	m->timeout.fire = on_timeout;
	m->grace.fire = on_grace_over;
	m->tick.fire = on_tick;
	m->signals.fd = -1;
	m->console_in.done = on_console_in;
	for (unsigned i = 0; i < PORT_COUNT; i++)
		m->port[i] = (struct virtio_console_port){.in_fd = -1,
							  .out_fd = -1,
							  .flushed = on_flushed,
							  .arg = m};
	m->port[PORT_CONSOLE].console = true;
	m->port[PORT_CONTROL].name = SESSION_PORT_CONTROL;
	m->port[PORT_CONTROL].output = on_control_output;
	m->port[PORT_STDIN].name = SESSION_PORT_STDIN;
	m->port[PORT_STDOUT].name = SESSION_PORT_STDOUT;
	m->port[PORT_STDERR].name = SESSION_PORT_STDERR;
	m->port[PORT_STDOUT].out_failed = on_out_failed;
	m->port[PORT_STDERR].out_failed = on_out_failed;
	if (m->config->session == VM_SESSION_COMMAND) {
		m->port[PORT_STDIN].in_fd = STDIN_FILENO;
		m->port[PORT_STDOUT].out_fd = STDOUT_FILENO;
		m->port[PORT_STDERR].out_fd = STDERR_FILENO;
	} else if (m->config->session == VM_SESSION_SHELL) {
		m->port[PORT_CONSOLE].in_fd = STDIN_FILENO;
		m->port[PORT_CONSOLE].out_fd = STDOUT_FILENO;
	}
}

int machine_events_start(struct machine *m, struct error *err)
{
	static const int signos[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
	bool foreign = m->config->session == VM_SESSION_NONE;

	m->signals.fire = on_signal;
	if (foreign)
		stream_out_init(&m->console_out, m->loop, STDOUT_FILENO);
	else if (m->config->verbosity > 0)
		stream_out_init(&m->console_out, m->loop, STDERR_FILENO);
	return loop_signals_init(m->loop, &m->signals, signos, ARRAY_SIZE(signos), err);
}

int machine_events_running(struct machine *m, struct error *err)
{
	bool foreign = m->config->session == VM_SESSION_NONE;
	int r = 0;

	m->started_ns = now_ns();
	if (m->config->timeout_ns)
		r = loop_timer_set(m->loop, &m->timeout, m->started_ns + m->config->timeout_ns);
	if (!foreign && !m->console_out.loop && m->session.state == SESSION_WAITING) {
		progress_set(&m->progress, "booting the guest");
		if (r == 0)
			r = loop_timer_set(m->loop, &m->tick, m->started_ns + TICK_NS);
	}
	if (r < 0)
		return error_set(err, r, "setting a timer");
	if (foreign) {
		m->board.uart[0].drained = console_push;
		console_read(m);
	}
	if (foreign || m->port[PORT_CONSOLE].in_fd >= 0)
		terminal_make_raw(&m->terminal, STDIN_FILENO);
	tell_size(m);
	/* One that goes on from a snapshot has come there now; the end is the devices' matter. */
	if (m->session.state != SESSION_DONE)
		on_session(&m->session);
	return 0;
}

void machine_events_resumed(struct machine *m)
{
	/* Not where it came there just now. */
	if (m->session.state == SESSION_DONE && !m->unflushed && !m->ended)
		on_session(&m->session);
}

bool machine_events_done(struct machine *m, uint64_t limit_ns)
{
	bool ended;

	terminal_restore(&m->terminal);
	progress_set(&m->progress, NULL);
	if (!m->loop)
		return true;
	loop_timer_clear(m->loop, &m->timeout);
	loop_timer_clear(m->loop, &m->grace);
	loop_timer_clear(m->loop, &m->tick);
	ended = loop_cancel_wait(m->loop, &m->console_in, limit_ns);
	/* What the console still holds is wanted most when things went wrong; but not for ever. */
	for (uint64_t end_ns = now_ns() + NS_PER_S / 5;
	     m->console_out.loop && !stream_out_empty(&m->console_out) && now_ns() < end_ns;)
		if (loop_turn(m->loop, end_ns - now_ns()) < 0)
			break;
	ended = stream_out_done(&m->console_out, limit_ns) && ended;
	if (m->config->session == VM_SESSION_NONE)
		note_lost_output(m, false, m->console_out.error);
	/* COMMAND may not have noticed; whoever reads its status has to. */
	if (m->lost_output[0] &&
	    (m->result->outcome == VM_EXITED || m->result->outcome == VM_SIGNALLED)) {
		m->result->outcome = VM_ERROR;
		snprintf(m->result->text, sizeof(m->result->text), "%s", m->lost_output);
	}
	if (m->signals.fd >= 0)
		loop_signals_done(&m->signals);
	return ended;
}
