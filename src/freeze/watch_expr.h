/* What a person types to watch: PLACE[:BYTES][OP VALUE]. Pure. Any thread. */
#ifndef STASIS_FREEZE_WATCH_EXPR_H
#define STASIS_FREEZE_WATCH_EXPR_H

#include "base/error.h"
#include "vcpu/watch.h"

struct watch_expr {
	char *text;	/* as it was typed */
	char *place;	/* SYMBOL[->FIELD|.FIELD|[N]]…; NULL: the address gva */
	uint64_t gva;	/* of a place without a symbol; aligned, the kernel's */
	unsigned bytes; /* 1, 2, 4 or 8; 0: as many as what is at place has */
	struct watch_test test;
};

/* "jiffies_64:8&0x3ff", "scx_root->exit_kind>=1024", "0xffff888001234560:4". Usage error: what is
 * wrong, and what is accepted. */
int watch_expr_parse(const char *text, struct watch_expr *ret_expr, struct error *err) MUST_CHECK;
void watch_expr_done(struct watch_expr *expr); /* accepts a zeroed one */
/* Whether a value of so many bytes can ever pass. */
bool watch_expr_can_pass(const struct watch_expr *expr, unsigned bytes);

#endif
