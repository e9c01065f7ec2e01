/* Numbers, checksums, zero scan and digests against published vectors; faults of threads. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "codec.h"
#include "faults.h"
#include "format.h"
#include "status.h"

static void numbers_are_little_endian_at_any_alignment(void) {
    uint8_t bytes[24];
    for (int at = 0; at < 8; at++) {
        vs_put64(bytes + at, 0x8877665544332211u);
        for (int i = 0; i < 8; i++) CHECK_EQ(bytes[at + i], 0x11 * (i + 1));
        CHECK(vs_get64(bytes + at) == 0x8877665544332211u);
        CHECK(vs_get32(bytes + at + 4) == 0x88776655u);
        CHECK_EQ(vs_get16(bytes + at + 6), 0x8877);
        vs_put16(bytes + at, 0xFEDC);
        vs_put32(bytes + at + 2, 0xBA987654u);
        CHECK(vs_get64(bytes + at) == 0x8877BA987654FEDCu);
    }
}

/* RFC 3720, B.4, and the usual check string. */
static void crc32c_vectors(void) {
    uint8_t bytes[32], zeros[VS_BLOCK_BYTES] = {0};
    CHECK(vs_crc32c("123456789", 9) == 0xE3069283u);
    CHECK(vs_crc32c("", 0) == 0);
    CHECK(vs_crc32c(zeros, 32) == 0x8A9136AAu);
    CHECK(vs_crc32c(zeros, sizeof zeros) == VS_CRC_ZERO_BLOCK);
    memset(bytes, 0xFF, sizeof bytes);
    CHECK(vs_crc32c(bytes, 32) == 0x62A8AB43u);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    CHECK(vs_crc32c(bytes, 32) == 0x46DD794Eu);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
    CHECK(vs_crc32c(bytes, 32) == 0x113FDB5Cu);
}

/* Bit by bit, as the polynomial says; every length and alignment that a vector loop treats differently. */
static uint32_t crc32c_slow(const uint8_t *p, size_t n) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

static void crc32c_equals_the_slow_one(void) {
    static uint8_t bytes[1024];
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)draw(&seed);
    for (size_t n = 0; n < 600; n++) CHECK(vs_crc32c(bytes + n % 17, n) == crc32c_slow(bytes + n % 17, n));
}

static void sealed_blocks_find_every_flipped_bit(void) {
    uint8_t block[VS_BLOCK_BYTES];
    uint64_t seed = 2;
    for (size_t i = 0; i < sizeof block; i++) block[i] = (uint8_t)draw(&seed);
    vs_block_seal(block);
    CHECK(vs_block_check(block));
    for (size_t bit = 0; bit < sizeof block * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!vs_block_check(block));
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void zero_scan_sees_every_byte_and_only_its_own(void) {
    uint8_t bytes[1100] = {0};
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = 0x80;
        CHECK(!vs_is_zero(bytes, sizeof bytes));
        CHECK(!vs_is_zero(bytes, i + 1));
        CHECK(!vs_is_zero(bytes + i, 1));
        CHECK(vs_is_zero(bytes, i));
        CHECK(vs_is_zero(bytes + i + 1, sizeof bytes - i - 1));
        bytes[i] = 0;
    }
}

static void check_digest(const vs_digest *d, const char *wanted) {
    uint8_t digest[32];
    char hex[65];
    CHECK_EQ(vs_digest_peek(d, digest), 0);
    for (int i = 0; i < 32; i++) snprintf(hex + i * 2, 3, "%02x", digest[i]);
    CHECK(strcmp(hex, wanted) == 0);
}

/* FIPS 180-2, appendix B. A peek does not end the stream. */
static void digest_vectors(void) {
    vs_digest *d;
    CHECK_EQ(vs_digest_new(&d), 0);
    check_digest(d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_EQ(vs_digest_update(d, "abc", 3), 0);
    check_digest(d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_digest(d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *rest = "dbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    CHECK_EQ(vs_digest_update(d, rest, strlen(rest)), 0);
    check_digest(d, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    vs_digest_free(d);
    vs_digest_free(NULL);
}

static void digest_without_memory(void) {
    vs_digest *d = NULL;
    faults_fail_allocations(0);
    CHECK_EQ(vs_digest_new(&d), -ENOMEM);
    faults_fail_allocations(-1);
    CHECK(d == NULL);
}

static void *other_thread(void *arg) {
    vs_fault_last(arg);
    vs_fault_set(-EIO, 9, 9, 9, 9, "of the other thread");
    return NULL;
}

static void a_fault_belongs_to_its_thread(void) {
    vs_fault mine, other;
    pthread_t thread;
    CHECK_EQ(vs_fault_set(-EBADMSG, 1, 2, 3, 4, "block %d of %s", 5, "db0"), -EBADMSG);
    CHECK_EQ(pthread_create(&thread, NULL, other_thread, &other), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(other.code, 0);
    vs_fault_last(&mine);
    CHECK_EQ(mine.code, -EBADMSG);
    CHECK(mine.volume == 1 && mine.seqno == 2 && mine.segment == 3 && mine.offset_bytes == 4);
    CHECK(strcmp(mine.text, "block 5 of db0") == 0);
}

static void a_fault_is_one_line_that_ends(void) {
    char longer[400];
    vs_fault fault;
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    vs_fault_set(-EIO, 0, 0, 0, 0, "%s", longer);
    vs_fault_last(&fault);
    CHECK_EQ(strlen(fault.text), sizeof fault.text - 1);
    vs_fault_set(-EIO, 0, 0, 0, 0, "a\nb\x1b[2J\x7f%s", "\xc3\xa9");
    vs_fault_last(&fault);
    CHECK(strcmp(fault.text, "a b [2J \xc3\xa9") == 0);
}

int main(void) {
    numbers_are_little_endian_at_any_alignment();
    crc32c_vectors();
    crc32c_equals_the_slow_one();
    sealed_blocks_find_every_flipped_bit();
    zero_scan_sees_every_byte_and_only_its_own();
    digest_vectors();
    digest_without_memory();
    a_fault_belongs_to_its_thread();
    a_fault_is_one_line_that_ends();
    return 0;
}
