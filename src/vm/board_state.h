/* The devices' part of a snapshot: a section for each, by name. Control thread. */
#ifndef STASIS_VM_BOARD_STATE_H
#define STASIS_VM_BOARD_STATE_H

#include "freeze/snapshot_state.h"
#include "vm/board.h"

/* The board is held, and every vCPU's last write has been served. */
void board_state_save(struct board *b, struct snapshot_writer *w);
/* Into a board of the same devices that was quiesced before any vCPU ran. Hostile input: refused by
 * name; the board is to be freed then. */
int board_state_restore(struct board *b, struct snapshot_state *state,
			struct error *err) MUST_CHECK;
/* Once vCPUs and interrupt controllers are restored, and before any runs: interrupts have their
 * ways, and the guest's first instruction finds pending that it is another generation. */
void board_state_settle(struct board *b);
/* After it, instead of board_release: what is pending is
 * raised again, since its edge may be lost, and queues are looked at. */
void board_state_resume(struct board *b);

#endif
