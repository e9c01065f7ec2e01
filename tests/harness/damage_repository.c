/* damage_repository.c: see damage_repository.h. */
#include "damage_repository.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"

#define TRY(step)                    \
    do {                             \
        int tried = (int)(step);     \
        if (tried < 0) return tried; \
    } while (0)

static const char *const parts[] = {"journal", "maps", "base"};
enum { PARTS = sizeof parts / sizeof *parts, SEGMENTS = 9, THIRD_ADDED = 3, THIRD_REMOVED = 6, MANY = 130 };

/* What makes a repository small or large. */
typedef struct scale {
    uint64_t volume_1, volume_2, volume_3;
    int writes; /* a segment */
} scale;

static const scale scales[2] = {
    {.volume_1 = 44000, .volume_2 = 28672, .volume_3 = 4096, .writes = 5},
    {.volume_1 = 400000, .volume_2 = 262144, .volume_3 = 20480, .writes = 32},
};

int damage_open(const damage_repository *r, int owner, vs_journal **out) {
    vs_journal_options o = {.owner = owner, .segment_bytes = 16 << 20};
    memcpy(o.uuid, r->uuid, sizeof o.uuid);
    return vs_journal_open(r->store, &o, out);
}

/* ---- making it ---- */

/* A base with a hole in the middle of it, and zeros at its end. */
static int base_make(damage_repository *r, const scale *s) {
    uint8_t *bytes = calloc(1, s->volume_1);
    if (!bytes) return -ENOMEM;
    plain_fill(r->history.seed, 0, bytes, r->base_bytes);
    int source = openat(r->dir, "source", O_RDWR | O_CREAT | O_TRUNC, 0600);
    int image = openat(r->dir, "base/00000001.img", O_RDWR | O_CREAT | O_TRUNC, 0600);
    int index = openat(r->dir, "base/00000001.idx", O_RDWR | O_CREAT | O_TRUNC, 0600);
    int status = source < 0 || image < 0 || index < 0 ? -errno : 0;
    if (status == 0 && pwrite(source, bytes, s->volume_1, 0) != (ssize_t)s->volume_1) status = -EIO;
    vs_base_builder *b = NULL;
    uint64_t data_bytes;
    if (status == 0) status = vs_base_builder_new(r->store, r->uuid, 1, s->volume_1, source, image, index, &b);
    if (status == 0) status = vs_base_builder_take(b, 0, s->volume_1, 1);
    if (status == 0) status = vs_base_builder_finish(b, &data_bytes);
    vs_base_builder_free(b);
    close(source);
    close(image);
    close(index);
    unlinkat(r->dir, "source", 0);
    free(bytes);
    return status;
}

static damage_file *file_find(damage_repository *r, const char *name) {
    for (int i = 0; i < r->file_count; i++)
        if (strcmp(r->files[i].name, name) == 0) return &r->files[i];
    return NULL;
}

static int file_read(const damage_repository *r, const char *name, damage_bytes *out) {
    int file = openat(r->dir, name, O_RDONLY);
    struct stat st;
    if (file < 0 || fstat(file, &st) < 0) return -errno;
    out->length = (uint64_t)st.st_size;
    out->bytes = malloc(out->length + 1);
    int status = out->bytes && pread(file, out->bytes, out->length, 0) == st.st_size ? 0 : -EIO;
    close(file);
    return status;
}

/* What the file was before becomes stale, unless it is the same. */
static int file_take(damage_repository *r, const char *name) {
    damage_file *f = file_find(r, name);
    damage_bytes now;
    TRY(file_read(r, name, &now));
    if (!f) {
        if (r->file_count == DAMAGE_FILES_MAX || strlen(name) >= sizeof f->name) return -ENFILE;
        f = &r->files[r->file_count++];
        memcpy(f->name, name, strlen(name) + 1);
        size_t n = strlen(name);
        f->kind = strcmp(name + n - 4, ".seg") == 0   ? CLASS_SEGMENT
                  : strcmp(name + n - 4, ".map") == 0 ? CLASS_MAP
                  : strcmp(name + n - 4, ".img") == 0 ? CLASS_IMAGE
                                                      : CLASS_INDEX;
    } else if (f->now.length == now.length && memcmp(f->now.bytes, now.bytes, now.length) == 0) {
        free(now.bytes);
        return 0;
    } else {
        int n = 0;
        while (n < DAMAGE_STALE_MAX - 1 && f->stale[n].length) n++;
        free(f->stale[n].bytes);
        f->stale[n] = f->now;
    }
    f->now = now;
    return 0;
}

static int name_order(const void *a, const void *b) {
    return strcmp(((const damage_file *)a)->name, ((const damage_file *)b)->name);
}

/* All files as they are now. */
static int files_take(damage_repository *r) {
    char name[300];
    for (int i = 0; i < PARTS; i++) {
        snprintf(name, sizeof name, "%s/%s", r->path, parts[i]);
        DIR *d = opendir(name);
        if (!d) return -errno;
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.' || strcmp(e->d_name, "generation") == 0) continue; /* what nothing that is read depends on */
            snprintf(name, sizeof name, "%s/%s", parts[i], e->d_name);
            int status = file_take(r, name);
            if (status < 0) return status;
        }
        closedir(d);
    }
    qsort(r->files, (size_t)r->file_count, sizeof *r->files, name_order);
    r->segments = 0;
    for (int i = 0; i < r->file_count; i++) {
        damage_file *f = &r->files[i];
        if (f->kind != CLASS_SEGMENT) continue;
        f->segment = r->segments++;
        f->sealed = f->now.length >= 2 * VS_BLOCK && memcmp(f->now.bytes + f->now.length - VS_BLOCK, "VSNAPEND", 8) == 0;
    }
    return 0;
}

/* Commits in between are at fixed places, but of different sizes. */
static int segment_fill(damage_repository *r, vs_journal *j, const scale *s, uint64_t *rng, int number) {
    for (int i = 0; i < s->writes; i++) {
        uint32_t volume = number > THIRD_ADDED && number < THIRD_REMOVED && i % 3 == 2 ? 3 : 1 + (uint32_t)(i % 2);
        uint64_t sizes[] = {0, s->volume_1, s->volume_2, s->volume_3};
        TRY(plain_step(&r->history, j, volume, sizes[volume], rng));
        if (i % 4 == 3) TRY(plain_commit(&r->history, j));
    }
    /* A batch of more than one descriptor. */
    for (uint64_t i = 0; i < MANY && number % 8 == 0; i++) TRY(plain_zero(&r->history, j, 2, i * 7, 3));
    TRY(plain_event(&r->history, j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0));
    return plain_commit(&r->history, j);
}

static int events_between(damage_repository *r, vs_journal *j, const scale *s, int number) {
    if (number == THIRD_ADDED) TRY(plain_event(&r->history, j, VS_RECORD_VOLUME_ADD, 3, 512, s->volume_3));
    if (number == THIRD_REMOVED) TRY(plain_event(&r->history, j, VS_RECORD_VOLUME_REMOVE, 3, 0, 0));
    if (number == 4) TRY(plain_event(&r->history, j, VS_RECORD_VOLUME_RESIZE, 2, 0, s->volume_2 / 2 + 512));
    if (number == 5) TRY(plain_event(&r->history, j, VS_RECORD_VOLUME_RESIZE, 2, 0, s->volume_2));
    if (number == 7) TRY(plain_event(&r->history, j, VS_RECORD_BOOKMARK_HOLD, 0, 1, 0));
    if (number == 8) TRY(plain_event(&r->history, j, VS_RECORD_BOOKMARK_REMOVE, 0, 3, 0));
    return 0;
}

static int journal_fill(damage_repository *r, vs_journal *j, const scale *s, uint64_t *rng) {
    TRY(plain_event(&r->history, j, VS_RECORD_VOLUME_ADD, 1, 512, s->volume_1));
    TRY(plain_event(&r->history, j, VS_RECORD_VOLUME_ADD, 2, 512, s->volume_2));
    for (int number = 0; number < SEGMENTS; number++) {
        /* While the volume is short, what is written must fit into it. */
        scale fits = *s;
        if (number == 4) fits.volume_2 = s->volume_2 / 2 + 512;
        TRY(events_between(r, j, s, number));
        TRY(segment_fill(r, j, &fits, rng, number));
        TRY(files_take(r));
        TRY(vs_journal_seal(j));
    }
    for (int n = 1; n > 0;) {
        n = vs_journal_merge_maps(j);
        TRY(n);
    }
    TRY(segment_fill(r, j, s, rng, 0));
    TRY(files_take(r));
    TRY(segment_fill(r, j, s, rng, 0));
    TRY(files_take(r));
    struct stat st;
    r->last_batch_seqno = r->history.count;
    const damage_file *last = NULL;
    for (int i = 0; i < r->file_count; i++)
        if (r->files[i].kind == CLASS_SEGMENT) last = &r->files[i];
    if (!last || fstatat(r->dir, last->name, &st, 0) < 0) return -EIO;
    vs_journal_facts before, after;
    vs_journal_facts_get(j, &before);
    TRY(plain_step(&r->history, j, 1, s->volume_1, rng));
    TRY(plain_write(&r->history, j, 2, 5000, 9000));
    TRY(plain_event(&r->history, j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0));
    TRY(plain_commit(&r->history, j));
    vs_journal_facts_get(j, &after);
    uint64_t others = 0;
    for (int i = 0; i < r->file_count; i++)
        if (r->files[i].kind == CLASS_SEGMENT && r->files[i].sealed) others += r->files[i].now.length;
    r->last_batch_bytes = before.journal_bytes - others;
    return 0;
}

/* ---- what it holds ---- */

static int image_take(damage_image *m, const plain_volume *v) {
    m->there = v->there;
    m->size_bytes = v->size_bytes;
    if (!v->there) return 0;
    m->bytes = malloc(v->size_bytes);
    m->writer = malloc(v->size_bytes * sizeof *m->writer);
    if (!m->bytes || !m->writer) return -ENOMEM;
    memcpy(m->bytes, v->bytes, v->size_bytes);
    memcpy(m->writer, v->writer, v->size_bytes * sizeof *m->writer);
    return 0;
}

static int points_take(damage_repository *r) {
    static plain_state state;
    plain_begin(&r->history, &state);
    while (state.seqno < r->history.count) {
        plain_advance(&r->history, &state);
        if (r->history.records[state.seqno - 1].type != VS_RECORD_BOOKMARK_ADD && state.seqno != r->history.count) continue;
        damage_point *p = &r->points[r->point_count++];
        p->seqno = state.seqno;
        for (int v = 0; v < PLAIN_VOLUMES_MAX; v++) TRY(image_take(&p->volumes[v], &state.volumes[v]));
    }
    return 0;
}

static int payload_add(damage_repository *r, const damage_payload *p) {
    if (r->payload_count % 256 == 0) {
        void *grown = realloc(r->payload, (r->payload_count + 256) * sizeof *p);
        if (!grown) return -ENOMEM;
        r->payload = grown;
    }
    r->payload[r->payload_count++] = *p;
    return 0;
}

static int payload_order(const void *a, const void *b) {
    const damage_payload *x = a, *y = b;
    if (x->file != y->file) return x->file - y->file;
    return x->block < y->block ? -1 : x->block > y->block;
}

static int record_payload(damage_repository *r, vs_journal *j, uint64_t seqno) {
    vs_run runs[300];
    vs_view *v;
    uint64_t next;
    uint32_t volume = r->history.records[seqno - 1].volume;
    TRY(vs_view_open_changes(j, volume, seqno - 1, seqno, &v));
    int n = vs_view_runs(v, 0, 1, runs, 300, &next), status = n < 0 ? n : 0;
    for (int i = 0; status == 0 && i < n; i++) {
        uint64_t first = runs[i].offset_bytes / VS_BLOCK, end = (runs[i].offset_bytes + runs[i].length_bytes + VS_BLOCK - 1) / VS_BLOCK;
        int file = 0;
        if (runs[i].kind != VS_RUN_DATA) continue;
        char name[64];
        snprintf(name, sizeof name, "journal/%020" PRIu64 ".seg", runs[i].segment);
        while (strcmp(r->files[file].name, name) != 0) file++;
        for (uint64_t b = first; status == 0 && b < end; b++)
            status = payload_add(r, &(damage_payload){file, volume, runs[i].block + (b - first), seqno, b});
    }
    vs_view_close(v);
    return status;
}

static int payload_take(damage_repository *r) {
    vs_journal *j;
    TRY(damage_open(r, 0, &j));
    int status = 0;
    for (uint64_t seqno = 1; status == 0 && seqno <= r->history.count; seqno++)
        if (r->history.records[seqno - 1].type == VS_RECORD_WRITE) status = record_payload(r, j, seqno);
    vs_journal_close(j);
    qsort(r->payload, r->payload_count, sizeof *r->payload, payload_order);
    return status;
}

const damage_payload *damage_payload_at(const damage_repository *r, int file, uint64_t block) {
    damage_payload key = {.file = file, .block = block};
    return bsearch(&key, r->payload, r->payload_count, sizeof key, payload_order);
}

/* ---- its life ---- */

/* As a machine leaves it that stopped: without the note that all is applied. */
static int clean_end_cut(damage_repository *r) {
    const damage_file *last = NULL;
    struct stat st;
    for (int i = 0; i < r->file_count; i++)
        if (r->files[i].kind == CLASS_SEGMENT) last = &r->files[i];
    int file = last ? openat(r->dir, last->name, O_RDWR) : -1;
    int status = file >= 0 && fstat(file, &st) == 0 && ftruncate(file, st.st_size - VS_BLOCK) == 0 ? 0 : -EIO;
    close(file);
    return status;
}

int damage_repository_make(damage_repository *r, const char *path, const uint8_t uuid[16], uint64_t seed, int large) {
    const scale *s = &scales[large != 0];
    char name[300];
    uint64_t rng = seed;
    vs_journal *j;
    memset(r, 0, sizeof *r);
    memcpy(r->uuid, uuid, 16);
    r->path = path;
    r->history.seed = seed;
    r->history.base_bytes = r->base_bytes = s->volume_1 / 2;
    if (mkdir(path, 0700) < 0) return -errno;
    for (int i = 0; i < PARTS; i++) {
        snprintf(name, sizeof name, "%s/%s", path, parts[i]);
        if (mkdir(name, 0700) < 0) return -errno;
    }
    r->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir < 0) return -errno;
    TRY(vs_store_posix(r->dir, &r->store));
    TRY(base_make(r, s));
    TRY(vs_journal_create(r->store, r->uuid));
    TRY(damage_open(r, 1, &j));
    int status = journal_fill(r, j, s, &rng);
    int closed = vs_journal_close(j);
    if (status == 0) status = closed;
    if (status == 0 && seed % 2) status = clean_end_cut(r);
    if (status == 0) status = files_take(r);
    if (status == 0) status = points_take(r);
    return status == 0 ? payload_take(r) : status;
}

void damage_repository_end(damage_repository *r) {
    for (int i = 0; i < r->file_count; i++) {
        free(r->files[i].now.bytes);
        for (int k = 0; k < DAMAGE_STALE_MAX; k++) free(r->files[i].stale[k].bytes);
    }
    for (int i = 0; i < r->point_count; i++)
        for (int v = 0; v < PLAIN_VOLUMES_MAX; v++) {
            free(r->points[i].volumes[v].bytes);
            free(r->points[i].volumes[v].writer);
        }
    free(r->payload);
    vs_store_close(r->store);
    close(r->dir);
}

int damage_put(const damage_repository *r, const char *name, const damage_bytes *content) {
    if (!content) return unlinkat(r->dir, name, 0) < 0 ? -errno : 0;
    int file = openat(r->dir, name, O_RDWR | O_CREAT, 0600);
    if (file < 0) return -errno;
    int status = ftruncate(file, (off_t)content->length) < 0 ? -errno : 0;
    if (status == 0 && pwrite(file, content->bytes, content->length, 0) != (ssize_t)content->length) status = -EIO;
    close(file);
    return status;
}
