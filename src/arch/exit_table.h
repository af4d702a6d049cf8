/* Exits by a table of handlers, and the handlers that every architecture has alike. Private to
 * src/arch; exits.c of each architecture has the table. Control thread, but where named. */
#ifndef STASIS_ARCH_EXIT_TABLE_H
#define STASIS_ARCH_EXIT_TABLE_H

#include "arch/arch.h"
#include "base/log.h"

/* What arch_exit_serve was given, for a handler. */
struct exit_context {
	struct bus *bus;
	unsigned vcpu;
	struct kvm_run *run;
	char *text; /* len bytes: what happened, on any verdict but ARCH_CONTINUE */
	size_t len;
	uint64_t *unknown_events; /* of the machine: system events that mean nothing here */
	struct log_limit *event_log;
};

typedef enum arch_verdict (*exit_handler)(const struct exit_context *c);

/* vCPU thread. A write to memory-mapped I/O that fits is posted: out says so. */
void exit_post_mmio_write(const struct kvm_run *run, struct arch_exit *out);

/* Writes what was posted; else asks the handler at exit->reason, whose lack is the end of the
 * machine. */
enum arch_verdict exit_serve(const exit_handler *handlers, size_t count,
			     const struct exit_context *c, const struct arch_exit *exit);

enum arch_verdict exit_serve_mmio(const struct exit_context *c);
enum arch_verdict exit_serve_system_event(const struct exit_context *c);
enum arch_verdict exit_serve_fail_entry(const struct exit_context *c);
enum arch_verdict exit_serve_nothing(const struct exit_context *c);

#endif
