/* fault_ground.c: see fault_ground.h. */
#include "fault_ground.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const parts[] = {"journal", "maps", "base", "primary"};
enum { PARTS = sizeof parts / sizeof *parts };

void fault_wrong(fault_ground *g, const char *format, ...) {
    va_list arguments;
    if (g->wrongs++) return;
    va_start(arguments, format);
    vsnprintf(g->wrong, sizeof g->wrong, format, arguments);
    va_end(arguments);
}

/* ---- the journal ---- */

int ground_open(fault_ground *g, int owner) {
    vs_journal_options o = {.owner = owner, .ack_journal = g->ack_journal, .segment_bytes = g->segment_bytes, .batch_bytes = g->batch_bytes,
                            .keep = owner ? g->keep : NULL};
    memcpy(o.uuid, fault_uuid, sizeof o.uuid);
    return vs_journal_open(g->store, &o, &g->journal);
}

int ground_close(fault_ground *g) {
    vs_journal *j = g->journal;
    uint64_t before = g->history.count;
    g->journal = NULL;
    if (!j) return 0;
    vs_journal_facts f;
    vs_journal_facts_get(j, &f);
    int r = vs_journal_close(j);
    if (r == 0 && f.last_seqno == before && before > g->history.durable) g->history.durable = before;
    return r;
}

int ground_attach(fault_ground *g, uint32_t volume) {
    return vs_journal_attach_primary(g->journal, volume, g->primaries[volume]);
}

/* ---- the directory ---- */

static void path_of(char to[512], const char *path, const char *part, const char *name) {
    snprintf(to, 512, "%s/%s/%s", path, part, name);
}

static void part_clear(const char *path, const char *part) {
    char name[512];
    path_of(name, path, part, "");
    DIR *d = opendir(name);
    for (struct dirent *e; d && (e = readdir(d));) {
        path_of(name, path, part, e->d_name);
        unlink(name);
    }
    if (d) closedir(d);
}

static int file_copy(const char *from, const char *to) {
    static uint8_t bytes[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600), r = in < 0 || out < 0 ? -errno : 0;
    ssize_t n;
    while (r == 0 && (n = read(in, bytes, sizeof bytes)) > 0)
        if (write(out, bytes, (size_t)n) != n) r = -EIO;
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    return r;
}

static int part_copy(const char *from, const char *to, const char *part) {
    char source[512], target[512];
    path_of(source, from, part, "");
    DIR *d = opendir(source);
    int r = d ? 0 : -errno;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        path_of(source, from, part, e->d_name);
        path_of(target, to, part, e->d_name);
        r = file_copy(source, target);
    }
    if (d) closedir(d);
    return r;
}

static int directory_make(fault_ground *g, const char *path) {
    char name[512];
    if (mkdir(path, 0700) < 0 && errno != EEXIST) return -errno;
    for (int i = 0; i < PARTS; i++) {
        path_of(name, path, parts[i], "");
        if (mkdir(name, 0700) < 0 && errno != EEXIST) return -errno;
        part_clear(path, parts[i]);
    }
    g->path = path;
    return 0;
}

static int primaries_open(fault_ground *g) {
    static const uint64_t sizes[] = {0, VOLUME_1, VOLUME_2, VOLUME_3};
    char name[512], number[16];
    for (uint32_t i = 1; i <= PLAIN_VOLUMES_MAX; i++) {
        snprintf(number, sizeof number, "%u.img", i);
        path_of(name, g->path, "primary", number);
        g->primaries[i] = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct stat st;
        if (g->primaries[i] < 0 || fstat(g->primaries[i], &st) < 0) return -errno;
        if (st.st_size == 0 && ftruncate(g->primaries[i], (off_t)sizes[i]) < 0) return -errno;
    }
    return 0;
}

int ground_resume(fault_ground *g) {
    g->dir = open(g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = g->dir < 0 ? -errno : vs_store_posix(g->dir, &g->store);
    if (r == 0) r = primaries_open(g);
    return r == 0 && g->keep_fd >= 0 ? vs_keep_open(g->keep_fd, &g->keep) : r;
}

void ground_rest(fault_ground *g) {
    if (g->store) vs_store_close(g->store);
    if (g->keep) vs_keep_close(g->keep);
    for (int i = 1; i <= PLAIN_VOLUMES_MAX; i++)
        if (g->primaries[i] >= 0) close(g->primaries[i]);
    if (g->dir >= 0) close(g->dir);
    g->store = NULL;
    g->keep = NULL;
    g->dir = -1;
}

void ground_end(fault_ground *g) {
    ground_rest(g);
    if (g->keep_fd >= 0) close(g->keep_fd);
    g->keep_fd = -1;
}

int ground_begin(fault_ground *g, const char *path) {
    g->keep_fd = -1;
    g->segment_bytes = 80 * 1024;
    g->batch_bytes = 48 * 1024;
    g->history.seed = g->rng = g->seed;
    int r = directory_make(g, path);
    return r < 0 ? r : ground_resume(g);
}

/* A keep is copied as it lies: what a dead process left in it. */
static int keep_copy(fault_ground *g, int from) {
    static uint8_t bytes[1 << 16];
    struct stat st;
    g->keep_fd = vs_keep_make();
    if (g->keep_fd < 0 || fstat(from, &st) < 0 || ftruncate(g->keep_fd, st.st_size) < 0) return -EIO;
    off_t at = 0, end;
    while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
        end = lseek(from, at, SEEK_HOLE);
        for (ssize_t n; at < end; at += n) {
            n = pread(from, bytes, end - at < (off_t)sizeof bytes ? (size_t)(end - at) : sizeof bytes, at);
            if (n <= 0 || pwrite(g->keep_fd, bytes, (size_t)n, at) != n) return -EIO;
        }
    }
    return 0;
}

int ground_copy(fault_ground *g, const fault_ground *from, const char *path) {
    *g = *from;
    g->store = NULL;
    g->journal = NULL;
    g->keep = NULL;
    g->keep_fd = -1;
    int r = directory_make(g, path);
    for (int i = 0; r == 0 && i < PARTS; i++) r = part_copy(from->path, path, parts[i]);
    if (r == 0 && from->keep_fd >= 0) r = keep_copy(g, from->keep_fd);
    return r == 0 ? ground_resume(g) : r;
}

/* ---- what must hold ---- */

static int wrong_open(fault_ground *g, const char *who, int r) {
    vs_fault fault;
    vs_fault_last(&fault);
    fault_wrong(g, "%s cannot open it: %s (%s)", who, strerror(-r), fault.text);
    return 1;
}

/* Open, compare with the history, close. */
static int opened_verify(fault_ground *g, int owner, uint64_t each) {
    char why[256];
    vs_fault_clear();
    int r = ground_open(g, owner);
    if (r < 0) return wrong_open(g, owner ? "an owner" : "a reader", r);
    if (plain_verify(&g->history, g->state, g->journal, each, why)) fault_wrong(g, "%s: %s", owner ? "owner" : "reader", why);
    return g->wrongs;
}

/* What was appended and not kept is no part of the history that goes on. */
static void history_settle(fault_ground *g) {
    vs_journal_facts f;
    vs_journal_facts_get(g->journal, &f);
    g->history.count = f.last_seqno;
    g->history.durable = f.committed_seqno;
}

/* A primary that is attached gets what it lacks: then it is the volume. */
static void primary_verify(fault_ground *g, uint32_t volume) {
    static uint8_t bytes[PLAIN_BYTES_MAX];
    const plain_volume *v = &g->state->volumes[volume - 1];
    vs_journal_facts f;
    if (!v->there || g->primaries[volume] < 0) return;
    int r = ground_attach(g, volume);
    if (r < 0) {
        fault_wrong(g, "the primary of volume %u cannot be attached again: %s", volume, strerror(-r));
        return;
    }
    vs_journal_facts_get(g->journal, &f);
    if (f.failed_volume) return; /* a worker after the one it failed in: an operator has to look at it */
    ssize_t n = pread(g->primaries[volume], bytes, v->size_bytes, 0);
    if (n < 0) n = 0;
    memset(bytes + n, 0, v->size_bytes - (uint64_t)n);
    if (memcmp(bytes, v->bytes, v->size_bytes) != 0) fault_wrong(g, "the primary of volume %u is not what the journal says", volume);
}

/* It must not only be right but go on. */
static void goes_on(fault_ground *g) {
    int added = 0, r = 0;
    for (int i = 0; i < PLAIN_VOLUMES_MAX && !added; i++) added = g->state->volumes[i].there ? i + 1 : 0;
    if (added) r = plain_write(&g->history, g->journal, (uint32_t)added, 700, 3000);
    else r = plain_event(&g->history, g->journal, VS_RECORD_BOOKMARK_ADD, 0, 0, 0);
    vs_journal_facts f;
    vs_journal_facts_get(g->journal, &f);
    if (r == -EIO && f.failed_volume) r = 0;
    if (r == 0) r = plain_commit(&g->history, g->journal);
    if (r == 0) r = vs_journal_seal(g->journal);
    if (r < 0) fault_wrong(g, "it does not go on afterwards: %s", strerror(-r));
}

static uint64_t first_of(vs_journal *j, uint64_t index) {
    vs_segment_facts s = {0};
    vs_journal_segment_at(j, index, &s);
    return s.first_seqno;
}

static void segments_check(fault_ground *g) {
    vs_journal_facts f;
    vs_fault fault;
    vs_journal_facts_get(g->journal, &f);
    for (uint64_t i = 0, at = 0; i < f.segments; i++, at = 0)
        if (vs_journal_check_segment(g->journal, first_of(g->journal, i), 1, &at, &fault) != 0) fault_wrong(g, "check afterwards: %s", fault.text);
}

int ground_verify(fault_ground *g) {
    if (opened_verify(g, 0, 8) == 0) ground_close(g);
    if (g->wrongs == 0 && opened_verify(g, 1, UINT64_MAX) == 0) {
        history_settle(g);
        for (uint32_t i = 1; i <= PLAIN_VOLUMES_MAX; i++) primary_verify(g, i);
        goes_on(g);
        int r = ground_close(g);
        if (r < 0) fault_wrong(g, "it cannot be closed afterwards: %s", strerror(-r));
    }
    if (g->wrongs == 0 && opened_verify(g, 0, 8) == 0 && !g->damaged) segments_check(g);
    if (g->journal) ground_close(g);
    return g->wrongs;
}
