/* generation.c: see generation.h. */
#include "generation.h"

#include <errno.h>

#include "found.h"

enum { FILE_BYTES = 16, AT_CRC = 8, AT_ZEROS = 12 };

static const char name[] = "journal/generation";

/* 1: there is such a file, and it is sound; 0: it is not; -ENOENT: there is none. */
static int file_read(vs_store *s, uint64_t *generation) {
    uint8_t bytes[FILE_BYTES] = {0};
    int file = s->open(s, name, VS_OPEN_READ);
    if (file < 0) return file == -ENOENT ? -ENOENT : 0;
    int sound = s->size(s, file) == FILE_BYTES && s->read(s, file, 0, bytes, sizeof bytes) == FILE_BYTES && vs_crc32c(bytes, AT_CRC) == vs_get32(bytes + AT_CRC) &&
                vs_get32(bytes + AT_ZEROS) == 0;
    s->close(s, file);
    *generation = vs_get64(bytes);
    return sound;
}

void vs_generation_write(vs_journal *j, uint64_t generation) {
    vs_store *s = j->store;
    uint8_t bytes[FILE_BYTES] = {0};
    uint64_t is;
    if (file_read(s, &is) == 1 && is == generation) return;
    vs_put64(bytes, generation);
    vs_put32(bytes + AT_CRC, vs_crc32c(bytes, AT_CRC));
    int file = s->open(s, name, VS_OPEN_WRITE);
    if (file == -ENOENT) file = s->open(s, name, VS_OPEN_WRITE | VS_OPEN_CREATE);
    struct iovec part = {bytes, sizeof bytes};
    int r = file < 0 ? file : s->write(s, file, 0, &part, 1);
    if (r == 0 && s->size(s, file) != FILE_BYTES) r = s->truncate(s, file, FILE_BYTES);
    if (file >= 0) s->close(s, file);
    if (r < 0) s->remove(s, name); /* what is not there is looked for elsewhere; what is old would be believed */
}

uint64_t vs_generation_newest(vs_journal *j) {
    uint64_t generation = 0;
    vs_found f;
    if (file_read(j->store, &generation) == 1) return generation;
    generation = vs_found_list(j->store, &f) == 0 ? vs_found_generation(&f) : 0;
    vs_found_end(&f);
    return generation;
}

int vs_journal_check_generation(vs_journal *j) {
    uint64_t ignored;
    return file_read(j->store, &ignored) == 0;
}
