/* plane_counts.c: how many requests, bytes and errors there were, and how long they took; by operation and by open file.
 *
 * By operation each thread counts for itself, and who asks adds them up: a request shares no cache line with another's. An open file may
 * be used by all threads at once, so its counts are atomic additions; they stand in memory of their own that does not move when the table
 * of open files grows, and lives as long as the file.
 *
 * Times go into 32 classes, each twice as wide as the one before: it costs one instruction to find the class, and the figure that
 * an administrator wants (is the slowest hundredth milliseconds or seconds?) does not need more.
 */
#include "plane_internal.h"

#include <string.h>

static void shared_add(_Atomic uint64_t *count, uint64_t n) {
    atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

unsigned vs_plane_latency_class(uint64_t nanoseconds) {
    unsigned width = nanoseconds ? 63 - (unsigned)__builtin_clzll(nanoseconds) : 0;
    return width < VS_PLANE_LATENCIES ? width : VS_PLANE_LATENCIES - 1;
}

void vs_plane_count_answer(vs_plane_tally *own, vs_plane_tally *file, int error, uint64_t bytes) {
    if (error) vs_plane_tally_add(&own->errors, 1);
    else vs_plane_tally_add(&own->bytes, bytes);
    if (!file) return;
    shared_add(&file->requests, 1);
    if (error) shared_add(&file->errors, 1);
    else if (bytes) shared_add(&file->bytes, bytes);
}

void vs_plane_count_time(vs_plane_tally *own, vs_plane_tally *file, uint64_t nanoseconds) {
    unsigned class = vs_plane_latency_class(nanoseconds);
    vs_plane_tally_add(&own->nanoseconds, nanoseconds);
    vs_plane_tally_add(&own->latency[class], 1);
    if (!file) return;
    shared_add(&file->nanoseconds, nanoseconds);
    shared_add(&file->latency[class], 1);
}

static uint64_t now(const _Atomic uint64_t *count) {
    return atomic_load_explicit(count, memory_order_relaxed);
}

void vs_plane_tally_sum(vs_plane_count *sum, const vs_plane_tally *tally) {
    sum->requests += now(&tally->requests);
    sum->errors += now(&tally->errors);
    sum->bytes += now(&tally->bytes);
    sum->nanoseconds += now(&tally->nanoseconds);
    for (int i = 0; i < VS_PLANE_LATENCIES; i++) sum->latency[i] += now(&tally->latency[i]);
}

void vs_plane_counts(vs_plane *p, vs_plane_count out[64]) {
    memset(out, 0, VS_PLANE_OPCODES * sizeof *out);
    for (int i = 0; i < p->workers + VS_PLANE_OTHER_THREADS; i++)
        for (int k = 0; k < VS_PLANE_OPCODES; k++) vs_plane_tally_sum(&out[k], &p->threads[i].tally[k]);
    for (int i = atomic_load(&p->uring.serving); i-- > 0;)
        for (int k = 0; k < VS_PLANE_OPCODES; k++) vs_plane_tally_sum(&out[k], &vs_plane_uring_tally(&p->uring, i)[k]);
}

uint64_t vs_plane_open_files(vs_plane *p, vs_plane_open_file *out, uint64_t room) {
    return vs_plane_files_list(&p->files, out, room);
}
