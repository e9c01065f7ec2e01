/* fuzz_kept.c: what a dead process left in the keep, taken over by the next owner of a journal.
 *
 *   input = u8 flags, i8 failed, 2 × { u16 records, u8 seqno step, u16 stream bytes, u8 payload blocks }, lanes: u8 count, 2 bytes each,
 *           then the streams, then the payloads, 64 bytes a block
 *
 * All of it is taken over or nothing changes what was in the journal; what was taken over is there when the journal is opened again, reads
 * as it was kept, and a second reader takes the same records. Opened with the emptied keep it is the same again.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "batch.h"
#include "codec.h"
#include "ground.h"
#include "kept.h"
#include "memory_store.h"
#include "plain_reader.h"
#include "repair.h"
#include "require.h"
#include "view.h"

enum { BATCH_BYTES = 16 << 10, STREAM_BYTES_MAX = 8192, PAYLOAD_MAX = 4, PART = 64, HEAD_BYTES = 2 + 2 * 6, BLOCK = 4096, WRITTEN_MAX = 1 << 20 };

#define SEGMENT "journal/00000000000000000001.seg"

static vs_store *ground;
static vs_keep *keep;
static uint64_t ground_last;
static plain_history history;

static void begin(void) {
    vs_journal_facts facts;
    ground = ground_make(0);
    vs_journal *j = ground_open(ground, 0);
    vs_journal_facts_get(j, &facts);
    ground_last = facts.last_seqno;
    vs_journal_close(j);
    int fd = vs_keep_make();
    REQUIRE(fd >= 0 && vs_keep_open(fd, &keep) == 0, "a keep is made");
    close(fd);
}

typedef struct reader {
    const uint8_t *at;
    size_t left;
} reader;

static uint32_t take(reader *r, size_t bytes) {
    uint32_t v = 0;
    for (size_t i = 0; i < bytes && r->left > 0; i++, r->at++, r->left--) v |= (uint32_t)*r->at << (8 * i);
    return v;
}

static void take_bytes(reader *r, uint8_t *to, size_t bytes) {
    size_t n = bytes < r->left ? bytes : r->left;
    if (n) memcpy(to, r->at, n);
    memset(to + n, 0, bytes - n);
    r->at += n;
    r->left -= n;
}

static void keep_fill(const uint8_t *data, size_t size) {
    vs_kept k = {0};
    reader r = {data, size};
    REQUIRE(vs_kept_open(&k, keep, ground_uuid, vs_batch_stream_bytes(), vs_batch_payload_bytes(BATCH_BYTES)) == 0, "the keep opens");
    uint32_t flags = take(&r, 1), stream_bytes[2], blocks[2];
    atomic_store(&k.batches->used, flags & 1);
    atomic_store(&k.batches->failed, (int8_t)take(&r, 1));
    for (int i = 0; i < 2; i++) {
        uint32_t records = take(&r, 2);
        atomic_store(&k.batches->batch[i].records, flags & 2 ? records : records & 15);
        k.batches->batch[i].first_seqno = ground_last + 1 + (uint64_t)(int64_t)(int8_t)take(&r, 1);
        stream_bytes[i] = take(&r, 2) % STREAM_BYTES_MAX;
        blocks[i] = take(&r, 1) % (PAYLOAD_MAX + 1);
    }
    memset(k.writes->lanes, 0, 256 * sizeof k.writes->lanes[0]);
    for (uint32_t n = take(&r, 1); n > 0 && r.left > 1; n--) {
        vs_kept_write *lane = &k.writes->lanes[n];
        atomic_store(&lane->seqno, take(&r, 1));
        atomic_store(&lane->number, take(&r, 1));
    }
    for (int i = 0; i < 2; i++) {
        take_bytes(&r, k.stream[i], stream_bytes[i]);
        memset(k.stream[i] + stream_bytes[i], 0, STREAM_BYTES_MAX - stream_bytes[i]);
    }
    for (int i = 0; i < 2; i++)
        for (uint32_t b = 0; b < PAYLOAD_MAX; b++) {
            memset(k.payload[i] + b * BLOCK, 0, BLOCK);
            if (b < blocks[i]) take_bytes(&r, k.payload[i] + b * BLOCK, PART);
        }
    vs_kept_close(&k);
}

static int open_with(vs_store *s, vs_keep *k, int owner, vs_journal **out) {
    vs_journal_options o = {.owner = owner, .batch_bytes = BATCH_BYTES, .segment_bytes = 64 << 10, .keep = k};
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    return vs_journal_open(s, &o, out);
}

static void compare(vs_store *s, uint64_t last_seqno) {
    uint8_t read[BLOCK], want[BLOCK];
    size_t n;
    vs_journal *j;
    vs_journal_facts facts;
    REQUIRE(open_with(s, NULL, 0, &j) == 0, "it opens for a reader");
    vs_journal_facts_get(j, &facts);
    REQUIRE(facts.last_seqno == last_seqno, "a reader sees the same records");
    const uint8_t *file = memory_store_get(s, SEGMENT, &n);
    if (facts.segments == 1) {
        plain_begin(&history, 0, 0);
        plain_segment(&history, file, n, 1);
        REQUIRE(history.overflow || history.at.last_seqno == last_seqno, "a second reader takes the same records");
        for (uint32_t volume = 1; volume <= 2 && !history.overflow; volume++) {
            vs_view *v;
            if (vs_view_open(j, volume, last_seqno, &v) < 0) continue;
            int64_t got = vs_view_read(v, 0, read, BLOCK);
            if (!plain_read(&history, volume, last_seqno, 0, want, BLOCK))
                REQUIRE(got >= 0 && memcmp(read, want, (size_t)got) == 0, "it reads as the records say");
            vs_view_close(v);
        }
    }
    vs_journal_close(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    vs_journal *j;
    vs_journal_facts facts;
    if (!keep) begin();
    keep_fill(data, size);
    vs_store *s = memory_store_new();
    memory_store_copy(s, ground);
    int r = open_with(s, keep, 1, &j);
    uint64_t last = ground_last;
    if (r == 0) {
        vs_journal_facts_get(j, &facts);
        last = facts.last_seqno;
        REQUIRE(last == ground_last + facts.kept_records, "what was kept follows what was there");
        REQUIRE(vs_journal_close(j) == 0, "it closes");
        REQUIRE(open_with(s, keep, 1, &j) == 0, "it opens again");
        vs_journal_facts_get(j, &facts);
        REQUIRE(facts.last_seqno == last && facts.kept_records == 0, "nothing is taken over twice");
        REQUIRE(vs_journal_close(j) == 0, "it closes");
    } else {
        REQUIRE(open_with(s, NULL, 0, &j) == 0, "what was in the journal is not harmed");
        vs_journal_facts_get(j, &facts);
        last = facts.last_seqno;
        REQUIRE(last >= ground_last, "no record is lost");
        vs_journal_close(j);
    }
    compare(s, last);
    vs_store_close(s);
    return 0;
}

/* One record, whole, at p; returns its length. */
static size_t record_make(uint8_t *p, uint32_t *payload, uint32_t *state) {
    uint32_t type = 1 + fuzz_below(state, 8), length = 1 + fuzz_below(state, 60), tail = 0;
    memset(p, 0, 64);
    p[0] = (uint8_t)type;
    vs_put32(p + 4, 1 + fuzz_below(state, 2));
    vs_put64(p + 16, type == 6 ? 1 : fuzz_below(state, 4096));
    vs_put64(p + 24, type == 4 ? 5000 : length);
    if (type == 1) tail = vs_get64(p + 16) + length > BLOCK ? 8 : 4;
    *payload += tail / 4;
    vs_put32(p + 32, tail);
    return 36 + tail;
}

/* Times that ascend, payload CRCs that match. */
static void repair(uint8_t *data, size_t size, uint32_t *state) {
    static uint64_t clock_ns = UINT64_C(1) << 62;
    uint8_t block[BLOCK];
    size_t at = HEAD_BYTES + 1 + 2 * (size_t)(size > HEAD_BYTES ? data[HEAD_BYTES] : 0);
    size_t streams = at, payload = at;
    for (int i = 0; i < 2; i++) payload += vs_get16(data + 2 + i * 6 + 3) % STREAM_BYTES_MAX;
    uint64_t time_ns = clock_ns;
    for (int i = 0; i < 2; i++) {
        size_t end = streams + vs_get16(data + 2 + i * 6 + 3) % STREAM_BYTES_MAX;
        for (size_t p = streams; p + 36 <= end && p + 36 <= size;) {
            uint32_t tail = vs_get32(data + p + 32) & 0xffff;
            vs_put64(data + p + 8, ++time_ns);
            for (uint32_t k = 0; data[p] == 1 && k + 4 <= tail && p + 40 + k <= size; k += 4, payload += PART) {
                memset(block, 0, sizeof block);
                if (payload < size) memcpy(block, data + payload, size - payload < PART ? size - payload : PART);
                if (fuzz_below(state, 16)) vs_put32(data + p + 36 + k, vs_crc32c(block, BLOCK));
            }
            p += vs_record_bytes(tail);
        }
        streams = end;
    }
}

/* Batches as they should be: records, then blocks of bytes. */
static size_t whole_make(uint8_t *data, size_t room, uint32_t *state) {
    uint32_t counts[2], blocks[2];
    size_t at = HEAD_BYTES + 1;
    if (room < 2048) return 0;
    memset(data, 0, HEAD_BYTES + 1);
    data[0] = 1;
    for (int i = 0; i < 2; i++) {
        size_t begin = at;
        counts[i] = fuzz_below(state, 4);
        blocks[i] = 0;
        for (uint32_t k = 0; k < counts[i] && blocks[i] < 3; k++) at += record_make(data + at, &blocks[i], state);
        vs_put16(data + 2 + i * 6, (uint16_t)counts[i]);
        data[2 + i * 6 + 2] = (uint8_t)(i ? counts[0] : 0);
        vs_put16(data + 2 + i * 6 + 3, (uint16_t)(at - begin));
        data[2 + i * 6 + 5] = (uint8_t)blocks[i];
    }
    for (uint32_t k = 0; k < blocks[0] + blocks[1]; k++, at += PART) memset(data + at, (int)(1 + fuzz_below(state, 255)), PART);
    return at;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed) {
    uint32_t state = seed * 2654435761u + 1;
    size_t n = size < 32 || fuzz_below(&state, 16) == 0 ? whole_make(data, room, &state) : 0;
    if (n) size = n;
    else if (fuzz_below(&state, 2) || size < HEAD_BYTES + 44) size = LLVMFuzzerMutate(data, size, room);
    else fuzz_field(data + fuzz_below(&state, (uint32_t)size - 8), 1u << fuzz_below(&state, 4), &state);
    if (size > HEAD_BYTES + 1 && fuzz_below(&state, 8)) repair(data, size, &state);
    return size;
}
