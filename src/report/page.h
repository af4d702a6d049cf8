/* The page itself, around its data: made of the files in page/ and of d3 when stasis was built. */
#ifndef STASIS_REPORT_PAGE_H
#define STASIS_REPORT_PAGE_H

#include <stddef.h>

/* Both are empty where d3 was not there to be taken in. */
extern const unsigned char report_page_before[], report_page_after[];
extern const size_t report_page_before_len, report_page_after_len;

#endif
