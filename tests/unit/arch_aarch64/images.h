/* Small arm64 kernel files for tests. */
#ifndef STASIS_TESTS_UNIT_ARCH_AARCH64_IMAGES_H
#define STASIS_TESTS_UNIT_ARCH_AARCH64_IMAGES_H

#include <string.h>

#include "base/compiler.h"

#define IMAGE_LEN  0x3000u
#define IMAGE_SIZE UINT64_C(0x8000)

/* Documentation/arch/arm64/booting.rst: an Image of IMAGE_LEN bytes that takes IMAGE_SIZE. */
static inline void image_make(uint8_t image[IMAGE_LEN], uint64_t text_offset)
{
	uint64_t size = IMAGE_SIZE, flags = 0xa;

	for (unsigned i = 0; i < IMAGE_LEN; i++)
		image[i] = (uint8_t)(i * 7 + i / 256);
	memcpy(image, "MZ\x40\xfa", 4);
	memcpy(image + 8, &text_offset, 8);
	memcpy(image + 16, &size, 8);
	memcpy(image + 24, &flags, 8);
	memset(image + 32, 0, 32);
	memcpy(image + 56, "ARM\x64", 4);
	memcpy(image + 0x800, "Linux version %s (", 18);
	memcpy(image + 0x900, "Linux version 6.12.9-arm64 (builder) #1", 40);
}

#endif
