/* played.h: a seeded workload (workload.h) played in a directory, what it was told, and the same directory judged after whatever ended it.
 *
 * After each step a note is made in memory that the caller shares with the process that plays, so it outlives that process.
 */
#ifndef VS_TESTS_PLAYED_H
#define VS_TESTS_PLAYED_H

#include <stdatomic.h>
#include <stdint.h>

#include "killing_store.h"

enum { PLAYED_STEPS = 150, PLAYED_LIVES = 32 };

typedef struct played_note {
    uint64_t position; /* of the medium's log when the step was done */
    uint64_t steps;    /* so many were done */
    uint64_t durable;  /* all records up to it were acknowledged as durable */
    uint64_t appended; /* all up to it were answered */
} played_note;

/* What a life left: the model's steps up to its end, and the last record of the history that was found then. */
typedef struct played_life {
    uint64_t steps, last;
} played_life;

typedef struct played_log {
    uint64_t begin; /* position at which the new repository was whole on the medium */
    uint64_t life_count;
    played_life lives[PLAYED_LIVES]; /* those that were judged */
    _Atomic uint64_t count;
    played_note notes[PLAYED_STEPS]; /* of the newest one */
} played_log;

typedef struct played {
    const char *path;                 /* of the repository */
    uint64_t seed;                    /* of the workload */
    int keep_fd;                      /* of the keep's memfd; -1: none */
    const killing_orders *killing;    /* NULL: nothing is killed */
    const _Atomic uint64_t *position; /* of the medium's log; NULL: always 0 */
    int tell_fd;                      /* gets a line for each note: steps, durable; -1: nowhere */
    played_log *log;
} played;

/* Make a new repository at p->path, and have it on the medium. */
void played_make(const played *p);

/* Play the workload's next steps on it, and close it. A step that fails ends the process. */
void played_run(const played *p);

/* Open it as its owner, and judge it: the history must reach what was acknowledged when the medium's log was at position (with a keep: what was
 * answered), every point read as it was, the primaries be equal to the newest. Close it, and note what was found as the end of a life. 0, or a
 * line on stderr and -1: then it may be open, and the process is to end. */
int played_judge(const played *p, uint64_t position);

#endif
