/* Damage of every kind to a small repository, one at a time: no byte that is returned is wrong, the damage is found, only what needs the
 * damaged bytes is lost, and an owner that opens it cuts nothing but a torn tail.
 *
 *   damage --seed N --states N     so many damages, drawn from all kinds
 *   damage --seed N --full         each of them: every bit of everything, cuts at every byte of small files and at some of others, every swap,
 *                                  removal, stale and foreign file
 *   --large                        a repository of 4 MiB (--full)
 *   --directory DIR                where (default /dev/shm)
 *   --only KIND,FILE,AT            one of them, as a failure names it
 *
 * A repository with an odd seed is one that a stopped machine left; with an even one it was closed.
 *
 * What cannot be told from a sound repository by the journal alone, and is not counted as missed (`undetectable` counts it): that its end is
 * missing, all of it from the end of some batch on. The catalog remembers how far the journal was. Damage of the very last batch of a
 * stopped machine looks like a torn tail, and is cut and kept as one.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "damage_repository.h"
#include "directory.h"

typedef enum damage_kind { BIT, CUT, REMOVED, SWAPPED, STALE, FOREIGN, REWRITTEN, LOST_WRITE, MISPLACED, KINDS } damage_kind;

static const char *const kind_names[KINDS] = {"bit", "cut", "removed", "swapped", "stale", "foreign", "rewritten", "lost-write", "misplaced"};

/* at: the bit, the length that is left, the other file, which stale copy, the block. */
typedef struct damage {
    damage_kind kind;
    int file;
    uint64_t at;
} damage;

typedef struct tally {
    uint64_t states, found, refused, undetectable, lost_reads, owners, torn;
} tally;

static damage_repository repository, foreign, rewritten; /* another repository; this one with another history */
static tally counts;
static uint64_t failures;
static char place[128];
static uint8_t room[PLAIN_BYTES_MAX]; /* for one file, or one volume */

static void fail(const damage *d, const char *what) {
    const damage_file *f = &repository.files[d->file];
    if (++failures > 40) return;
    fprintf(stderr, "damage: %s of %s at %" PRIu64 ": %s\n  again: damage --seed %" PRIu64 " --only %d,%d,%" PRIu64 "\n", kind_names[d->kind], f->name,
            d->at, what, repository.history.seed, d->kind, d->file, d->at);
}

/* ---- making and undoing ---- */

static int is_block_kind(const damage *d) {
    return d->kind == LOST_WRITE || d->kind == MISPLACED;
}

static int file_patch(const damage_file *f, uint64_t at, const uint8_t *bytes, uint64_t length) {
    int file = openat(repository.dir, f->name, O_WRONLY);
    int r = file >= 0 && pwrite(file, bytes, length, (off_t)at) == (ssize_t)length ? 0 : -EIO;
    close(file);
    return r;
}

static const damage_file *file_named(const damage_repository *r, const char *name) {
    for (int i = 0; i < r->file_count; i++)
        if (strcmp(r->files[i].name, name) == 0) return &r->files[i];
    return NULL;
}

/* What an other repository's file of this kind and place in the order is; NULL: it has none, or the same. */
static const damage_bytes *other_bytes(const damage_repository *other, const damage_file *f) {
    const damage_file *o = file_named(other, f->name);
    for (int i = 0; !o && i < other->file_count; i++)
        if (f->kind == CLASS_SEGMENT && other->files[i].kind == CLASS_SEGMENT && other->files[i].segment == f->segment) o = &other->files[i];
    return o && (o->now.length != f->now.length || memcmp(o->now.bytes, f->now.bytes, f->now.length) != 0) ? &o->now : NULL;
}

/* 0: made; 1: this damage would change nothing. */
static int damage_make(const damage *d) {
    static const uint8_t zeros[VS_BLOCK];
    const damage_file *f = &repository.files[d->file];
    const damage_bytes *content = NULL;
    uint64_t at = d->at * VS_BLOCK, n = at < f->now.length && f->now.length - at < VS_BLOCK ? f->now.length - at : VS_BLOCK;
    switch (d->kind) {
    case BIT: {
        uint8_t byte = f->now.bytes[d->at / 8] ^ (uint8_t)(1u << (d->at % 8));
        return file_patch(f, d->at / 8, &byte, 1);
    }
    case LOST_WRITE: return memcmp(f->now.bytes + at, zeros, n) == 0 ? 1 : file_patch(f, at, zeros, n);
    case MISPLACED: { /* what belongs one block on, or to the beginning */
        uint64_t from = at + 2 * VS_BLOCK <= f->now.length ? at + VS_BLOCK : 0;
        if (from + n > f->now.length || memcmp(f->now.bytes + at, f->now.bytes + from, n) == 0) return 1;
        return file_patch(f, at, f->now.bytes + from, n);
    }
    case CUT: return damage_put(&repository, f->name, &(damage_bytes){f->now.bytes, d->at});
    case REMOVED: return damage_put(&repository, f->name, NULL);
    case SWAPPED: {
        const damage_file *o = &repository.files[d->at];
        if (o->now.length == f->now.length && memcmp(o->now.bytes, f->now.bytes, f->now.length) == 0) return 1;
        int r = damage_put(&repository, f->name, &o->now);
        return r < 0 ? r : damage_put(&repository, o->name, &f->now);
    }
    case STALE: content = &f->stale[d->at]; break;
    case FOREIGN: content = other_bytes(&foreign, f); break;
    default: content = other_bytes(&rewritten, f); break;
    }
    return content ? damage_put(&repository, f->name, content) : 1;
}

static int damage_undo(const damage *d) {
    const damage_file *f = &repository.files[d->file];
    uint64_t at = d->at * VS_BLOCK, n = is_block_kind(d) && f->now.length - at < VS_BLOCK ? f->now.length - at : VS_BLOCK;
    if (d->kind == BIT) return file_patch(f, d->at / 8, f->now.bytes + d->at / 8, 1);
    if (is_block_kind(d)) return file_patch(f, at, f->now.bytes + at, n);
    if (d->kind == SWAPPED) {
        int r = damage_put(&repository, repository.files[d->at].name, &repository.files[d->at].now);
        if (r < 0) return r;
    }
    return damage_put(&repository, f->name, &f->now);
}

/* ---- what must be lost, and what may ---- */

/* Which bytes of the repository are lost, as far as that is simple. */
typedef struct expected {
    int exact;             /* 1: exactly the blocks that say so below fail; 0: any may, for what can be told from here */
    uint32_t volume;       /* of the block; 0: no block is lost */
    uint64_t volume_block;
    uint64_t writer;       /* its record, 0: the base */
    int whole_volume;      /* all of volume 1, wherever it has a base below */
    int refused;           /* 1: opening must be refused, -1: must not be, 0: may be */
    int end_may_be_missing;
    int torn;              /* the last batch, which nothing follows: it is not one */
    int harmless;          /* nothing can be found, since nothing is different for anybody */
} expected;

static int in_the_payload_of(const damage_file *f, uint64_t at, const damage_payload **out) {
    *out = damage_payload_at(&repository, (int)(f - repository.files), at / VS_BLOCK);
    return *out != NULL;
}

static uint64_t get64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static const uint8_t *base_image(void) {
    const damage_file *f = repository.files;
    while (f->kind != CLASS_IMAGE) f++;
    return f->now.bytes;
}

/* A changed byte, or block, of an index: its table of checksums is one for each block, all else is one. */
static void expect_index(expected *e, const damage_file *f, uint64_t at, int whole_block) {
    uint64_t blocks = (get64(f->now.bytes + 40) + VS_BLOCK - 1) / VS_BLOCK;
    if (at < VS_BLOCK || at >= VS_BLOCK + 4 * blocks || whole_block) {
        e->whole_volume = at < VS_BLOCK || at >= get64(f->now.bytes + 48);
        e->exact = !whole_block;
        return;
    }
    e->exact = 1;
    e->volume = 1;
    e->volume_block = (at - VS_BLOCK) / 4;
}

static void expect_segment(expected *e, const damage_file *f, uint64_t at) {
    const damage_payload *p;
    int payload = in_the_payload_of(f, at, &p);
    if (payload) {
        e->exact = 1;
        e->volume = p->volume;
        e->volume_block = p->volume_block;
        e->writer = p->seqno;
    }
    if (f->sealed) { /* a footer says what the batches say, and the other way round */
        e->exact = 1;
        e->refused = -1;
        return;
    }
    if (at < VS_BLOCK) e->refused = 1;
    else if (at < repository.last_batch_bytes) e->refused = payload ? -1 : 1;
    else e->end_may_be_missing = 1;
    e->torn = e->end_may_be_missing && repository.history.seed % 2;
}

/* The map has no row for a block of zeros: nobody reads it from the image. */
static int base_is_hole(uint64_t block) {
    for (uint64_t i = block * VS_BLOCK; i < (block + 1) * VS_BLOCK && i < repository.base_bytes; i++)
        if (base_image()[i]) return 0;
    return 1;
}

static expected expect(const damage *d) {
    const damage_file *f = &repository.files[d->file];
    expected e = {0};
    if (d->kind == BIT || is_block_kind(d)) {
        uint64_t at = d->kind == BIT ? d->at / 8 : d->at * VS_BLOCK;
        switch (f->kind) {
        case CLASS_SEGMENT: expect_segment(&e, f, at); break;
        case CLASS_MAP: e.exact = 1; e.refused = -1; break;
        case CLASS_INDEX: expect_index(&e, f, at, is_block_kind(d)); e.refused = -1; break;
        case CLASS_IMAGE:
            e = (expected){.exact = 1, .refused = -1, .volume = 1, .volume_block = at / VS_BLOCK, .harmless = base_is_hole(at / VS_BLOCK)};
            break;
        }
        return e;
    }
    const damage_file *other = d->kind == SWAPPED ? &repository.files[d->at] : f;
    e.end_may_be_missing = f->kind == CLASS_SEGMENT && !(f->sealed && other->sealed);
    e.refused = f->kind == CLASS_SEGMENT ? 0 : -1;
    e.exact = f->kind == CLASS_MAP;
    /* A map that is not there is made again; one of an earlier time is one too few. */
    e.harmless = f->kind == CLASS_MAP && d->kind == REMOVED;
    if (d->kind == CUT && f->kind == CLASS_IMAGE) {
        e.harmless = 1; /* where only zeros were cut off, which the end of an image stands for */
        for (uint64_t i = d->at; i < f->now.length; i++) e.harmless &= f->now.bytes[i] == 0;
    }
    return e;
}

/* Does this block of the volume at this point need the damaged one? */
static int needs(const expected *e, const damage_image *m, uint32_t volume, uint64_t block) {
    uint64_t end = (block + 1) * VS_BLOCK < m->size_bytes ? (block + 1) * VS_BLOCK : m->size_bytes;
    if (e->whole_volume && volume == 1) return 1;
    if (e->volume != volume || e->volume_block != block || (e->writer == 0 && base_is_hole(block))) return 0;
    for (uint64_t i = block * VS_BLOCK; i < end; i++)
        if (m->writer[i] == e->writer && (e->writer || i < repository.base_bytes)) return 1;
    return 0;
}

/* ---- reading ---- */

static int is_a_refusal(int r) {
    return r == -EBADMSG || r == -EUCLEAN || r == -EXDEV || r == -EPROTONOSUPPORT;
}

/* Block by block, since all of it cannot be read. */
static void blocks_judge(const damage *d, const expected *e, const damage_image *m, vs_view *v, uint32_t volume) {
    for (uint64_t block = 0; block * VS_BLOCK < m->size_bytes; block++) {
        uint64_t at = block * VS_BLOCK, n = m->size_bytes - at < VS_BLOCK ? m->size_bytes - at : VS_BLOCK;
        int64_t got = vs_view_read(v, at, room, n);
        int lost = e->exact && needs(e, m, volume, block);
        if (got < 0) {
            counts.lost_reads++;
            if (!is_a_refusal((int)got)) fail(d, "a read failed with an error that is none of damage");
            if (e->exact && !lost) fail(d, "a block was lost that does not need the damaged bytes");
        } else if (memcmp(room, m->bytes + at, n) != 0) {
            fail(d, "WRONG BYTES were returned");
        } else if (lost) {
            fail(d, "a block was read whose bytes are damaged");
        }
    }
}

static void image_judge(const damage *d, const expected *e, vs_journal *j, const damage_point *p, uint32_t volume) {
    const damage_image *m = &p->volumes[volume - 1];
    vs_view *v;
    if (!m->there) return;
    int r = vs_view_open(j, volume, p->seqno, &v);
    if (r < 0) {
        counts.lost_reads++;
        if (!is_a_refusal(r)) fail(d, "a view failed to open with an error that is none of damage");
        if (e->exact && !(e->whole_volume && volume == 1)) fail(d, "a point was lost that does not need the damaged bytes");
        return;
    }
    int64_t n = vs_view_size(v) == m->size_bytes ? vs_view_read(v, 0, room, m->size_bytes) : 0;
    if (n < 0) blocks_judge(d, e, m, v, volume);
    else if ((uint64_t)n != m->size_bytes || memcmp(room, m->bytes, m->size_bytes) != 0) fail(d, "WRONG BYTES were returned");
    else if (e->exact && e->volume == volume && needs(e, m, volume, e->volume_block))
        fail(d, "a volume was read of which bytes are damaged");
    vs_view_close(v);
}

/* Every volume at every point, or at every some. */
static void points_judge(const damage *d, const expected *e, vs_journal *j, uint64_t last_seqno, int step) {
    for (int i = (int)(d->at % (unsigned)step); i < repository.point_count; i += step)
        for (uint32_t volume = 1; volume <= PLAIN_VOLUMES_MAX && repository.points[i].seqno <= last_seqno; volume++)
            image_judge(d, e, j, &repository.points[i], volume);
}

/* ---- is it found? ---- */

static int check_reads_data = 1;

static uint64_t first_of(vs_journal *j, uint64_t index) {
    vs_segment_facts s = {0};
    vs_journal_segment_at(j, index, &s);
    return s.first_seqno;
}

static int segment_finds(vs_journal *j, uint64_t index) {
    vs_fault fault;
    uint64_t at = 0;
    return vs_journal_check_segment(j, first_of(j, index), check_reads_data, &at, &fault) == 1;
}

static int maps_find(vs_journal *j) {
    vs_fault fault;
    char name[64];
    for (uint64_t i = 0;; i++) {
        int r = vs_journal_check_map(j, i, &fault, name);
        if (r == 1 || r == -ENOENT) return r == 1;
    }
}

/* As `check --read-data` does it: what no read looks at, and then all of the volume where it is its base alone. */
static int base_finds(vs_journal *j) {
    vs_view *v;
    if (vs_journal_check_base(j, 1) != 0) return 1;
    if (vs_view_open(j, 1, 1, &v) < 0) return 1;
    int64_t n = vs_view_read(v, 0, room, sizeof room);
    vs_view_close(v);
    return n < 0;
}

/* What was changed in one file is looked for there alone; all of it else. */
static int check_finds(const damage *d, vs_journal *j) {
    const damage_file *f = &repository.files[d->file];
    int everywhere = d->kind != BIT && !is_block_kind(d);
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    int found = (everywhere || f->kind == CLASS_MAP) && maps_find(j);
    if (!found && (everywhere || f->kind == CLASS_IMAGE || f->kind == CLASS_INDEX)) found = base_finds(j);
    for (uint64_t i = 0; !found && i < facts.segments; i++)
        if (everywhere || (f->kind == CLASS_SEGMENT && f->segment == i)) found = segment_finds(j, i);
    return found;
}

/* ---- an owner ---- */

static int listing_take(void *arg, const char *name) {
    (*(uint64_t *)arg)++;
    (void)name;
    return 0;
}

static uint64_t journal_files(vs_store *s) {
    uint64_t n = 0;
    s->list(s, "journal", listing_take, &n);
    return n;
}

/* The repository as it is, in another directory: the unsealed segment is a copy, all else another name of the same files. */
static int owner_ground(damage_repository *o, const char *path) {
    *o = repository;
    o->path = path;
    char name[300];
    mkdir(path, 0700);
    o->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o->dir < 0) return -errno;
    static const char *const parts[] = {"journal", "maps", "base"};
    for (int i = 0; i < 3; i++) mkdirat(o->dir, parts[i], 0700);
    for (int i = 0; i < repository.file_count; i++) {
        const damage_file *f = &repository.files[i];
        struct stat st;
        if (f->kind != CLASS_SEGMENT || f->sealed) {
            linkat(repository.dir, f->name, o->dir, f->name, 0);
            continue;
        }
        int file = openat(repository.dir, f->name, O_RDONLY);
        if (file < 0) continue;
        damage_bytes b = {.bytes = room};
        if (fstat(file, &st) == 0 && (b.length = (uint64_t)st.st_size) <= sizeof room) {
            ssize_t n = pread(file, room, b.length, 0);
            if (n >= 0) damage_put(o, f->name, &b);
        }
        close(file);
    }
    (void)name;
    return vs_store_posix(o->dir, &o->store);
}

static void owner_end(damage_repository *o) {
    vs_store_close(o->store);
    close(o->dir);
    directory_remove(o->path);
}

static damage_bytes file_bytes(const damage_repository *o, const char *name, uint8_t *to) {
    int file = openat(o->dir, name, O_RDONLY);
    ssize_t n = file >= 0 ? pread(file, to, PLAIN_BYTES_MAX, 0) : -1;
    if (file >= 0) close(file);
    return (damage_bytes){to, n < 0 ? UINT64_MAX : (uint64_t)n};
}

static int torn_kept(const damage_repository *o, const damage_file *last, const damage_bytes *before, const damage_bytes *after) {
    static uint8_t kept[PLAIN_BYTES_MAX];
    char name[128];
    struct stat st;
    snprintf(name, sizeof name, "%s.%" PRIu64 ".torn", last->name, after->length);
    if (fstatat(o->dir, name, &st, 0) < 0) return 0;
    damage_bytes k = file_bytes(o, name, kept);
    return k.length == before->length - after->length && memcmp(kept, before->bytes + after->length, k.length) == 0;
}

/* An owner opens it. What it may cut is what no record that was synced lies in; what it cuts it keeps. */
static void owner_judge(const damage *d, const expected *e) {
    static uint8_t before_bytes[PLAIN_BYTES_MAX], after_bytes[PLAIN_BYTES_MAX];
    static damage_repository o;
    char path[160];
    vs_journal *j;
    const damage_file *last = NULL;
    for (int i = 0; i < repository.file_count; i++)
        if (repository.files[i].kind == CLASS_SEGMENT) last = &repository.files[i];
    snprintf(path, sizeof path, "%s/owner", place);
    if (owner_ground(&o, path) < 0) {
        fail(d, "no ground for an owner");
        return;
    }
    damage_bytes before = file_bytes(&o, last->name, before_bytes);
    uint64_t files = journal_files(o.store);
    int r = damage_open(&o, 1, &j);
    damage_bytes after = file_bytes(&o, last->name, after_bytes);
    counts.owners++;
    if (r < 0) {
        if (!is_a_refusal(r)) fail(d, "an owner was refused with an error that is none of damage");
        if (e->refused < 0) fail(d, "an owner was refused what a reader is to be let into");
        if (after.length != before.length || (before.length != UINT64_MAX && memcmp(before_bytes, after_bytes, before.length) != 0) ||
            journal_files(o.store) != files)
            fail(d, "an owner was refused, and something was changed");
    } else {
        vs_journal_facts f;
        vs_journal_facts_get(j, &f);
        if (e->refused > 0) fail(d, "an owner was let into a journal that is damaged in its middle");
        if (f.last_seqno < repository.history.count && !e->end_may_be_missing) fail(d, "an owner lost records that were synced");
        if (e->exact && f.last_seqno < repository.last_batch_seqno) fail(d, "an owner lost more than the last batch");
        if (before.length != UINT64_MAX && after.length < before.length) {
            counts.torn++;
            int zeros = 1;
            for (uint64_t i = after.length; i < before.length; i++) zeros &= before_bytes[i] == 0;
            if (!zeros && !torn_kept(&o, last, &before, &after)) fail(d, "an owner cut something and did not keep it");
        }
        points_judge(d, e, j, f.last_seqno, 4);
        if (vs_journal_close(j) < 0) fail(d, "an owner could not close it again");
    }
    owner_end(&o);
}

/* ---- one damage ---- */

static void reader_judge(const damage *d, const expected *e, int points_step) {
    vs_journal *j;
    vs_fault_clear();
    int r = damage_open(&repository, 0, &j);
    if (r < 0) {
        vs_fault fault;
        vs_fault_last(&fault);
        counts.refused++;
        counts.found++;
        if (!is_a_refusal(r)) fail(d, "opening failed with an error that is none of damage");
        if (e->refused < 0) fail(d, "it was refused, where most of it can be read");
        if (fault.code != r || !fault.text[0]) fail(d, "it was refused and not said why");
        return;
    }
    vs_journal_facts f;
    vs_journal_facts_get(j, &f);
    if (e->refused > 0) fail(d, "it was opened although it is damaged in its middle");
    int found = check_finds(d, j), short_of = f.last_seqno < repository.history.count;
    if (short_of && !e->end_may_be_missing) fail(d, "records that were synced are missing");
    if (e->torn && f.last_seqno != repository.last_batch_seqno) fail(d, "a batch was taken in that is not whole");
    if (short_of && d->kind == BIT && f.last_seqno < repository.last_batch_seqno) fail(d, "more than the last batch is missing");
    if (found) counts.found++;
    else if (e->end_may_be_missing || e->harmless) counts.undetectable++;
    else fail(d, "check did not find it");
    points_judge(d, e, j, f.last_seqno, points_step);
    vs_journal_close(j);
}

static void judge(const damage *d, int with_owner, int points_step) {
    int r = damage_make(d);
    if (r == 1) return;
    if (r < 0) {
        fail(d, "it could not be made");
    } else {
        expected e = expect(d);
        reader_judge(d, &e, points_step);
        const damage_file *f = &repository.files[d->file];
        if (with_owner || (f->kind == CLASS_SEGMENT && !f->sealed)) owner_judge(d, &e);
        counts.states++;
    }
    if (damage_undo(d) < 0) {
        fail(d, "it could not be undone");
        exit(2);
    }
}

/* ---- all of them, or some ---- */

/* How many damages of a kind one file can have. */
static uint64_t kinds_of(damage_kind kind, int file) {
    const damage_file *f = &repository.files[file];
    uint64_t n = 0;
    switch (kind) {
    case BIT: return f->now.length * 8;
    case CUT: return f->now.length;
    case REMOVED: return 1;
    case SWAPPED: return (uint64_t)repository.file_count;
    case STALE:
        while (n < DAMAGE_STALE_MAX && f->stale[n].length) n++;
        return n;
    case FOREIGN:
    case REWRITTEN: return 1;
    default: return (f->now.length + VS_BLOCK - 1) / VS_BLOCK;
    }
}

/* An index of another history of the same repository is not told from ours: nothing ties a base to the journal but its place. Check sees
 * that its image is another. */
static int makes_sense(const damage *d) {
    if (d->kind == REWRITTEN && repository.files[d->file].kind == CLASS_INDEX) return 0;
    if (d->kind == SWAPPED) return d->at > (uint64_t)d->file && repository.files[d->at].kind == repository.files[d->file].kind;
    return 1;
}

/* Half of all bits are of metadata, which is a small part of the bytes; files are drawn alike, whatever their sizes. */
static uint64_t bit_draw(int file, uint64_t *rng) {
    const damage_file *f = &repository.files[file];
    const damage_payload *p;
    for (int tries = 0;; tries++) {
        uint64_t at = plain_below(rng, f->now.length);
        if (f->kind != CLASS_SEGMENT || tries > 30 || plain_below(rng, 2) || !in_the_payload_of(f, at, &p)) return at * 8 + plain_below(rng, 8);
    }
}

static void sampled(uint64_t states, uint64_t seed) {
    static const int weights[KINDS] = {[BIT] = 70, [CUT] = 12, [REMOVED] = 1, [SWAPPED] = 3, [STALE] = 2, [FOREIGN] = 1, [REWRITTEN] = 1,
                                       [LOST_WRITE] = 5, [MISPLACED] = 5};
    uint64_t rng = seed;
    for (uint64_t i = 0; counts.states < states && failures < 40; i++) {
        uint64_t pick = plain_below(&rng, 100);
        damage d = {.kind = BIT};
        while (pick >= (uint64_t)weights[d.kind]) pick -= (uint64_t)weights[d.kind++];
        d.file = (int)plain_below(&rng, (uint64_t)repository.file_count);
        uint64_t n = kinds_of(d.kind, d.file);
        if (n == 0) continue;
        d.at = d.kind == BIT ? bit_draw(d.file, &rng) : plain_below(&rng, n);
        if (makes_sense(&d)) judge(&d, i % 8 == 0, 3);
    }
}

/* A block of the volume that is read from one block of a file: of a segment, by the record alone; of the base, at the volume's beginning. */
typedef struct block_reader {
    int file;
    uint64_t block, volume_block;
    uint32_t volume;
    uint64_t since, seqno;
} block_reader;

/* A bit of it is wrong: what reads it fails. Under a hole of the base's map nothing does. */
static void block_bit_judge(const damage *d, const block_reader *b, vs_view *v, const uint8_t *sound) {
    uint64_t at = b->volume_block * VS_BLOCK;
    int64_t n = vs_view_read(v, at, room, VS_BLOCK);
    counts.states++;
    if (repository.files[d->file].kind == CLASS_IMAGE && base_is_hole(b->block)) {
        counts.undetectable++;
        if (n <= 0 || memcmp(room, sound, (size_t)n) != 0) fail(d, "what lies under a hole of the map was read");
    } else if (n == -EBADMSG) {
        counts.found++;
        counts.lost_reads++;
    } else {
        fail(d, n < 0 ? "a read failed with an error that is none of damage" : "a block was read whose bytes are damaged");
    }
}

/* Every bit of a block of data; every 512th is looked for by check too, which names the place. */
static void block_judge(const block_reader *b) {
    static uint8_t sound[VS_BLOCK];
    const damage_file *f = &repository.files[b->file];
    uint64_t begin = b->block * VS_BLOCK * 8, end = begin + 8 * VS_BLOCK < f->now.length * 8 ? begin + 8 * VS_BLOCK : f->now.length * 8;
    vs_journal *j;
    vs_view *v;
    vs_fault fault;
    int r = damage_open(&repository, 0, &j);
    if (r == 0) r = b->since ? vs_view_open_changes(j, b->volume, b->since, b->seqno, &v) : vs_view_open(j, b->volume, b->seqno, &v);
    if (r < 0) {
        fail(&(damage){BIT, b->file, begin}, "a sound repository could not be opened");
        return;
    }
    vs_view_read(v, b->volume_block * VS_BLOCK, sound, VS_BLOCK);
    int file = openat(repository.dir, f->name, O_WRONLY);
    for (damage d = {BIT, b->file, begin}; d.at < end && failures < 40; d.at++) {
        uint64_t byte = d.at / 8, from = b->block * VS_BLOCK;
        uint8_t wrong = f->now.bytes[byte] ^ (uint8_t)(1u << (d.at % 8));
        pwrite(file, &wrong, 1, (off_t)byte);
        block_bit_judge(&d, b, v, sound);
        if (d.at % 512 == 0 && f->kind == CLASS_SEGMENT &&
            (vs_journal_check_segment(j, first_of(j, f->segment), 1, &from, &fault) != 1 || fault.offset_bytes != b->block * VS_BLOCK))
            fail(&d, "check did not find it where it is");
        pwrite(file, &f->now.bytes[byte], 1, (off_t)byte);
    }
    close(file);
    vs_view_close(v);
    vs_journal_close(j);
}

static void payload_judge(void) {
    for (uint64_t i = 0; i < repository.payload_count && failures < 40; i++) {
        const damage_payload *p = &repository.payload[i];
        block_judge(&(block_reader){p->file, p->block, p->volume_block, p->volume, p->seqno - 1, p->seqno});
    }
    for (int file = 0; file < repository.file_count; file++)
        for (uint64_t block = 0; repository.files[file].kind == CLASS_IMAGE && block * VS_BLOCK < repository.files[file].now.length; block++)
            block_judge(&(block_reader){file, block, block, 1, 0, 1});
}

/* Of a sealed segment: headers, descriptors, trailer. Views read by its footer, so nothing but check sees what is damaged there. */
static int is_only_checked(const damage_file *f, uint64_t byte) {
    const uint8_t *trailer = f->now.bytes + f->now.length - VS_BLOCK;
    return f->kind == CLASS_SEGMENT && f->sealed && (byte < get64(trailer + 64) || byte >= f->now.length - VS_BLOCK);
}

/* Is a bit found, by a reader that was there before? */
static void checked_bit_judge(const damage *d, vs_journal *j) {
    if (damage_make(d) < 0) fail(d, "it could not be made");
    if (segment_finds(j, repository.files[d->file].segment)) counts.found++;
    else fail(d, "check did not find it");
    counts.states++;
    if (damage_undo(d) < 0) fail(d, "it could not be undone");
}

/* Every bit of what is no data. All are looked for by a check that reads no data, as it finds all of them; of those that only a check sees
 * every 64th is judged in every other way too. */
static void metadata_judge(int file) {
    const damage_file *f = &repository.files[file];
    const damage_payload *p;
    vs_journal *j;
    if (f->kind == CLASS_IMAGE || damage_open(&repository, 0, &j) < 0) return;
    for (damage d = {BIT, file, 0}; d.at < f->now.length * 8 && failures < 40; d.at++) {
        if (f->kind == CLASS_SEGMENT && in_the_payload_of(f, d.at / 8, &p)) {
            d.at += 8 * VS_BLOCK - 1;
            continue;
        }
        check_reads_data = d.at % 4096 == 0;
        if (d.at % 64 && is_only_checked(f, d.at / 8)) checked_bit_judge(&d, j);
        else judge(&d, d.at % 4096 == 0, d.at % 256 == 0 ? 3 : repository.point_count);
    }
    check_reads_data = 1;
    vs_journal_close(j);
}

/* Small files are cut at every byte, others at every so many. */
static uint64_t cut_step(const damage_file *f) {
    return f->now.length <= 64 << 10 ? 1 : f->kind == CLASS_SEGMENT && !f->sealed ? 13 : 127;
}

static void full(void) {
    payload_judge();
    fprintf(stderr, "damage: every bit of data: %" PRIu64 " damages, %" PRIu64 " failures\n", counts.states, failures);
    for (int file = 0; file < repository.file_count; file++) {
        metadata_judge(file);
        fprintf(stderr, "damage: %s: %" PRIu64 " damages, %" PRIu64 " failures\n", repository.files[file].name, counts.states, failures);
    }
    for (int file = 0; file < repository.file_count; file++)
        for (damage d = {CUT, file, 0}; d.kind < KINDS; d.kind++) {
            uint64_t n = kinds_of(d.kind, file), step = d.kind == CUT ? cut_step(&repository.files[file]) : 1;
            for (d.at = 0; d.at < n && failures < 40; d.at += step)
                if (makes_sense(&d)) judge(&d, 1, 3);
        }
}

typedef struct arguments {
    uint64_t seed, states;
    int full, large;
    const char *directory, *only;
} arguments;

static int arguments_read(arguments *a, int argc, char **argv) {
    *a = (arguments){.seed = 1, .states = 1000, .directory = "/dev/shm"};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--full") == 0) a->full = 1;
        else if (strcmp(argv[i], "--large") == 0) a->large = 1;
        else if (!value) return -EINVAL;
        else if (strcmp(argv[i], "--seed") == 0) a->seed = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--states") == 0) a->states = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--directory") == 0) a->directory = value, i++;
        else if (strcmp(argv[i], "--only") == 0) a->only = value, i++;
        else return -EINVAL;
    }
    return 0;
}

static int only_read(const char *text, damage *d) {
    unsigned kind;
    int file;
    uint64_t at;
    if (sscanf(text, "%u,%d,%" SCNu64, &kind, &file, &at) != 3 || kind >= KINDS || file < 0 || file >= repository.file_count) return -EINVAL;
    *d = (damage){(damage_kind)kind, file, at};
    return at < kinds_of(d->kind, file) ? 0 : -EINVAL;
}

/* The repository itself must be sound, or all else says nothing. */
static void sound_judge(void) {
    damage none = {BIT, 0, 0};
    expected e = {.exact = 1, .refused = -1};
    vs_journal *j;
    if (damage_open(&repository, 0, &j) < 0) {
        fail(&none, "not damaged, and not opened");
        return;
    }
    points_judge(&none, &e, j, repository.history.count, 1);
    if (maps_find(j) || base_finds(j)) fail(&none, "not damaged, and check finds something");
    for (uint64_t i = 0; i < repository.segments; i++)
        if (segment_finds(j, i)) fail(&none, "not damaged, and check finds something");
    vs_journal_close(j);
}

static int make(damage_repository *r, const char *name, const char *uuid, uint64_t seed, int large) {
    static char paths[3][160];
    static int used;
    char *path = paths[used++];
    snprintf(path, sizeof paths[0], "%s/%s", place, name);
    int status = damage_repository_make(r, path, (const uint8_t *)uuid, seed, large);
    if (status < 0) fprintf(stderr, "damage: %s could not be made: %s\n", path, strerror(-status));
    return status;
}

int main(int argc, char **argv) {
    arguments a;
    damage d;
    if (arguments_read(&a, argc, argv) < 0) {
        fprintf(stderr, "usage: damage --seed N --states N | --full [--large] | --only KIND,FILE,AT [--directory DIR]\n");
        return 2;
    }
    snprintf(place, sizeof place, "%s/vsnapfs-damage-XXXXXX", a.directory);
    if (!mkdtemp(place)) {
        perror(place);
        return 2;
    }
    if (make(&repository, "repository", "of the damaged..", a.seed, a.large) < 0 || make(&foreign, "foreign", "of another one..", a.seed, a.large) < 0 ||
        make(&rewritten, "rewritten", "of the damaged..", a.seed + 1000000, a.large) < 0)
        return 2;
    uint64_t bytes = 0;
    for (int i = 0; i < repository.file_count; i++) bytes += repository.files[i].now.length;
    sound_judge();
    if (a.only && only_read(a.only, &d) < 0) return 2;
    if (a.only) judge(&d, 1, 1);
    else if (a.full) full();
    else sampled(a.states, a.seed);
    if (failures == 0) sound_judge(); /* all of it was undone, and an owner has changed nothing that it shared */
    damage_repository_end(&repository);
    damage_repository_end(&foreign);
    damage_repository_end(&rewritten);
    if (directory_remove(place) < 0) perror(place), failures++;
    printf("{\"harness\": \"damage\", \"seed\": %" PRIu64 ", \"states\": %" PRIu64 ", \"failures\": %" PRIu64 ", \"found\": %" PRIu64
           ", \"refused\": %" PRIu64 ", \"undetectable\": %" PRIu64 ", \"lost_reads\": %" PRIu64 ", \"owners\": %" PRIu64 ", \"torn\": %" PRIu64
           ", \"bytes\": %" PRIu64 "}\n",
           a.seed, counts.states, failures, counts.found, counts.refused, counts.undetectable, counts.lost_reads, counts.owners, counts.torn, bytes);
    return failures || counts.states == 0 ? 1 : 0;
}
