/* Watched stores that are the second of a pair: load-exclusive, store-exclusive. The exception that
 * tells of one takes the pair apart, so that it fails whenever it is stepped, and the guest tries
 * again for ever. They are done here instead. vCPU threads.
 *
 *   trap: fails; the word is noted ──► the guest loads it again ──► trap: compared with the note,
 * and exchanged if nobody stored meanwhile
 *
 * What the guest has loaded in between is the note: no store came between, since each traps and is
 * counted, and the load was this pair's, since the stack is the same. Who compares finds the same
 * value, or fails once more; somebody else has stored then.
 *
 * Counts are of one watch each, since only stores to the pair's own word may make it fail: a word
 * that others store to for ever starves its own pairs, as on hardware, and no other's. A store
 * counts in all the watches that it may be to, before it is done: one that turns out to be to
 * another traps there first. Of a word that is watched in part, stores to the rest do not trap, and
 * the comparison alone tells of them. */
#ifndef STASIS_VCPU_EXCLUSIVE_H
#define STASIS_VCPU_EXCLUSIVE_H

#include <stdatomic.h>

#include "arch/arch.h"

/* Of one of a pool's watches: stores that are under way, and those that are done. */
struct vcpu_stores {
	_Atomic uint32_t under_way;
	_Atomic uint64_t done;
};

/* A vCPU thread's own. */
struct vcpu_pair {
	bool noted;
	uint64_t pc, context, gva;   /* of the store that failed */
	uint32_t slots;		     /* … its watches, bit n for slot n … */
	uint64_t done[ARCH_WATCHES]; /* … their stores by then … */
	unsigned __int128 value;     /* … and the word after them */
};

/* Around each watched store of another kind, to slots. */
void vcpu_stores_begin(struct vcpu_stores stores[ARCH_WATCHES], uint32_t slots);
void vcpu_stores_end(struct vcpu_stores stores[ARCH_WATCHES], uint32_t slots);
/* The slot has another watch: what came before its stores were counted is not known. */
void vcpu_stores_begin_anew(struct vcpu_stores *stores);

/* slots: the watches that it is to; host: the bytes at store->gva, aligned as they are. True: done;
 * the caller calls vcpu_stores_end once it has looked at the word. False: it has failed, and the
 * guest tries again.
 */
bool vcpu_exclusive(struct vcpu_stores stores[ARCH_WATCHES], uint32_t slots, struct vcpu_pair *pair,
		    const struct arch_store *store, uint8_t *host) MUST_CHECK;

#endif
