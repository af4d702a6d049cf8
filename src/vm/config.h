/* A machine as it was asked for, resolved and checked: what `run` builds and --dry-run prints. */
#ifndef STASIS_VM_CONFIG_H
#define STASIS_VM_CONFIG_H

#include <jansson.h>
#include <stdbool.h>

#include "arch/kinds.h"
#include "freeze/watch_expr.h"
#include "guest/topology.h"
#include "vm/disk.h"
#include "vm/net.h"
#include "vm/perf/claim.h"

/* What stasis's streams are connected to. */
enum vm_session {
	VM_SESSION_COMMAND, /* COMMAND's standard streams, by our init */
	VM_SESSION_SHELL,   /* a shell on the virtio console, by our init */
	VM_SESSION_NONE,    /* the serial console: a foreign initramfs, which knows nothing of us */
};

struct vm_include {
	char *src, *dst;
};

/* What becomes of a watch that fired. */
enum vm_on_hit {
	VM_ON_HIT_DUMP,	  /* the first of each: frozen, dumped, and on */
	VM_ON_HIT_FREEZE, /* … and stays frozen until a control socket thaws it */
	VM_ON_HIT_LOG,	  /* each is a line, and nothing stops */
};

/* What becomes of a run queue that stands still. */
enum vm_on_stall {
	VM_ON_STALL_LOG,
	VM_ON_STALL_DUMP,   /* frozen, dumped, and on */
	VM_ON_STALL_FREEZE, /* … and stays frozen until a control socket thaws it */
};

#define VM_MAX_WATCHES 3

struct restore; /* vm/snapshot.h */

struct vm_config {
	const struct arch_kind *kind; /* of the guest; NULL: of this program */
	char *name;		      /* unique; the folder in the runtime directory */
	char *kernel;		      /* path */
	char *kernel_name;	      /* what messages call it; NULL: its path */
	char *lacks;		      /* what the report shall list as degraded, or NULL */
	char *kernel_release;	      /* "6.12.117+deb12-cloud-amd64", or NULL if unknown */
	char *initrd;		      /* path, or NULL: build one */
	enum vm_session session;
	char *modules;			 /* lib/modules/VERSION, or NULL */
	const char *const *more_modules; /* besides the usual; NULL-terminated, static, or NULL */
	char *append;			 /* or NULL */
	char *cpu_vendor; /* tests: CPUID leaves of "amd" or "intel"; NULL: the host's */
	char **command;	  /* NULL-terminated, or NULL: a shell on the console */
	struct vm_include *includes;
	size_t include_count;
	struct vm_disk disk[VM_MAX_DISKS];
	size_t disk_count;
	struct vm_net net[VM_MAX_NETS];
	size_t net_count;
	struct topology topology; /* memory included */
	bool hugepages;		  /* guest memory on the host's 2 MiB pages */
	int *pin;		  /* host CPU of each vCPU, or NULL */
	struct perf_request perf;
	uint16_t window_cols,
		window_rows;	/* of the terminal, where it is not ours to ask; else 0 */
	uint64_t timeout_ns;	/* 0: none */
	uint64_t freeze_at_ns;	/* once, after the guest's start; 0: never */
	uint64_t freeze_for_ns; /* … and for how long; 0: no longer than it takes */
	bool watch_scx;
	struct watch_expr watch[VM_MAX_WATCHES];
	unsigned watch_count;
	enum vm_on_hit on_hit;
	char *dump, *vmcore; /* paths, or NULL: what a hit or freeze_at leaves behind */
	bool counters;	     /* of the guest alone, by the host's PMU */
	uint64_t monitor_ns; /* interval between looks at run queues; 0: none */
	char *monitor_out;   /* path, or NULL */
	enum vm_on_stall on_stall;
	unsigned profile_hz;	 /* 0: no profile */
	char *profile_out;	 /* path, or NULL */
	char *report;		 /* path, or NULL */
	char *trace_out;	 /* path, or NULL */
	char *record;		 /* folder, or NULL: the paths above lie in it */
	char *qmp;		 /* path of another control socket, or NULL */
	bool prefault;		 /* with restore: copy all memory before the guest goes on */
	struct restore *restore; /* begin from there; NULL: boot. Owned */
	char snapshot_id[33];	 /* with restore: what its memory ends with; empty: nothing does */
	char *snapshot_base;	 /* … the folder that it differs from, or NULL */
	char snapshot_base_id[33]; /* … what that one's memory ends with */
	char *lab_snapshot;	   /* in the lab: begin from its folder in there; NULL: boot */
	int verbosity;		   /* -1 quiet, 0, 1, 2 */
};

const char *vm_session_name(enum vm_session session); /* "command", "shell", "console" */
const char *vm_on_hit_name(enum vm_on_hit on_hit);
const char *vm_on_stall_name(enum vm_on_stall on_stall);
void vm_config_done(struct vm_config *c); /* accepts a zeroed one */
/* Gives its networks their addresses; once its name stands. */
void vm_config_settle(struct vm_config *c);
/* The resolved configuration; the caller owns the reference. NULL when out of memory. */
json_t *vm_config_json(const struct vm_config *c);

/* An array, or null. */
json_t *vm_command_json(char *const *command);

/* What others are told of the machine in short, as info.json and x-stasis-status have it; pid is
 * this process's. NULL when out of memory. */
json_t *vm_config_brief(const struct vm_config *c, const char *state, bool lab);

#endif
