/* deadline.h: how long something may take: a moment of CLOCK_MONOTONIC in nanoseconds, or never. */
#ifndef VS_DEADLINE_H
#define VS_DEADLINE_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

#define VS_DEADLINE_NEVER UINT64_MAX

static inline uint64_t vs_deadline_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* 0: never. */
static inline uint64_t vs_deadline_after(uint64_t milliseconds) {
    return milliseconds ? vs_deadline_now_ns() + milliseconds * 1000000 : VS_DEADLINE_NEVER;
}

/* 0, or -ETIMEDOUT when it has passed. */
static inline int vs_deadline_check(uint64_t deadline_ns) {
    return deadline_ns == VS_DEADLINE_NEVER || vs_deadline_now_ns() <= deadline_ns ? 0 : -ETIMEDOUT;
}

#endif
