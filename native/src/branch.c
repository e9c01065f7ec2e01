/* branch.c: the volumes of a branch, and holding it while its last layers become others' too. */
#include "branch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "branch_internal.h"
#include "format.h"
#include "journal_internal.h"
#include "room.h"
#include "status.h"

enum { UNSYNCED_BYTES = 64 << 20, REWRITE_BYTES = 1 << 16 };

typedef struct vs_branch_volume_state volume_state;

/* ---- holding ---- */

/* Whoever changes something is inside; a branch that is held lets nobody in. */
void vs_branch_enter(vs_branch *b) {
    pthread_mutex_lock(&b->mu);
    while (b->held) pthread_cond_wait(&b->changed, &b->mu);
    b->inside++;
    pthread_mutex_unlock(&b->mu);
}

void vs_branch_leave(vs_branch *b) {
    pthread_mutex_lock(&b->mu);
    if (--b->inside == 0) pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

static int hold(vs_branch *b) {
    pthread_mutex_lock(&b->mu);
    int r = b->held ? -EBUSY : 0;
    b->held = 1;
    while (r == 0 && b->inside) pthread_cond_wait(&b->changed, &b->mu);
    pthread_mutex_unlock(&b->mu);
    return r;
}

void vs_branch_go_on(vs_branch *b) {
    pthread_mutex_lock(&b->mu);
    b->held = 0;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

/* ---- opening ---- */

int vs_branch_open_on(vs_store *s, const uint8_t *uuid, const vs_branch_options *o, vs_branch **out) {
    vs_branch *b = calloc(1, sizeof *b);
    if (!b) return -ENOMEM;
    b->store = s;
    b->options = *o;
    if (!b->options.unsynced_bytes) b->options.unsynced_bytes = UNSYNCED_BYTES;
    if (!b->options.rewrite_bytes) b->options.rewrite_bytes = REWRITE_BYTES;
    memcpy(b->uuid, uuid, sizeof b->uuid);
    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->changed, NULL);
    *out = b;
    return 0;
}

int vs_branch_open(vs_journal *j, const vs_branch_options *o, vs_branch **out) {
    return vs_branch_open_on(j->store, j->options.uuid, o, out);
}

vs_branch_volume_state *vs_branch_find(const vs_branch *b, uint32_t volume) {
    for (size_t i = 0; i < b->volume_count; i++)
        if (b->volumes[i]->id == volume) return b->volumes[i];
    return NULL;
}

/* Its view is the caller's. */
static void volume_free(volume_state *v) {
    for (int i = 0; i < v->layer_count; i++) vs_branch_layer_close(v->layers[i]);
    pthread_mutex_destroy(&v->sync_mu);
    pthread_mutex_destroy(&v->write_mu);
    pthread_mutex_destroy(&v->mu);
    free(v->edges);
    free(v->records);
    free(v);
}

static int layers_open(volume_state *v, const uint32_t *layers, int count) {
    const vs_branch *b = v->branch;
    for (int i = 0; i < count; i++) {
        vs_branch_use use = i + 1 < count ? VS_BRANCH_FROZEN : b->options.writable ? VS_BRANCH_OWNED : VS_BRANCH_READ;
        int r = vs_branch_layer_open(b->store, b->uuid, layers[i], v->id, v->size_bytes, use, &v->layers[i]);
        if (r < 0) return r;
        v->layer_count++;
    }
    return 0;
}

static int too_many(uint32_t volume) {
    return vs_fault_set(-EMLINK, volume, 0, 0, 0, "a branch has %d layers at most", VS_BRANCH_LAYERS_MAX);
}

static int volume_new(vs_branch *b, uint32_t volume, uint64_t size_bytes, const uint32_t *layers, int count, volume_state **out) {
    volume_state *v = calloc(1, sizeof *v);
    if (!v) return -ENOMEM;
    v->branch = b;
    v->id = volume;
    v->size_bytes = size_bytes;
    v->rewrite_at_bytes = v->branch->options.rewrite_bytes;
    pthread_mutex_init(&v->sync_mu, NULL);
    pthread_mutex_init(&v->write_mu, NULL);
    pthread_mutex_init(&v->mu, NULL);
    v->edges = malloc(2 * VS_BLOCK_BYTES);
    v->records = malloc(VS_BRANCH_RECORD_MAX);
    int r = v->edges && v->records ? layers_open(v, layers, count) : -ENOMEM;
    if (r < 0) {
        volume_free(v);
        return r;
    }
    if (vs_branch_last(v)->unnoted) v->noted_changes = UINT64_MAX;
    *out = v;
    return 0;
}

int vs_branch_volume(vs_branch *b, uint32_t volume, uint64_t size_bytes, vs_view *below, const uint32_t *layers, int count) {
    volume_state *v;
    if (count < 1 || vs_branch_find(b, volume)) return -EINVAL;
    if (count > VS_BRANCH_LAYERS_MAX) return too_many(volume);
    int r = vs_room(&b->volumes, &b->volume_room, b->volume_count, 1, sizeof(volume_state *));
    if (r == 0) r = volume_new(b, volume, size_bytes, layers, count, &v);
    if (r < 0) return r;
    v->below = below;
    b->used_blocks += vs_branch_last(v)->blocks;
    b->volumes[b->volume_count++] = v;
    return 0;
}

int vs_branch_close(vs_branch *b) {
    vs_branch_go_on(b);
    int r = b->options.writable ? vs_branch_sync(b, 0) : 0;
    for (size_t i = 0; i < b->volume_count; i++) {
        if (b->volumes[i]->below) vs_view_close(b->volumes[i]->below);
        volume_free(b->volumes[i]);
    }
    free(b->volumes);
    pthread_mutex_destroy(&b->mu);
    pthread_cond_destroy(&b->changed);
    free(b);
    return r;
}

/* ---- bytes ---- */

int64_t vs_branch_read(vs_branch *b, uint32_t volume, uint64_t offset_bytes, void *buf, uint64_t length_bytes) {
    volume_state *v = vs_branch_find(b, volume);
    return v ? vs_branch_volume_read(v, offset_bytes, buf, length_bytes) : -ENOENT;
}

int64_t vs_branch_write(vs_branch *b, uint32_t volume, uint64_t offset_bytes, const void *buf, uint64_t length_bytes) {
    volume_state *v = vs_branch_find(b, volume);
    if (!v) return -ENOENT;
    vs_branch_enter(b);
    int64_t n = vs_branch_volume_write(v, offset_bytes, buf, length_bytes);
    vs_branch_leave(b);
    return n;
}

int vs_branch_zero(vs_branch *b, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes) {
    volume_state *v = vs_branch_find(b, volume);
    if (!v) return -ENOENT;
    vs_branch_enter(b);
    int r = vs_branch_volume_zero(v, offset_bytes, length_bytes);
    vs_branch_leave(b);
    return r;
}

int vs_branch_sync(vs_branch *b, uint32_t volume) {
    int r = volume && !vs_branch_find(b, volume) ? -ENOENT : 0;
    vs_branch_enter(b);
    for (size_t i = 0; i < b->volume_count; i++) {
        volume_state *v = b->volumes[i];
        int done = volume == 0 || v->id == volume ? vs_branch_volume_sync(v) : 0;
        if (r == 0) r = done;
    }
    vs_branch_leave(b);
    return r;
}

/* ---- freezing ---- */

static int layer_after(const volume_state *v, uint32_t id, vs_branch_layer **out) {
    if (v->layer_count == VS_BRANCH_LAYERS_MAX) return too_many(v->id);
    return vs_branch_layer_new(v->branch->store, v->branch->uuid, id, v->id, v->size_bytes, out);
}

static void layer_begin(volume_state *v, vs_branch_layer *fresh) {
    vs_branch_layer *last = vs_branch_last(v);
    pthread_mutex_lock(&v->write_mu);
    v->branch->used_blocks -= last->blocks;
    v->rewrite_at_bytes = v->branch->options.rewrite_bytes;
    pthread_mutex_lock(&v->mu);
    v->layers[v->layer_count++] = fresh;
    pthread_mutex_unlock(&v->mu);
    vs_branch_log_close(&last->log);
    vs_branch_slots_free(&last->slots);
    pthread_mutex_unlock(&v->write_mu);
}

static int freeze(vs_branch *b, uint32_t next_layer, vs_branch_layer **fresh) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < b->volume_count; i++) {
        r = layer_after(b->volumes[i], next_layer, &fresh[i]);
        if (r == 0) r = vs_branch_volume_end(b->volumes[i]);
    }
    for (size_t i = 0; i < b->volume_count; i++) {
        if (r == 0) layer_begin(b->volumes[i], fresh[i]);
        else vs_branch_layer_close(fresh[i]);
    }
    return r;
}

int vs_branch_freeze(vs_branch *b, uint32_t next_layer) {
    if (!b->options.writable) return -EROFS;
    vs_branch_layer **fresh = calloc(b->volume_count + 1, sizeof *fresh);
    int r = fresh ? hold(b) : -ENOMEM;
    if (r == 0 && (r = freeze(b, next_layer, fresh)) < 0) vs_branch_go_on(b);
    free(fresh);
    return r;
}

/* ---- figures ---- */

static void volume_facts(volume_state *v, vs_branch_facts *out) {
    pthread_mutex_lock(&v->write_mu);
    const vs_branch_layer *last = vs_branch_last(v);
    for (int i = 0; i + 1 < v->layer_count; i++) out->shared_bytes += v->layers[i]->blocks * VS_BLOCK_BYTES;
    out->waiting_bytes += last->slots.waiting_slots * VS_BLOCK_BYTES;
    out->log_bytes += last->log.file >= 0 ? last->log.end_bytes : 0;
    if (v->failed) out->failed = v->failed;
    pthread_mutex_unlock(&v->write_mu);
}

void vs_branch_facts_get(vs_branch *b, vs_branch_facts *out) {
    *out = (vs_branch_facts){.used_bytes = b->used_blocks * VS_BLOCK_BYTES, .quota_bytes = b->options.quota_bytes, .files = b->files};
    for (size_t i = 0; i < b->volume_count; i++) volume_facts(b->volumes[i], out);
}
