/* Attributes and small macros that every file may use. */
#ifndef STASIS_BASE_COMPILER_H
#define STASIS_BASE_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK	  __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define CACHE_LINE	  64
#define CACHE_ALIGNED	  __attribute__((aligned(CACHE_LINE)))
#define UNUSED		  __attribute__((unused))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* align is a power of two; the caller has checked that v + align does not overflow. */
#define ALIGN_UP(v, align)   (((v) + ((align)-1)) & ~((typeof(v))(align)-1))
#define ALIGN_DOWN(v, align) ((v) & ~((typeof(v))(align)-1))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* In a spin: tells the core (and, on x86, a hypervisor beneath) that this is a wait. */
static inline void cpu_relax(void)
{
#if defined(__has_builtin) && __has_builtin(__builtin_ia32_pause)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

#endif
