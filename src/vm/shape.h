/* A CPU shape shown: as a drawing, as JSON, as the tables that tell the guest of it. Pure but for
 * the output; control thread. */
#ifndef STASIS_VM_SHAPE_H
#define STASIS_VM_SHAPE_H

#include <jansson.h>
#include <stdio.h>

#include "guest/topology.h"

/* Nodes with their CPUs, memory and distances; caches; each CPU's place and id. The caller owns the
 * reference. -ENOMEM, or contention where the memory can't be laid out. */
int shape_json(const struct topology *t, json_t **ret_json, struct error *err) MUST_CHECK;
/* For a terminal of columns characters. */
int shape_draw(const struct topology *t, FILE *out, unsigned columns, struct error *err) MUST_CHECK;
/* The tables of a machine with the usual devices, to path: arch_tables_write. */
int shape_tables(const struct topology *t, const char *path, struct error *err) MUST_CHECK;

#endif
