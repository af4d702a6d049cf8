/* Contents as 128 bits (XXH3): to know them again, not to prove anything. Any thread. */
#ifndef STASIS_VM_LAB_DIGEST_H
#define STASIS_VM_LAB_DIGEST_H

#include <stddef.h>

#include "vm/lab/message.h"

/* Of fd from its start to its end, with pread; *ret_size: bytes. */
int digest_fd(int fd, uint8_t hash[MESSAGE_HASH], uint64_t *ret_size) MUST_CHECK;
#define DIGEST_HEX (2 * MESSAGE_HASH + 1)
void digest_to_hex(const uint8_t hash[MESSAGE_HASH], char hex[DIGEST_HEX]);
/* -EINVAL where it is no digest. */
int digest_from_hex(const char *hex, uint8_t hash[MESSAGE_HASH]) MUST_CHECK;
/* Of this program's file. */
int digest_self(uint8_t hash[MESSAGE_HASH], struct error *err) MUST_CHECK;

#endif
