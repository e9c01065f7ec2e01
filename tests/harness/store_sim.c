/* store_sim.c: see store_sim.h.
 *
 * What waits in a file is a list of changes in whole sectors, each with the content that the cache had after it. A sector's content on the
 * medium after a crash is that of some moment since the last sync: its own moment, whatever its neighbours' is.
 */
#include "store_sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "../native/check.h"

enum { PAGE = 4096, SECTOR = 512, SECTORS = PAGE / SECTOR, NAME_BYTES = 96, JUMP_ONE_IN = 97, GARBAGE_ONE_IN = 16 };

typedef struct page {
    uint32_t refs;
    uint8_t bytes[PAGE];
} page;

/* The bytes of a file: NULL and what lies past count are zeros. */
typedef struct pages {
    page **at;
    size_t count;
    uint64_t size_bytes;
} pages;

/* A change that waits: sectors [first, first + count) have this content after it (NULL: zeros), and the file this size. */
typedef struct change {
    uint64_t first, count, size_bytes;
    uint8_t *bytes;
} change;

typedef struct inode {
    pages cache, medium;
    change *waiting;
    size_t waiting_count, waiting_room;
} inode;

typedef struct name {
    char path[NAME_BYTES];
    int inode; /* -1: the name is not there */
} name;

typedef struct names {
    name *list;
    size_t count, room;
} names;

typedef struct handle {
    int inode; /* -1: not open */
    int error; /* of a sync that failed through another handle: the next sync through this one says so, once */
    char path[NAME_BYTES];
} handle;

struct store_sim {
    vs_store base; /* first: a vs_store * of ours is a store_sim * */
    uint64_t rng, now_ns, trace;
    inode **inodes; /* never removed: a file without a name may be open */
    size_t inode_count, inode_room;
    names cache, medium, waiting; /* waiting: names as they shall be, in order */
    handle *handles;
    size_t handle_count, handle_room;
    store_sim_hook hook;
    void *hook_arg;
};

const char *const store_sim_calls[SIM_CALLS] = {"create",   "write",  "sync", "truncate", "zero", "rename", "remove",
                                                "sync_dir", "forget", "open", "read",     "map",  "list"};

static store_sim *sim(vs_store *s) {
    return (store_sim *)s;
}

/* ---- memory ---- */

static void *need(void *p) {
    CHECK(p != NULL);
    return p;
}

/* Room for one more. */
static void grow(void *list_at, size_t count, size_t *room, size_t each) {
    void **list = list_at;
    if (count < *room) return;
    *room = *room ? *room * 2 : 8;
    *list = need(realloc(*list, *room * each));
}

static void page_put(page *p) {
    if (p && --p->refs == 0) free(p);
}

/* A page that only we have. */
static page *page_own(pages *p, size_t i) {
    if (i >= p->count) {
        p->at = need(realloc(p->at, (i + 1) * sizeof *p->at));
        memset(p->at + p->count, 0, (i + 1 - p->count) * sizeof *p->at);
        p->count = i + 1;
    }
    page *is = p->at[i];
    if (is && is->refs == 1) return is;
    page *own = need(malloc(sizeof *own));
    own->refs = 1;
    if (is) memcpy(own->bytes, is->bytes, PAGE);
    else memset(own->bytes, 0, PAGE);
    page_put(is);
    return p->at[i] = own;
}

static void pages_clear(pages *p) {
    for (size_t i = 0; i < p->count; i++) page_put(p->at[i]);
    free(p->at);
    *p = (pages){0};
}

static pages pages_share(const pages *p) {
    pages to = {.count = p->count, .size_bytes = p->size_bytes};
    if (p->count == 0) return to;
    to.at = need(malloc(p->count * sizeof *to.at));
    memcpy(to.at, p->at, p->count * sizeof *to.at);
    for (size_t i = 0; i < p->count; i++)
        if (to.at[i]) to.at[i]->refs++;
    return to;
}

/* bytes NULL: zeros. Whole pages of zeros need no memory. */
static void pages_write(pages *p, uint64_t offset_bytes, const uint8_t *bytes, uint64_t length_bytes) {
    for (uint64_t done = 0, n; done < length_bytes; done += n) {
        uint64_t at = offset_bytes + done, in = at % PAGE, i = at / PAGE;
        n = length_bytes - done < PAGE - in ? length_bytes - done : PAGE - in;
        const uint8_t *from = bytes ? bytes + done : NULL;
        if (n == PAGE && (!from || vs_is_zero(from, PAGE))) {
            if (i < p->count) {
                page_put(p->at[i]);
                p->at[i] = NULL;
            }
        } else if (from) {
            memcpy(page_own(p, i)->bytes + in, from, n);
        } else if (i < p->count && p->at[i]) {
            memset(page_own(p, i)->bytes + in, 0, n);
        }
    }
}

static void pages_read(const pages *p, uint64_t offset_bytes, uint8_t *to, uint64_t length_bytes) {
    for (uint64_t done = 0, n; done < length_bytes; done += n) {
        uint64_t at = offset_bytes + done, in = at % PAGE, i = at / PAGE;
        n = length_bytes - done < PAGE - in ? length_bytes - done : PAGE - in;
        if (i < p->count && p->at[i]) memcpy(to + done, p->at[i]->bytes + in, n);
        else memset(to + done, 0, n);
    }
}

/* What lies past the size is zeros, should it grow again. */
static void pages_size(pages *p, uint64_t size_bytes) {
    if (size_bytes < p->size_bytes) pages_write(p, size_bytes, NULL, (p->count * PAGE > size_bytes ? p->count * PAGE - size_bytes : 0));
    p->size_bytes = size_bytes;
}

/* ---- what waits ---- */

static void change_do(pages *p, const change *c) {
    if (c->count) pages_write(p, c->first * SECTOR, c->bytes, c->count * SECTOR);
    pages_size(p, c->size_bytes);
}

static void waiting_clear(inode *f) {
    for (size_t i = 0; i < f->waiting_count; i++) free(f->waiting[i].bytes);
    f->waiting_count = 0;
}

/* The cache has changed in a range: note its sectors as they are now. */
static void waiting_add(inode *f, uint64_t offset_bytes, uint64_t length_bytes) {
    grow(&f->waiting, f->waiting_count, &f->waiting_room, sizeof *f->waiting);
    uint64_t first = offset_bytes / SECTOR, end = (offset_bytes + length_bytes + SECTOR - 1) / SECTOR;
    change *c = &f->waiting[f->waiting_count++];
    *c = (change){first, length_bytes ? end - first : 0, f->cache.size_bytes, NULL};
    if (c->count == 0) return;
    c->bytes = need(malloc(c->count * SECTOR));
    pages_read(&f->cache, first * SECTOR, c->bytes, c->count * SECTOR);
}

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t state = a ^ (b * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u);
    return draw(&state);
}

/* How the sectors of a file choose their moments. */
typedef struct fate {
    uint64_t seed, grain; /* sectors that share a moment */
    int edge;             /* moments are before or after all, most often */
} fate;

static uint64_t moment(const fate *f, uint64_t sector, uint64_t moments) {
    uint64_t drawn = mix(f->seed, sector / f->grain);
    if (f->edge && drawn >> 60 != 0) return drawn & 1 ? moments : 0;
    return (drawn >> 8) % (moments + 1);
}

/* A block that grew into the file and was not written may hold what lay there before: here, another place of the file. */
static void garbage_fill(pages *p, uint64_t from_bytes, uint64_t seed) {
    for (uint64_t at = (from_bytes + SECTOR - 1) / SECTOR * SECTOR; at + SECTOR <= p->size_bytes; at += SECTOR) {
        uint8_t sector[SECTOR];
        uint64_t drawn = mix(seed, at);
        pages_read(p, at, sector, SECTOR);
        if (drawn % 4 || !vs_is_zero(sector, SECTOR)) continue;
        if (drawn & 16 && from_bytes >= SECTOR) pages_read(p, (drawn >> 8) % (from_bytes / SECTOR) * SECTOR, sector, SECTOR);
        else for (size_t i = 0; i < SECTOR; i += 8) memcpy(sector + i, &(uint64_t){drawn = mix(drawn, i)}, 8);
        pages_write(p, at, sector, SECTOR);
    }
}

/* The medium after a crash, of a file with something that waits: each sector as of its own moment. */
static pages medium_drawn(const inode *f, uint64_t seed) {
    static const uint64_t grains[] = {1, 1, SECTORS, SECTORS, UINT64_MAX};
    uint64_t n = f->waiting_count, state = seed;
    pages p = pages_share(&f->medium);
    fate how = {.seed = draw(&state)};
    how.grain = grains[draw_below(&state, 5)];
    how.edge = (int)draw_below(&state, 2);
    for (uint64_t i = 0; i < n; i++) {
        const change *c = &f->waiting[i];
        for (uint64_t k = 0; k < c->count; k++)
            if (i < moment(&how, c->first + k, n)) pages_write(&p, (c->first + k) * SECTOR, c->bytes + k * SECTOR, SECTOR);
    }
    uint64_t at = draw_below(&state, n + 1), size = at ? f->waiting[at - 1].size_bytes : f->medium.size_bytes;
    p.size_bytes = p.count * PAGE > size ? p.count * PAGE : size; /* so that what was written past it goes */
    pages_size(&p, size);
    if (size > f->medium.size_bytes && draw_below(&state, GARBAGE_ONE_IN) == 0) garbage_fill(&p, f->medium.size_bytes, draw(&state));
    return p;
}

static void waiting_done(inode *f) {
    for (size_t i = 0; i < f->waiting_count; i++) change_do(&f->medium, &f->waiting[i]);
    waiting_clear(f);
}

static int is_primary(const char *path) {
    return strncmp(path, "primary/", 8) == 0;
}

/* ---- names ---- */

static name *names_find(names *n, const char *path) {
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->list[i].path, path) == 0) return &n->list[i];
    return NULL;
}

static void path_copy(char to[NAME_BYTES], const char *path) {
    CHECK(strlen(path) < NAME_BYTES);
    memcpy(to, path, strlen(path) + 1);
}

static void names_push(names *n, const char *path, int inode_number) {
    grow(&n->list, n->count, &n->room, sizeof *n->list);
    path_copy(n->list[n->count].path, path);
    n->list[n->count++].inode = inode_number;
}

static void names_set(names *n, const char *path, int inode_number) {
    name *there = names_find(n, path);
    if (there && inode_number >= 0) there->inode = inode_number;
    else if (there) *there = n->list[--n->count];
    else if (inode_number >= 0) names_push(n, path, inode_number);
}

static int names_inode(names *n, const char *path) {
    const name *there = names_find(n, path);
    return there ? there->inode : -1;
}

static int in_directory(const char *path, const char *directory) {
    size_t n = strlen(directory);
    return strncmp(path, directory, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

/* A name changes now, and on the medium some time. */
static void name_change(store_sim *s, const char *path, int inode_number) {
    names_set(&s->cache, path, inode_number);
    names_push(&s->waiting, path, inode_number);
}

/* ---- the calls ---- */

static int step(store_sim *s, int kind, const char *path, uint64_t a, uint64_t b) {
    s->trace = mix(s->trace, (uint64_t)kind);
    for (const char *p = path; *p; p++) s->trace = s->trace * 31 + (uint8_t)*p;
    s->trace = mix(mix(s->trace, a), b);
    return s->hook ? s->hook(s->hook_arg, kind, path) : 0;
}

static handle *handle_of(vs_store *s, int file) {
    CHECK(file >= 0 && (size_t)file < sim(s)->handle_count && sim(s)->handles[file].inode >= 0);
    return &sim(s)->handles[file];
}

static inode *inode_of(vs_store *s, int file) {
    return sim(s)->inodes[handle_of(s, file)->inode];
}

static int handle_new(store_sim *s, const char *path, int inode_number) {
    size_t i = 0;
    while (i < s->handle_count && s->handles[i].inode >= 0) i++;
    if (i == s->handle_count) {
        grow(&s->handles, i, &s->handle_room, sizeof *s->handles);
        s->handle_count++;
    }
    s->handles[i].inode = inode_number;
    s->handles[i].error = 0;
    path_copy(s->handles[i].path, path);
    return (int)i;
}

static int inode_new(store_sim *s) {
    grow(&s->inodes, s->inode_count, &s->inode_room, sizeof *s->inodes);
    s->inodes[s->inode_count] = need(calloc(1, sizeof(inode)));
    return (int)s->inode_count++;
}

static int sim_open(vs_store *s, const char *path, uint32_t flags) {
    int create = (flags & VS_OPEN_CREATE) != 0, there = names_inode(&sim(s)->cache, path);
    int r = step(sim(s), create ? SIM_CREATE : SIM_OPEN, path, flags, 0);
    if (r < 0) return r;
    if (create && there >= 0) return -EEXIST;
    if (!create && there < 0) return -ENOENT;
    if (create) name_change(sim(s), path, there = inode_new(sim(s)));
    return handle_new(sim(s), path, there);
}

static int sim_close(vs_store *s, int file) {
    handle_of(s, file)->inode = -1;
    return 0;
}

static int64_t sim_size(vs_store *s, int file) {
    return (int64_t)inode_of(s, file)->cache.size_bytes;
}

static int64_t sim_read(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    int r = step(sim(s), SIM_READ, handle_of(s, file)->path, offset_bytes, length_bytes);
    if (r < 0) return r;
    const pages *p = &inode_of(s, file)->cache;
    if (offset_bytes >= p->size_bytes) return 0;
    if (length_bytes > p->size_bytes - offset_bytes) length_bytes = p->size_bytes - offset_bytes;
    pages_read(p, offset_bytes, buf, length_bytes);
    return (int64_t)length_bytes;
}

static int64_t sim_read_parts(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count, uint32_t flags) {
    (void)flags;
    int64_t done = 0;
    for (int i = 0; i < part_count; i++) {
        int64_t n = sim_read(s, file, offset_bytes + (uint64_t)done, parts[i].iov_base, parts[i].iov_len);
        if (n < 0) return n;
        done += n;
        if ((size_t)n < parts[i].iov_len) break;
    }
    return done;
}

static void sim_will_need(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    (void)s, (void)file, (void)offset_bytes, (void)length_bytes;
}

static int sim_files_max(vs_store *s) {
    (void)s;
    return 64;
}

/* To the cache, up to stop bytes of it. */
static void parts_write(inode *f, uint64_t offset_bytes, const struct iovec *parts, int part_count, uint64_t stop) {
    uint64_t at = offset_bytes, end = offset_bytes;
    for (int i = 0; i < part_count; i++) end += parts[i].iov_len;
    if (end > offset_bytes + stop) end = offset_bytes + stop;
    for (int i = 0; i < part_count && at < end; i++) {
        uint64_t n = parts[i].iov_len < end - at ? parts[i].iov_len : end - at;
        pages_write(&f->cache, at, parts[i].iov_base, n);
        at += n;
    }
    if (at == offset_bytes) return;
    if (at > f->cache.size_bytes) f->cache.size_bytes = at;
    waiting_add(f, offset_bytes, at - offset_bytes);
}

static int sim_write(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count) {
    uint64_t length = 0;
    for (int i = 0; i < part_count; i++) length += parts[i].iov_len;
    int r = step(sim(s), SIM_WRITE, handle_of(s, file)->path, offset_bytes, length);
    uint64_t stop = r < 0 && length ? draw_below(&sim(s)->rng, length) / SECTOR * SECTOR : length;
    parts_write(inode_of(s, file), offset_bytes, parts, part_count, stop);
    return r;
}

static int sim_sync(vs_store *s, int file) {
    handle *h = handle_of(s, file);
    int r = step(sim(s), SIM_SYNC, h->path, 0, 0);
    inode *f = inode_of(s, file);
    h = handle_of(s, file); /* the hook may have opened files */
    if (r == 0) {
        int before = h->error;
        waiting_done(f);
        pages_size(&f->medium, f->cache.size_bytes); /* also one whose bytes a failed sync has dropped */
        h->error = 0;
        return before;
    }
    for (size_t i = 0; i < sim(s)->handle_count; i++)
        if (&sim(s)->handles[i] != h && sim(s)->handles[i].inode == h->inode) sim(s)->handles[i].error = r;
    pages some = medium_drawn(f, draw(&sim(s)->rng));
    pages_clear(&f->medium);
    f->medium = some;
    waiting_clear(f);
    return r;
}

/* Only clean pages go: what waits stays in the cache, and so does the size, which is no page. */
static int sim_forget(vs_store *s, int file) {
    int r = step(sim(s), SIM_FORGET, handle_of(s, file)->path, 0, 0);
    if (r < 0) return r;
    inode *f = inode_of(s, file);
    uint64_t size = f->cache.size_bytes;
    pages_clear(&f->cache);
    f->cache = pages_share(&f->medium);
    for (size_t i = 0; i < f->waiting_count; i++) change_do(&f->cache, &f->waiting[i]);
    pages_size(&f->cache, size);
    return 0;
}

static void sim_write_back(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    (void)s, (void)file, (void)offset_bytes, (void)length_bytes; /* what waits may have reached the medium at any time anyway */
}

static int sim_truncate(vs_store *s, int file, uint64_t size_bytes) {
    int r = step(sim(s), SIM_TRUNCATE, handle_of(s, file)->path, size_bytes, 0);
    if (r < 0) return r;
    inode *f = inode_of(s, file);
    uint64_t before = f->cache.size_bytes;
    pages_size(&f->cache, size_bytes);
    waiting_add(f, size_bytes, before > size_bytes ? before - size_bytes : 0);
    return 0;
}

static int sim_zero(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    int r = step(sim(s), SIM_ZERO, handle_of(s, file)->path, offset_bytes, length_bytes);
    if (r < 0) return r;
    inode *f = inode_of(s, file);
    if (offset_bytes >= f->cache.size_bytes || length_bytes == 0) return 0;
    if (length_bytes > f->cache.size_bytes - offset_bytes) length_bytes = f->cache.size_bytes - offset_bytes;
    pages_write(&f->cache, offset_bytes, NULL, length_bytes);
    waiting_add(f, offset_bytes, length_bytes);
    return 0;
}

static int sim_rename(vs_store *s, const char *from, const char *to) {
    int r = step(sim(s), SIM_RENAME, from, 0, 0);
    int there = names_inode(&sim(s)->cache, from);
    if (r < 0) return r;
    if (there < 0) return -ENOENT;
    name_change(sim(s), to, there);
    name_change(sim(s), from, -1);
    return 0;
}

static int sim_remove(vs_store *s, const char *path) {
    int r = step(sim(s), SIM_REMOVE, path, 0, 0);
    if (r < 0) return r;
    if (names_inode(&sim(s)->cache, path) < 0) return -ENOENT;
    name_change(sim(s), path, -1);
    return 0;
}

static int sim_sync_dir(vs_store *s, const char *path) {
    int r = step(sim(s), SIM_SYNC_DIR, path, 0, 0);
    if (r < 0) return r;
    names *waiting = &sim(s)->waiting;
    size_t kept = 0;
    for (size_t i = 0; i < waiting->count; i++) {
        if (in_directory(waiting->list[i].path, path)) names_set(&sim(s)->medium, waiting->list[i].path, waiting->list[i].inode);
        else waiting->list[kept++] = waiting->list[i];
    }
    waiting->count = kept;
    return 0;
}

static int sim_list(vs_store *s, const char *path, vs_list_fn each, void *arg) {
    int r = step(sim(s), SIM_LIST, path, 0, 0);
    const names *n = &sim(s)->cache;
    for (size_t i = 0; r == 0 && i < n->count; i++)
        if (in_directory(n->list[i].path, path)) r = each(arg, n->list[i].path + strlen(path) + 1);
    return r;
}

static int sim_map(vs_store *s, int file, uint64_t size_bytes, const void **out) {
    int r = step(sim(s), SIM_MAP, handle_of(s, file)->path, size_bytes, 0);
    const pages *p = &inode_of(s, file)->cache;
    if (r < 0) return r;
    if (size_bytes == 0 || size_bytes > p->size_bytes) return -EINVAL;
    uint8_t *bytes = need(aligned_alloc(PAGE, (size_bytes + PAGE - 1) / PAGE * PAGE));
    pages_read(p, 0, bytes, size_bytes);
    *out = bytes;
    return 0;
}

static void sim_unmap(vs_store *s, const void *base, uint64_t size_bytes) {
    (void)s, (void)size_bytes;
    free((void *)(uintptr_t)base);
}

static uint64_t sim_now_ns(vs_store *s) {
    store_sim *m = sim(s);
    m->now_ns += 1 + draw_below(&m->rng, 1000000);
    if (draw_below(&m->rng, JUMP_ONE_IN) == 0) {
        uint64_t by = draw_below(&m->rng, 7200) * 1000000000u;
        if (draw(&m->rng) & 1) m->now_ns += by;
        else m->now_ns -= by;
    }
    return m->now_ns;
}

static int sim_entropy(vs_store *s, void *buf, size_t length_bytes) {
    for (size_t i = 0; i < length_bytes; i++) ((uint8_t *)buf)[i] = (uint8_t)draw(&sim(s)->rng);
    return 0;
}

static void sim_destroy(vs_store *s) {
    store_sim *m = sim(s);
    for (size_t i = 0; i < m->inode_count; i++) {
        waiting_clear(m->inodes[i]);
        free(m->inodes[i]->waiting);
        pages_clear(&m->inodes[i]->cache);
        pages_clear(&m->inodes[i]->medium);
        free(m->inodes[i]);
    }
    free(m->inodes);
    free(m->cache.list);
    free(m->medium.list);
    free(m->waiting.list);
    free(m->handles);
    free(m);
}

/* ---- life ---- */

vs_store *store_sim_new(uint64_t seed) {
    static const vs_store functions = {
        sim_open,  sim_close,    sim_size, sim_read,   sim_read_parts, sim_will_need, sim_files_max, sim_write, sim_sync,  sim_forget,  sim_write_back,
        sim_truncate, sim_zero, sim_rename, sim_remove,     sim_sync_dir,  sim_list,      sim_map,   sim_unmap, sim_now_ns, sim_entropy,
        .destroy = sim_destroy};
    store_sim *m = need(calloc(1, sizeof *m));
    m->base = functions;
    m->rng = seed ^ 0xC0FFEE;
    m->now_ns = UINT64_C(1795000000000000000);
    return &m->base;
}

static names names_copy(const names *n) {
    names to = {.count = n->count, .room = n->count};
    if (n->count == 0) return to;
    to.list = need(malloc(n->count * sizeof *to.list));
    memcpy(to.list, n->list, n->count * sizeof *to.list);
    return to;
}

/* Does a change to a name survive? Most filesystems keep their order; ours need not. */
static int name_survives(uint64_t seed, store_sim_policy policy, const char *path, size_t i, size_t count) {
    switch (policy) {
    case SIM_SYNCED_ONLY: return 0;
    case SIM_ALL: return 1;
    case SIM_JOURNAL_ONLY: return !is_primary(path);
    case SIM_PRIMARY_ONLY: return is_primary(path);
    default: return mix(seed, 1) % 4 ? i < mix(seed, 2) % (count + 1) : mix(seed, 3 + i) & 1;
    }
}

static pages medium_after(const inode *f, const char *path, uint64_t seed, store_sim_policy policy) {
    int all = policy == SIM_ALL || (policy == SIM_PRIMARY_ONLY && is_primary(path)) || (policy == SIM_JOURNAL_ONLY && !is_primary(path));
    if (f->waiting_count == 0 || (policy != SIM_ANY && !all)) return pages_share(&f->medium);
    if (policy == SIM_ANY) return medium_drawn(f, seed);
    pages p = pages_share(&f->medium);
    for (size_t i = 0; i < f->waiting_count; i++) change_do(&p, &f->waiting[i]);
    return p;
}

/* A file that has a name after the crash; one with two of them stays one file. */
static void file_survives(store_sim *to, const store_sim *from, const name *n, int *numbers, uint64_t seed, store_sim_policy policy) {
    if (numbers[n->inode] < 0) {
        int number = numbers[n->inode] = inode_new(to);
        inode *f = to->inodes[number];
        f->medium = medium_after(from->inodes[n->inode], n->path, mix(seed, 100 + (uint64_t)n->inode), policy);
        f->cache = pages_share(&f->medium);
    }
    names_push(&to->medium, n->path, numbers[n->inode]);
}

vs_store *store_sim_crash(vs_store *s, uint64_t seed, store_sim_policy policy) {
    const store_sim *from = sim(s);
    vs_store *out = store_sim_new(seed);
    store_sim *to = sim(out);
    names left = names_copy(&from->medium);
    int *numbers = need(malloc((from->inode_count + 1) * sizeof *numbers));
    memset(numbers, 0xFF, (from->inode_count + 1) * sizeof *numbers);
    to->now_ns = from->now_ns;
    for (size_t i = 0; i < from->waiting.count; i++) {
        const name *n = &from->waiting.list[i];
        if (name_survives(seed, policy, n->path, i, from->waiting.count)) names_set(&left, n->path, n->inode);
    }
    for (size_t i = 0; i < left.count; i++) file_survives(to, from, &left.list[i], numbers, seed, policy);
    to->cache = names_copy(&to->medium);
    free(left.list);
    free(numbers);
    return out;
}

static void inode_copy(inode *to, const inode *from) {
    to->cache = pages_share(&from->cache);
    to->medium = pages_share(&from->medium);
    for (size_t i = 0; i < from->waiting_count; i++) {
        const change *c = &from->waiting[i];
        grow(&to->waiting, to->waiting_count, &to->waiting_room, sizeof *to->waiting);
        change *copy = &to->waiting[to->waiting_count++];
        *copy = *c;
        if (!c->bytes) continue;
        copy->bytes = need(malloc(c->count * SECTOR));
        memcpy(copy->bytes, c->bytes, c->count * SECTOR);
    }
}

vs_store *store_sim_kill(vs_store *s, uint64_t seed) {
    const store_sim *from = sim(s);
    vs_store *out = store_sim_new(seed);
    store_sim *to = sim(out);
    to->now_ns = from->now_ns;
    for (size_t i = 0; i < from->inode_count; i++) {
        int number = inode_new(to);
        inode_copy(to->inodes[number], from->inodes[i]);
    }
    to->cache = names_copy(&from->cache);
    to->medium = names_copy(&from->medium);
    to->waiting = names_copy(&from->waiting);
    return out;
}

void store_sim_hook_set(vs_store *s, store_sim_hook hook, void *arg) {
    sim(s)->hook = hook;
    sim(s)->hook_arg = arg;
}

int store_sim_open_files(vs_store *s) {
    int n = 0;
    for (size_t i = 0; i < sim(s)->handle_count; i++) n += sim(s)->handles[i].inode >= 0;
    return n;
}

uint64_t store_sim_trace(vs_store *s) {
    return sim(s)->trace;
}
