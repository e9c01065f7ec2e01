/* memory_store.h: a vs_store in memory, for repositories of a few small files.
 *
 * Nothing fails and nothing is lost: this is ground for parsers, not for crashes. What is mapped is a block of memory of just the asked-for
 * size, so that a sanitizer sees a step past its end, which a page would hide. Clock and entropy are counters: one input, one run.
 *
 * Threads: any, under one lock. Ended with vs_store_close, which must find every file closed and every map unmapped, or aborts: a parser
 * that fails must not leak either.
 */
#ifndef VS_FUZZ_MEMORY_STORE_H
#define VS_FUZZ_MEMORY_STORE_H

#include "store_ops.h"

vs_store *memory_store_new(void);

/* Put a file there, in place of what has the name. bytes are copied. */
void memory_store_put(vs_store *s, const char *path, const void *bytes, size_t size_bytes);

/* The file's bytes, borrowed until it is changed; NULL: there is none. */
const uint8_t *memory_store_get(vs_store *s, const char *path, size_t *size_bytes);

/* All files of from, at their present content, into the empty store to. */
void memory_store_copy(vs_store *to, vs_store *from);

#endif
