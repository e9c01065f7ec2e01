/* check.h: what every test program in C needs: a check that says where it failed, and random numbers that are the same on each run.
 *
 * A program runs in an empty directory of its own, prints nothing when all is well and ends with 0; with 77 when the machine
 * lacks what it needs (the last line says what).
 */
#ifndef VS_TESTS_CHECK_H
#define VS_TESTS_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXIT_SKIPPED = 77 };

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

/* Integers of any type; prints both. */
#define CHECK_EQ(is, wanted)                                                                                      \
    do {                                                                                                          \
        int64_t is_ = (int64_t)(is), wanted_ = (int64_t)(wanted);                                                 \
        if (is_ != wanted_) {                                                                                     \
            fprintf(stderr, "%s:%d: %s is %" PRId64 ", not %" PRId64 "\n", __FILE__, __LINE__, #is, is_, wanted_); \
            exit(1);                                                                                              \
        }                                                                                                         \
    } while (0)

/* splitmix64: *state is the seed. */
static inline uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* In [0, limit). */
static inline uint64_t draw_below(uint64_t *state, uint64_t limit) {
    return draw(state) % limit;
}

#endif
