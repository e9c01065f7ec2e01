/* damage_repository.h: a small repository to be damaged, all of its bytes as they were, and what each of its points holds.
 *
 * Its files lie in a directory of memory. A damage is made in place and undone by putting back what was there. Threads: one.
 */
#ifndef VS_HARNESS_DAMAGE_REPOSITORY_H
#define VS_HARNESS_DAMAGE_REPOSITORY_H

#include "plain_history.h"

enum { DAMAGE_FILES_MAX = 64, DAMAGE_POINTS_MAX = 32, DAMAGE_STALE_MAX = 16 };

typedef enum damage_class { CLASS_SEGMENT, CLASS_MAP, CLASS_IMAGE, CLASS_INDEX } damage_class;

typedef struct damage_bytes {
    uint8_t *bytes;
    uint64_t length;
} damage_bytes;

typedef struct damage_file {
    char name[64];
    damage_class kind;
    damage_bytes now;
    damage_bytes stale[DAMAGE_STALE_MAX]; /* what it was at other times, as far as that differs; length 0: the end of the list */
    uint64_t segment;                     /* CLASS_SEGMENT: its index; all others: how many segments there are */
    int sealed;
} damage_file;

/* One volume at one point. */
typedef struct damage_image {
    int there;
    uint64_t size_bytes;
    uint8_t *bytes;
    uint16_t *writer; /* as in plain_volume */
} damage_image;

typedef struct damage_point {
    uint64_t seqno;
    damage_image volumes[PLAIN_VOLUMES_MAX];
} damage_point;

/* Where a payload block of a segment came from. */
typedef struct damage_payload {
    int file;
    uint32_t volume;
    uint64_t block;        /* of the file */
    uint64_t seqno;        /* of the record */
    uint64_t volume_block; /* 4 KiB of the volume that it is of */
} damage_payload;

typedef struct damage_repository {
    const char *path;
    int dir;
    vs_store *store;
    uint8_t uuid[16];
    plain_history history;
    damage_file files[DAMAGE_FILES_MAX];
    int file_count;
    damage_point points[DAMAGE_POINTS_MAX];
    int point_count;
    damage_payload *payload; /* ascending by file, block */
    uint64_t payload_count;
    uint64_t segments;
    uint64_t last_batch_bytes;   /* of the unsealed segment: where its last batch that holds records begins; what lies before is synced */
    uint64_t last_batch_seqno;   /* the last record before it */
    uint64_t base_bytes;         /* of volume 1's base */
} damage_repository;

/* Make one in path (created). large: 4 MiB instead of some hundred KiB. The same seed gives the same history; times and salts differ. */
int damage_repository_make(damage_repository *r, const char *path, const uint8_t uuid[16], uint64_t seed, int large);
/* The files stay. */
void damage_repository_end(damage_repository *r);

int damage_open(const damage_repository *r, int owner, vs_journal **out);

/* Make a file this, whatever it is now; NULL: remove it. */
int damage_put(const damage_repository *r, const char *name, const damage_bytes *content);

/* NULL: there is none. */
const damage_payload *damage_payload_at(const damage_repository *r, int file, uint64_t block);

#endif
