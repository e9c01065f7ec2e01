/* Checksums of chunks: each that of its chunk alone, wherever the data end. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "checksum.h"
#include "codec.h"

static void every_chunk_has_its_own(void) {
    static uint8_t data[1000];
    uint8_t crcs[4 * 1001];
    uint64_t seed = 3;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)draw(&seed);
    for (uint64_t n = 0; n <= sizeof data; n += 37) {
        for (uint64_t chunk = 1; chunk <= sizeof data + 5; chunk += chunk < 4 ? 1 : 61) {
            uint64_t count = (n + chunk - 1) / chunk;
            memset(crcs, 0xA5, sizeof crcs);
            CHECK_EQ(vs_chunk_crcs(data, n, chunk, crcs), 0);
            for (uint64_t i = 0; i < count; i++) {
                uint64_t left = n - i * chunk;
                CHECK(vs_get32(crcs + 4 * i) == vs_crc32c(data + i * chunk, left < chunk ? left : chunk));
            }
            CHECK_EQ(crcs[4 * count], 0xA5); /* and nothing behind them */
        }
    }
}

static void chunks_longer_than_anything_are_one(void) {
    uint8_t crc[4];
    CHECK_EQ(vs_chunk_crcs((const uint8_t *)"123456789", 9, UINT64_MAX, crc), 0);
    CHECK(vs_get32(crc) == 0xE3069283u);
}

static void chunks_without_a_length_are_refused(void) {
    uint8_t crc[4];
    CHECK_EQ(vs_chunk_crcs((const uint8_t *)"1", 1, 0, crc), -EINVAL);
}

int main(void) {
    every_chunk_has_its_own();
    chunks_longer_than_anything_are_one();
    chunks_without_a_length_are_refused();
    return 0;
}
