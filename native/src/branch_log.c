/* branch_log.c: see branch_log.h. */
#include "branch_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "format.h"
#include "status.h"

enum { READ_BYTES = 1 << 18, HEAD_CRC_AT = 60, RECORD_STEP = 8 };

void vs_branch_path(char *to, const vs_branch_log *l, const char *suffix) {
    if (suffix) snprintf(to, VS_BRANCH_PATH_BYTES, "branches/layers/%08" PRIx32 "/%08" PRIx32 ".%s", l->layer, l->volume, suffix);
    else snprintf(to, VS_BRANCH_PATH_BYTES, "branches/layers/%08" PRIx32, l->layer);
}

static int damaged(const vs_branch_log *l, int code, uint64_t offset_bytes, const char *what) {
    char path[VS_BRANCH_PATH_BYTES];
    vs_branch_path(path, l, "log");
    return vs_fault_set(code, l->volume, 0, 0, offset_bytes, "%s: %s, position %" PRIu64, path, what, offset_bytes);
}

/* ---- head ---- */

static void head_put(const vs_branch_log *l, uint8_t *head) {
    memset(head, 0, VS_BRANCH_LOG_HEAD);
    memcpy(head, VS_MAGIC_BRANCH_LOG, 8);
    vs_put32(head + 8, VS_FORMAT_VERSION);
    memcpy(head + 16, l->uuid, 16);
    vs_put32(head + 32, l->layer);
    vs_put32(head + 36, l->volume);
    vs_put64(head + 40, l->size_bytes);
    vs_put64(head + 48, l->after);
    vs_put32(head + 56, l->salt);
    vs_put32(head + HEAD_CRC_AT, vs_crc32c(head, HEAD_CRC_AT));
}

static int head_get(vs_branch_log *l, const uint8_t *head) {
    if (memcmp(head, VS_MAGIC_BRANCH_LOG, 8) != 0 || vs_get32(head + HEAD_CRC_AT) != vs_crc32c(head, HEAD_CRC_AT))
        return damaged(l, -EUCLEAN, 0, "a damaged head");
    if (vs_get32(head + 8) != VS_FORMAT_VERSION || vs_get32(head + 12) != 0) return damaged(l, -EPROTONOSUPPORT, 8, "made by a newer program");
    if (memcmp(head + 16, l->uuid, 16) != 0) return damaged(l, -EXDEV, 16, "it belongs to another repository");
    if (vs_get32(head + 32) != l->layer || vs_get32(head + 36) != l->volume) return damaged(l, -EUCLEAN, 32, "it belongs to another layer or volume");
    if (vs_get64(head + 40) != l->size_bytes) return damaged(l, -EUCLEAN, 40, "it belongs to a volume of another size");
    if (vs_get64(head + 48) > INT64_MAX) return damaged(l, -EUCLEAN, 48, "a seq that cannot be");
    l->after = l->seq = vs_get64(head + 48);
    l->salt = vs_get32(head + 56);
    l->end_bytes = VS_BRANCH_LOG_HEAD;
    return 0;
}

int vs_branch_log_open(vs_branch_log *l, int writable) {
    char path[VS_BRANCH_PATH_BYTES];
    uint8_t head[VS_BRANCH_LOG_HEAD] = {0};
    vs_branch_path(path, l, "log");
    l->file = l->store->open(l->store, path, writable ? VS_OPEN_WRITE : VS_OPEN_READ);
    if (l->file == -ENOENT) {
        l->file = -1;
        return 0;
    }
    if (l->file < 0) return damaged(l, l->file, 0, strerror(-l->file));
    int64_t n = l->store->read(l->store, l->file, 0, head, sizeof head);
    int r = n < 0 ? damaged(l, (int)n, 0, strerror((int)-n)) : head_get(l, head);
    return r < 0 ? r : 1;
}

void vs_branch_log_close(vs_branch_log *l) {
    if (l->file >= 0) l->store->close(l->store, l->file);
    l->file = -1;
}

/* ---- records ---- */

size_t vs_branch_record_put(const vs_branch_log *l, const vs_branch_record *r, uint8_t *to) {
    size_t entries = r->type == VS_BRANCH_WRITE ? (size_t)r->count * VS_BRANCH_ENTRY : 0, length = VS_BRANCH_RECORD_HEAD + entries;
    if (entries) memmove(to + VS_BRANCH_RECORD_HEAD, r->entries, entries);
    vs_put32(to + 4, l->salt);
    vs_put64(to + 8, r->seq);
    vs_put64(to + 16, r->first);
    vs_put32(to + 24, r->count);
    to[28] = r->type;
    to[29] = r->flags;
    vs_put16(to + 30, 0);
    vs_put32(to, vs_crc32c(to + 4, length - 4));
    return length;
}

/* What stands at p, of which `left` bytes are there. Returns its length; 0: no record of this log. */
static size_t record_get(const vs_branch_log *l, const uint8_t *p, size_t left, vs_branch_record *out) {
    if (left < VS_BRANCH_RECORD_HEAD || vs_get32(p + 4) != l->salt) return 0;
    *out = (vs_branch_record){.seq = vs_get64(p + 8), .first = vs_get64(p + 16), .count = vs_get32(p + 24), .type = p[28], .flags = p[29]};
    if (out->type < VS_BRANCH_WRITE || out->type > VS_BRANCH_SYNCED) return 0;
    size_t length = VS_BRANCH_RECORD_HEAD;
    if (out->type == VS_BRANCH_WRITE) {
        if (out->count > VS_BRANCH_RECORD_BLOCKS) return 0;
        length += (size_t)out->count * VS_BRANCH_ENTRY;
        out->entries = p + VS_BRANCH_RECORD_HEAD;
    }
    return length <= left && vs_get32(p) == vs_crc32c(p + 4, length - 4) ? length : 0;
}

int vs_branch_log_append(vs_branch_log *l, const uint8_t *records, size_t length_bytes, uint64_t seq, int *broken) {
    struct iovec part = {(void *)(uintptr_t)records, length_bytes};
    int r = l->store->write(l->store, l->file, l->end_bytes, &part, 1);
    if (r < 0) {
        *broken = l->store->truncate(l->store, l->file, l->end_bytes) < 0;
        return r;
    }
    l->end_bytes += length_bytes;
    l->seq = seq;
    return 0;
}

/* ---- a new one ---- */

int vs_branch_log_begin(const vs_branch_log *l, vs_branch_log *fresh) {
    char path[VS_BRANCH_PATH_BYTES];
    uint8_t head[VS_BRANCH_LOG_HEAD];
    *fresh = *l;
    fresh->file = -1;
    fresh->after = fresh->seq;
    fresh->end_bytes = VS_BRANCH_LOG_HEAD;
    int r = l->store->entropy(l->store, &fresh->salt, sizeof fresh->salt);
    if (r < 0) return r;
    vs_branch_path(path, l, "log.new");
    r = l->store->remove(l->store, path);
    if (r < 0 && r != -ENOENT) return r;
    fresh->file = l->store->open(l->store, path, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (fresh->file < 0) return fresh->file;
    head_put(fresh, head);
    struct iovec part = {head, sizeof head};
    r = l->store->write(l->store, fresh->file, 0, &part, 1);
    if (r < 0) vs_branch_log_drop(fresh);
    return r;
}

void vs_branch_log_drop(vs_branch_log *fresh) {
    char path[VS_BRANCH_PATH_BYTES];
    vs_branch_path(path, fresh, "log.new");
    vs_branch_log_close(fresh);
    fresh->store->remove(fresh->store, path);
}

int vs_branch_log_replace(vs_branch_log *l, vs_branch_log *fresh, int *renamed) {
    char path[VS_BRANCH_PATH_BYTES], to[VS_BRANCH_PATH_BYTES], directory[VS_BRANCH_PATH_BYTES];
    vs_store *s = l->store;
    vs_branch_path(path, l, "log.new");
    vs_branch_path(to, l, "log");
    vs_branch_path(directory, l, NULL);
    *renamed = 0;
    int r = s->sync(s, fresh->file);
    if (r == 0) r = s->rename(s, path, to);
    if (r == 0) {
        *renamed = 1;
        r = s->sync_dir(s, directory);
    }
    if (r < 0 && !*renamed) vs_branch_log_drop(fresh);
    else if (r < 0) vs_branch_log_close(fresh);
    if (r < 0) return r;
    vs_branch_log_close(l);
    l->file = fresh->file; /* what else readers look at is the same, and stays */
    l->salt = fresh->salt;
    l->after = fresh->after;
    l->seq = fresh->seq;
    l->end_bytes = fresh->end_bytes;
    return 0;
}

/* ---- walking ---- */

int vs_branch_reader_open(vs_branch_reader *r, const vs_branch_log *l) {
    *r = (vs_branch_reader){.log = l, .at = VS_BRANCH_LOG_HEAD, .seq = l->after};
    int64_t size = l->store->size(l->store, l->file);
    if (size < 0) return (int)size;
    r->file_bytes = (uint64_t)size;
    r->buf = malloc(READ_BYTES);
    return r->buf ? 0 : -ENOMEM;
}

void vs_branch_reader_close(vs_branch_reader *r) {
    free(r->buf);
    r->buf = NULL;
}

/* Have [at, at + want) in the buffer, as far as the file goes. Returns the bytes that are there. */
static int64_t buffered(vs_branch_reader *r, uint64_t at, size_t want, const uint8_t **p) {
    uint64_t have_end = r->buf_at + r->buf_bytes;
    if (at < r->buf_at || at + want > have_end) {
        if (at >= r->buf_at && have_end == r->file_bytes && at <= have_end) want = (size_t)(have_end - at);
        else {
            int64_t n = r->log->store->read(r->log->store, r->log->file, at, r->buf, READ_BYTES);
            if (n < 0) return n;
            r->buf_at = at;
            r->buf_bytes = (size_t)n;
            if ((size_t)n < READ_BYTES) r->file_bytes = at + (uint64_t)n;
            if (want > (size_t)n) want = (size_t)n;
        }
    }
    *p = r->buf + (at - r->buf_at);
    return (int64_t)want;
}

int vs_branch_reader_next(vs_branch_reader *r, vs_branch_record *out) {
    const uint8_t *p;
    int64_t n = buffered(r, r->at, VS_BRANCH_RECORD_MAX, &p);
    if (n < 0) return (int)n;
    size_t length = record_get(r->log, p, (size_t)n, out);
    if (length == 0 || out->seq != r->seq + 1) return 0;
    r->at += length;
    r->seq++;
    return 1;
}

/* Behind the end: is there a record that says of the missing one that it was on the medium? */
static int more_was_there(vs_branch_reader *r) {
    for (uint64_t at = r->at; at + VS_BRANCH_RECORD_HEAD <= r->file_bytes; at += RECORD_STEP) {
        const uint8_t *p;
        vs_branch_record found;
        int64_t n = buffered(r, at, VS_BRANCH_RECORD_MAX, &p);
        if (n < 0) return (int)n;
        if (record_get(r->log, p, (size_t)n, &found) && found.type == VS_BRANCH_SYNCED && found.first > r->seq)
            return damaged(r->log, -EUCLEAN, r->at, "a damaged record, with later ones behind it");
    }
    return 0;
}

static int synced_check(const vs_branch_log *l, const vs_branch_record *record, uint64_t through, uint64_t at) {
    int fits = record->count == 0 && record->first < record->seq && record->first >= through && record->flags == 0;
    return fits ? 0 : damaged(l, -EUCLEAN, at, "a record that cannot be");
}

int vs_branch_log_scan(const vs_branch_log *l, uint64_t *through, uint64_t *end_bytes, uint64_t *seq) {
    vs_branch_reader r;
    vs_branch_record record;
    int status = vs_branch_reader_open(&r, l);
    *through = l->after;
    while (status == 0) {
        uint64_t at = r.at;
        int found = vs_branch_reader_next(&r, &record);
        if (found <= 0) {
            status = found < 0 ? found : more_was_there(&r);
            break;
        }
        if (record.type != VS_BRANCH_SYNCED) continue;
        status = synced_check(l, &record, *through, at);
        *through = record.first;
    }
    *end_bytes = r.at;
    *seq = r.seq;
    vs_branch_reader_close(&r);
    return status;
}
