/* fuzz_map.c: a merged map beside the eight segments that it should stand for.
 *
 * What `check` does not find fault with reads as the segments themselves do, and so does one that is not used. No map makes a view, a merge of
 * maps or `check` crash, hang or grow.
 */
#include <string.h>

#include "codec.h"
#include "ground.h"
#include "memory_store.h"
#include "merged_map.h"
#include "repair.h"
#include "require.h"
#include "view.h"

enum { VOLUMES = 2, BLOCK = 4096, RUNS = 16, STEPS_MAX = 64 };

#define MAP "maps/000000000000-8.map"

static image input;
static vs_store *ground;
static uint8_t last_digest[32];
static image sound; /* the map as it should be */
static uint8_t truth[VOLUMES][GROUND_BYTES];

static int64_t volume_read(vs_journal *j, uint32_t volume, uint64_t seqno, uint8_t *out) {
    vs_view *v;
    int r = vs_view_open(j, volume, seqno, &v);
    if (r < 0) return r;
    int64_t n = vs_view_read(v, 0, out, GROUND_BYTES);
    vs_run runs[RUNS];
    vs_volume_state state;
    uint64_t next = 0;
    for (int step = 0; step < STEPS_MAX && vs_view_runs(v, next, step % 2, runs, RUNS, &next) > 0; step++) {}
    vs_view_stat(v, &state);
    vs_view_close(v);
    return n;
}

static void begin(void) {
    size_t n;
    ground = ground_make(8);
    vs_journal *j = ground_open(ground, 0);
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    for (uint32_t i = 0; i < VOLUMES; i++)
        REQUIRE(volume_read(j, i + 1, facts.committed_seqno, truth[i]) == GROUND_BYTES, "the ground can be read");
    vs_journal_close(j);
    vs_store *merged = memory_store_new();
    memory_store_copy(merged, ground);
    j = ground_open(merged, 1);
    REQUIRE(vs_journal_merge_maps(j) == 1 && vs_journal_close(j) == 0, "a map is made");
    const uint8_t *map = memory_store_get(merged, MAP, &n);
    memcpy(sound.bytes, map, n);
    sound.files = 1;
    sound.begin[1] = n;
    vs_store_close(merged);
    const uint8_t *last = memory_store_get(ground, GROUND_EIGHTH, &n);
    REQUIRE(last, "there is an eighth segment");
    memcpy(last_digest, last + n - BLOCK + 112, 32);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t bytes[GROUND_BYTES];
    size_t n = 0;
    if (!ground) begin();
    image_decode(&input, data, size);
    const uint8_t *file = input.files ? image_file(&input, 0, &n) : NULL;
    vs_store *s = memory_store_new();
    memory_store_copy(s, ground);
    memory_store_put(s, MAP, file, n);
    vs_journal *j = ground_open(s, 0);
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    vs_fault fault;
    char name[64];
    int damaged = vs_journal_check_map(j, 0, &fault, name);
    REQUIRE(damaged >= 0 && vs_journal_check_map(j, 1, &fault, name) == -ENOENT, "there is one place for a map");
    for (uint32_t i = 0; i < VOLUMES; i++) {
        int64_t got = volume_read(j, i + 1, facts.committed_seqno, bytes);
        REQUIRE(got == GROUND_BYTES || got == -EBADMSG, "a volume is read, or a checksum does not match");
        if (!damaged) REQUIRE(got == GROUND_BYTES && memcmp(bytes, truth[i], GROUND_BYTES) == 0, "a sound map reads as its segments do");
    }
    vs_journal_close(j);
    vs_store_close(s);
    return 0;
}

static void repair(image *m, uint32_t *state) {
    size_t n;
    uint8_t *file = image_file(m, 0, &n);
    repair_map(file, n, last_digest, state);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed) {
    if (!ground) begin();
    if (size < 64) return image_encode(&sound, data, room); /* what there is to begin with */
    return fuzz_mutate_image(data, size, room, seed, repair);
}
