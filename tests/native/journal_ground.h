/* journal_ground.h: an empty repository in the program's directory, and a journal on it. */
#ifndef VS_TESTS_JOURNAL_GROUND_H
#define VS_TESTS_JOURNAL_GROUND_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "journal.h"
#include "view.h"

static const uint8_t ground_uuid[16] = "journal-ground!";

static inline vs_store *ground_make(void) {
    static const char *const directories[] = {"journal", "maps", "base", "primary"};
    vs_store *s;
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) CHECK_EQ(mkdir(directories[i], 0700), 0);
    int here = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(here >= 0);
    CHECK_EQ(vs_store_posix(here, &s), 0);
    CHECK_EQ(vs_journal_create(s, ground_uuid), 0);
    return s;
}

static inline vs_journal *ground_open(vs_store *s, int owner, uint64_t segment_bytes, uint64_t batch_bytes) {
    vs_journal_options o = {.owner = owner, .segment_bytes = segment_bytes, .batch_bytes = batch_bytes};
    vs_journal *j;
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    CHECK_EQ(vs_journal_open(s, &o, &j), 0);
    return j;
}

static inline uint32_t ground_volume(vs_journal *j, uint64_t size_bytes) {
    uint32_t volume;
    CHECK_EQ(vs_journal_event(j, VS_RECORD_VOLUME_ADD, 0, 512, size_bytes, "{}", 2, NULL, &volume), 0);
    return volume;
}

static inline int ground_primary(const char *name, uint64_t size_bytes) {
    int file = open(name, O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0);
    CHECK_EQ(ftruncate(file, (off_t)size_bytes), 0);
    return file;
}

static inline void ground_mark(vs_journal *j, uint64_t *seqno) {
    CHECK_EQ(vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, seqno, NULL), 0);
    CHECK_EQ(vs_journal_commit(j), 0);
}

#endif
