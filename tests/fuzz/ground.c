/* ground.c: see ground.h. */
#include "ground.h"

#include <string.h>

#include "memory_store.h"
#include "require.h"

const uint8_t ground_uuid[16] = "ground of fuzzer";

vs_journal *ground_open(vs_store *s, int owner) {
    vs_journal_options o = {.owner = owner, .batch_bytes = 64 << 10};
    vs_journal *j;
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    REQUIRE(vs_journal_open(s, &o, &j) == 0, "the ground opens");
    return j;
}

static void segment_fill(vs_journal *j, int segment) {
    uint8_t bytes[5000];
    memset(bytes, segment + 1, sizeof bytes);
    for (uint64_t i = 0; i < 4; i++) {
        uint64_t offset = ((uint64_t)segment * 7919 + i * 12345) % (GROUND_BYTES - sizeof bytes);
        uint32_t volume = 1 + (uint32_t)i % 2;
        int r = i == 3 ? vs_journal_zero(j, volume, offset, 700, NULL, NULL) : vs_journal_write(j, volume, offset, bytes, 300 + i * 1500, NULL, NULL);
        REQUIRE(r == 0, "the ground is written");
    }
    REQUIRE(vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, NULL, NULL) == 0, "a bookmark is made");
}

vs_store *ground_make(int segments) {
    vs_store *s = memory_store_new();
    REQUIRE(vs_journal_create(s, ground_uuid) == 0, "a journal is made");
    vs_journal *j = ground_open(s, 1);
    for (int i = 0; i < 2; i++)
        REQUIRE(vs_journal_event(j, VS_RECORD_VOLUME_ADD, 0, 512, GROUND_BYTES, "{}", 2, NULL, NULL) == 0, "a volume is made");
    for (int i = 0; i < segments; i++) {
        segment_fill(j, i);
        REQUIRE(vs_journal_commit(j) == 0 && vs_journal_seal(j) == 0, "a segment is sealed");
    }
    /* So that the newest point lies behind all of them. */
    REQUIRE(vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, NULL, NULL) == 0, "a bookmark is made");
    REQUIRE(vs_journal_close(j) == 0, "the ground closes");
    return s;
}
