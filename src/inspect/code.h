/* All code of a guest's kernel, and the names of it: the image's, modules', BPF programs'. Any
 * thread, one at a time. What was loaded when it was opened; names of modules and programs are
 * read when they are asked for, so the guest had better stand still. Everything is hostile: past
 * 2^20 symbols of modules, further modules have addresses and no names. */
#ifndef STASIS_INSPECT_CODE_H
#define STASIS_INSPECT_CODE_H

#include "inspect/inspect.h"
#include "inspect/lacks.h"

struct code;

/* in outlives it. What can't be found goes to lacks; without BTF that is all but the image.
 * -ENOMEM. */
int code_open(const struct inspect *in, struct lacks *lacks, struct code **ret_code) MUST_CHECK;
void code_free(struct code *code); /* accepts NULL */

/* Reads all that questions would read later but names: from then on code_is_known, code_function,
 * code_table and code_read change nothing, for many threads at once. At most 40 MiB. An unwind
 * table of the image that can't be read goes to lacks. -ENOMEM. */
int code_prepare(struct code *code, struct lacks *lacks) MUST_CHECK;
/* The guest's memory, with the image's unwind table as code_prepare found it. -EFAULT. */
int code_read(const struct code *code, uint64_t gva, void *dst, size_t len) MUST_CHECK;

/* Whether gva is code that is known. Reads nothing of the guest's. */
bool code_is_known(const struct code *code, uint64_t gva);
/* Where the function that gva is in begins; 0: gva is no code that is known. */
uint64_t code_function(struct code *code, uint64_t gva);
/* The unwind table that covers gva; false: none. */
bool code_table(const struct code *code, uint64_t gva, struct arch_unwind_table *ret_table);
/* "schedule+0x12/0x34", "vring_interrupt+0x5/0x90 [virtio_ring]", "bpf_prog_…+0x1/0x2 [bpf]", or
 * "0xffff…". back: gva is an address to return to, which may lie past its function's end. */
void code_format(struct code *code, uint64_t gva, bool back, char *buf, size_t len);

#endif
