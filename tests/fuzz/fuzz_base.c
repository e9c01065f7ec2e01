/* fuzz_base.c: a base index, and behind it (a second file) the image that it should be of, below a journal that knows the volume. The sound one was moved:
 * one of its blocks is a patch.
 *
 * What is read is the image's bytes, or a patch's, or zeros, at their own place, or a checksum does not match. No index makes a view crash, hang or grow.
 */
#include <string.h>

#include "base.h"
#include "base_move.h"
#include "codec.h"
#include "ground.h"
#include "memory_store.h"
#include "repair.h"
#include "require.h"
#include "view.h"

enum { BLOCK = 4096, BASE_BYTES = 4 * BLOCK + 100, BLOCKS_WALKED = 256, WRITTEN = 2 };

static image input;
static vs_store *ground;
static image sound;

static void move_to(uint64_t seqno) {
    vs_base_move_facts facts;
    vs_journal *j = ground_open(ground, 1);
    REQUIRE(vs_journal_floor(j, seqno) == 0 && vs_journal_base_move(j, 1, seqno, &facts) == 1, "the base is moved");
    REQUIRE(facts.patched_bytes == BLOCK && vs_journal_close(j) == 0, "a block is a patch");
}

static void begin(void) {
    static uint8_t bytes[BASE_BYTES];
    size_t n, total = 0;
    ground = memory_store_new();
    REQUIRE(vs_journal_create(ground, ground_uuid) == 0, "a journal is made");
    vs_journal *j = ground_open(ground, 1);
    REQUIRE(vs_journal_event(j, VS_RECORD_VOLUME_ADD, 0, 512, BASE_BYTES, "{}", 2, NULL, NULL) == 0, "a volume is made");
    REQUIRE(vs_journal_write(j, 1, 5000, "over the base", 13, NULL, NULL) == 0 && vs_journal_close(j) == 0, "the ground is written");
    memset(bytes + BLOCK, 1, 2 * BLOCK);
    memset(bytes + 4 * BLOCK, 2, 50);
    vs_store *s = memory_store_new();
    memory_store_put(s, "source", bytes, BASE_BYTES);
    int source = s->open(s, "source", VS_OPEN_READ), image_to = s->open(s, "img", VS_OPEN_WRITE | VS_OPEN_CREATE);
    int index = s->open(s, "idx", VS_OPEN_WRITE | VS_OPEN_CREATE);
    vs_base_builder *b;
    uint64_t data_bytes;
    REQUIRE(vs_base_builder_new(s, ground_uuid, 1, BASE_BYTES, source, image_to, index, &b) == 0, "a builder is made");
    REQUIRE(vs_base_builder_take(b, 0, BASE_BYTES, 1) == 0 && vs_base_builder_finish(b, &data_bytes) == 0, "a base is made");
    vs_base_builder_free(b);
    s->close(s, source);
    s->close(s, image_to);
    s->close(s, index);
    static const char *const names[2] = {"idx", "img"}, *const paths[2] = {"base/00000001.idx", "base/00000001.img"};
    for (int i = 0; i < 2; i++) {
        const uint8_t *from = memory_store_get(s, names[i], &n);
        memory_store_put(ground, paths[i], from, n);
    }
    move_to(WRITTEN);
    for (int i = 0; i < 2; i++) {
        const uint8_t *from = memory_store_get(ground, paths[i], &n);
        memcpy(sound.bytes + total, from, n);
        sound.begin[i + 1] = total += n;
    }
    sound.files = 2;
    vs_store_close(s);
}

static void index_walk(vs_store *s) {
    vs_base *b;
    if (vs_base_open(s, ground_uuid, 1, &b) < 0) return;
    uint64_t blocks = vs_base_size_bytes(b) / BLOCK + 2, row[8];
    for (uint64_t i = 0; i < blocks && i < BLOCKS_WALKED; i++) vs_base_crc(b, i);
    for (uint64_t i = 0; i < vs_base_map(b)->rows && i < BLOCKS_WALKED; i++) vs_packed_row(vs_base_map(b), i, row);
    for (uint64_t i = blocks > 4 ? blocks - 4 : 0; i < blocks + 1; i++) vs_base_crc(b, i);
    for (uint64_t i = 0, at = 0; i < BLOCKS_WALKED && (at = vs_base_next_patch(b, at)) != UINT64_MAX; i++, at++) {
        const uint8_t *patch = vs_base_patch(b, at);
        REQUIRE(patch && patch[0] + patch[BLOCK - 1] >= 0, "a patch is there, all of it");
    }
    vs_base_check_holes(b);
    vs_base_unref(b);
}

/* Each block is what the image has there, or zeros; but for the record that lies over it. */
static void view_compare(vs_store *s, vs_journal *j, const uint8_t *img, size_t img_bytes) {
    uint8_t block[BLOCK], want[BLOCK];
    vs_view *v;
    vs_base *b = NULL;
    vs_run runs[8];
    vs_volume_state state;
    uint64_t next = 0;
    if (vs_view_open(j, 1, WRITTEN, &v) < 0) return;
    REQUIRE(vs_base_open(s, ground_uuid, 1, &b) == 0, "what a view was opened on is a base");
    for (uint64_t at = 0; at < BASE_BYTES; at += BLOCK) {
        int64_t n = vs_view_read(v, at, block, BLOCK);
        if (n < 0) continue;
        memset(want, 0, BLOCK);
        const uint8_t *patch = vs_base_patch(b, at / BLOCK);
        if (patch) memcpy(want, patch, BLOCK);
        else if (at < img_bytes) memcpy(want, img + at, img_bytes - at < BLOCK ? img_bytes - at : BLOCK);
        for (int64_t i = 0; i < n; i++) {
            uint64_t place = at + (uint64_t)i;
            if (place >= 5000 && place < 5013) REQUIRE(block[i] == (uint8_t)"over the base"[place - 5000], "a record lies over the base");
            else REQUIRE(block[i] == want[i] || block[i] == 0, "a byte is the image's, or zero");
        }
    }
    for (int step = 0; step < 64 && vs_view_runs(v, next, step % 2, runs, 8, &next) > 0; step++) {}
    vs_view_stat(v, &state);
    vs_view_close(v);
    vs_base_unref(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t n = 0, img_bytes = 0;
    if (!ground) begin();
    image_decode(&input, data, size);
    if (input.files == 0) return 0;
    const uint8_t *index = image_file(&input, 0, &n), *img = input.files > 1 ? image_file(&input, 1, &img_bytes) : NULL;
    vs_store *s = memory_store_new();
    memory_store_copy(s, ground);
    memory_store_put(s, "base/00000001.idx", index, n);
    memory_store_put(s, "base/00000001.img", img, img_bytes);
    index_walk(s);
    vs_journal *j = ground_open(s, 0);
    view_compare(s, j, img, img_bytes);
    vs_journal_close(j);
    vs_store_close(s);
    return 0;
}

static void repair(image *m, uint32_t *state) {
    size_t n;
    uint8_t *file = image_file(m, 0, &n);
    repair_base(file, n, state);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed) {
    if (!ground) begin();
    if (size < 64) return image_encode(&sound, data, room); /* what there is to begin with */
    return fuzz_mutate_image(data, size, room, seed, repair);
}
