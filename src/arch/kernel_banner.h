/* The release that a kernel's own words name. Pure. Any thread. */
#ifndef STASIS_ARCH_KERNEL_BANNER_H
#define STASIS_ARCH_KERNEL_BANNER_H

#include <stddef.h>

/* Bytes that a banner may take: two blocks of a file that overlap by so many lose none. */
#define KERNEL_BANNER_MAX 144

/* The first word of text, which a space or NUL ends within room bytes; NULL if it is none. It is
 * printed, and names a folder of modules. malloc'ed. */
char *kernel_release_word(const char *text, size_t room);
/* The release in Linux's banner ("Linux version 6.12.117 (builder) …", init/version-timestamp.c),
 * wherever it is in these bytes; NULL if it is not. malloc'ed. */
char *kernel_banner_release(const char *data, size_t len);

#endif
