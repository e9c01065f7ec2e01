/* kept.c: see kept.h. */
#include "kept.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "format.h"
#include "status.h"

static uint64_t whole_blocks(uint64_t bytes) {
    return (bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES * VS_BLOCK_BYTES;
}

/* A region of the keep, or private memory of that size. */
static int region(vs_kept *k, int slot, vs_keep *keep, uint32_t which, uint64_t bytes, void *out) {
    void *p = NULL;
    if (keep) {
        int r = vs_keep_region(keep, which, bytes, &p);
        if (r == -EPROTO) vs_fault_set(r, 0, 0, 0, 0, "the kept memory was laid out by another version");
        if (r < 0) return r;
    } else {
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return -ENOMEM;
        k->own[slot] = p;
        k->own_bytes[slot] = bytes;
    }
    *(void **)out = p;
    return 0;
}

static int adopt_uuid(vs_kept_batches *b, const uint8_t uuid[16]) {
    static const uint8_t none[16];
    if (memcmp(b->uuid, none, sizeof none) == 0) memcpy(b->uuid, uuid, sizeof b->uuid);
    if (memcmp(b->uuid, uuid, sizeof b->uuid) == 0) return 0;
    return vs_fault_set(-EXDEV, 0, 0, 0, 0, "the kept memory belongs to another repository");
}

int vs_kept_open(vs_kept *k, vs_keep *keep, const uint8_t uuid[16], uint64_t stream_bytes, uint64_t payload_bytes) {
    uint64_t head = whole_blocks(sizeof *k->batches), each = whole_blocks(stream_bytes) + whole_blocks(payload_bytes);
    int r = region(k, 0, keep, VS_KEEP_BATCHES, head + 2 * each, &k->batches);
    if (r == 0) r = region(k, 1, keep, VS_KEEP_WRITES, sizeof *k->writes, &k->writes);
    if (r < 0) return r;
    for (int i = 0; i < 2; i++) {
        k->stream[i] = (uint8_t *)k->batches + head + (uint64_t)i * each;
        k->payload[i] = k->stream[i] + whole_blocks(stream_bytes);
    }
    return adopt_uuid(k->batches, uuid);
}

void vs_kept_close(vs_kept *k) {
    for (int i = 0; i < 2; i++)
        if (k->own[i]) munmap(k->own[i], k->own_bytes[i]);
    memset(k, 0, sizeof *k);
}

static uint64_t find_in(const vs_kept_write *list, size_t count, uint64_t number) {
    for (size_t i = 0; i < count; i++)
        if (atomic_load_explicit(&list[i].number, memory_order_relaxed) == number) {
            uint64_t seqno = atomic_load_explicit(&list[i].seqno, memory_order_acquire);
            if (seqno) return seqno;
        }
    return 0;
}

uint64_t vs_kept_find(const vs_kept *k, uint64_t number) {
    number &= ~VS_REQUEST_RESENT;
    uint64_t seqno = find_in(k->writes->lanes, VS_REQUEST_LANES, number);
    return seqno ? seqno : find_in(k->writes->carried, VS_KEPT_CARRIED, number);
}

/* Whoever dies in between leaves a slot that is empty. */
static void put(vs_kept_write *slot, uint64_t number, uint64_t seqno) {
    atomic_store_explicit(&slot->seqno, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->number, number, memory_order_release);
    atomic_store_explicit(&slot->seqno, seqno, memory_order_release);
}

void vs_kept_note(vs_kept *k, const vs_request *q, uint64_t seqno) {
    put(&k->writes->lanes[q->lane % VS_REQUEST_LANES], q->number & ~VS_REQUEST_RESENT, seqno);
}

static void carry(vs_kept_writes *w, uint64_t number, uint64_t seqno) {
    uint64_t at = atomic_load_explicit(&w->carried_count, memory_order_relaxed);
    put(&w->carried[at % VS_KEPT_CARRIED], number, seqno);
    atomic_store_explicit(&w->carried_count, at + 1, memory_order_release);
}

/* Lane by lane, so that an interruption leaves one of them in both places at most, and in one at least. */
void vs_kept_carry(vs_kept *k, uint64_t last_seqno) {
    for (size_t i = 0; i < VS_REQUEST_LANES; i++) {
        vs_kept_write *lane = &k->writes->lanes[i];
        uint64_t seqno = atomic_load_explicit(&lane->seqno, memory_order_acquire);
        if (seqno && seqno <= last_seqno) carry(k->writes, atomic_load_explicit(&lane->number, memory_order_relaxed), seqno);
        atomic_store_explicit(&lane->seqno, 0, memory_order_release);
    }
}

void vs_kept_fail_primary(vs_kept *k, uint32_t volume) {
    uint32_t bit = volume % VS_KEPT_VOLUMES;
    atomic_fetch_or(&k->batches->failed_primaries[bit / 8], (uint8_t)(1u << (bit % 8)));
}

int vs_kept_primary_failed(const vs_kept *k, uint32_t volume) {
    uint32_t bit = volume % VS_KEPT_VOLUMES;
    return atomic_load(&k->batches->failed_primaries[bit / 8]) >> (bit % 8) & 1;
}
