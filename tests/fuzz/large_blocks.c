/* large_blocks.c: large pieces of memory are kept for the next time.
 *
 * The core takes a few pieces of 256 KiB and 1 MiB each time it looks at a segment. Under the sanitizer each is made by the system and
 * given back to it, which takes ten times as long as the parsing. Here they go round; while nobody has them they are poisoned, so
 * that a use after their end is seen as before.
 */
#include <sanitizer/asan_interface.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { KINDS = 2, KEPT_MAX = 16, FRONT = 4096 };

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void *p);
const char *__asan_default_options(void);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void __wrap_free(void *p);

/* Speed: shadow memory is written, not given back to the system; where a block was made is of no use in a program that repeats each run. */
const char *__asan_default_options(void) {
    return "clear_shadow_mmap_threshold=100000000:quarantine_size_mb=4:malloc_context_size=1";
}

static const size_t sizes[KINDS] = {262144, 1 << 20};

static struct slot {
    void *block; /* made once, stays */
    atomic_int used;
} slots[KINDS][KEPT_MAX];

static void *take(size_t bytes) {
    for (int k = 0; k < KINDS; k++) {
        for (int i = 0; bytes == sizes[k] && i < KEPT_MAX; i++) {
            struct slot *s = &slots[k][i];
            if (atomic_exchange(&s->used, 1)) continue;
            if (!s->block) s->block = __real_aligned_alloc(FRONT, bytes);
            else __asan_unpoison_memory_region(s->block, bytes);
            return s->block;
        }
    }
    return NULL;
}

void *__wrap_malloc(size_t bytes) {
    void *p = take(bytes);
    return p ? p : __real_malloc(bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    void *p = take(bytes);
    return p ? p : __real_aligned_alloc(alignment, bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    void *p = bytes && count <= SIZE_MAX / bytes ? take(count * bytes) : NULL;
    return p ? memset(p, 0, count * bytes) : __real_calloc(count, bytes);
}

void __wrap_free(void *p) {
    for (int k = 0; p && k < KINDS; k++) {
        for (int i = 0; i < KEPT_MAX; i++) {
            struct slot *s = &slots[k][i];
            if (s->block != p) continue;
            __asan_poison_memory_region(p, sizes[k]);
            atomic_store(&s->used, 0);
            return;
        }
    }
    __real_free(p);
}
