/* VMCOREINFO: what a Linux kernel says of itself for crash dumps, one KEY=VALUE a line, kept in a
 * page of guest RAM (Documentation/admin-guide/kdump/vmcoreinfo.rst). Any thread; the guest may
 * put anything there.
 *
 *   a page of its own   OSRELEASE=6.12…\nBUILD-ID=…\n…
 *   and as ELF note     [namesz 11][descsz][type 0]["VMCOREINFO\0" + pad] OSRELEASE=6.12…\n…
 */
#ifndef STASIS_INSPECT_VMCOREINFO_H
#define STASIS_INSPECT_VMCOREINFO_H

#include "guest/reader.h"

#define VMCOREINFO_MAX 4096 /* bytes of text: the kernel's own limit where pages are 4 KiB */

struct vmcoreinfo {
	uint64_t gpa; /* of the text */
	size_t len;
	char text[VMCOREINFO_MAX + 1]; /* NUL after len bytes, none before */
};

/* The next page at or after *gpa that looks like one, in ascending order; *gpa moves past it.
 * -ENOENT: no more. Start with 0. A stale or planted copy looks the same: the caller checks where
 * its addresses lead. Reads one line of each page of RAM, and of *pages at most, which are taken
 * from it: -EAGAIN, and *gpa is where to go on. */
int vmcoreinfo_next(const struct guest_reader *mem, uint64_t *gpa, uint64_t *pages,
		    struct vmcoreinfo *ret_info) MUST_CHECK;
/* The value of a line, by its whole key, into buf (NUL-terminated, no control characters).
 * False: no such line, or it doesn't fit. */
bool vmcoreinfo_text(const struct vmcoreinfo *info, const char *key, char *buf, size_t len);
/* The same as a number: "SYMBOL(…)" and "KERNELOFFSET" are hexadecimal; all else is decimal, or
 * hexadecimal after 0x (include/linux/vmcore_info.h). Negative numbers are two's complement. arg is
 * a struct vmcoreinfo. */
bool vmcoreinfo_number(const void *arg, const char *key, uint64_t *ret_value);

#endif
