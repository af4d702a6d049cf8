/* The devices' part of a snapshot: a section for each, by name. Control thread, the board held. */
#ifndef STASIS_VM_BOARD_STATE_H
#define STASIS_VM_BOARD_STATE_H

#include "freeze/snapshot_state.h"
#include "vm/board.h"

/* Whether the state of every device can be saved: a usage error that names the first whose can't. A
 * virtio device that no driver has touched has none. */
int board_state_check(const struct board *b, struct error *err) MUST_CHECK;
void board_state_save(struct board *b, struct snapshot_writer *w);
/* Before any vCPU runs. Hostile input: refused by name. */
int board_state_restore(struct board *b, struct snapshot_state *state,
			struct error *err) MUST_CHECK;

#endif
