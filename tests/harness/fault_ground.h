/* fault_ground.h: a repository to do one thing in while calls fail, and what must hold of it afterwards.
 *
 * A scenario has two halves. Its setup runs once, undisturbed, and leaves a directory and a history. Its act runs in a copy of both once
 * for each call that it makes, and that call fails. What act returns and what it has seen is judged, then the journal is opened again
 * without faults: nothing that was acknowledged may be missing, and all that is there must be right.
 */
#ifndef VS_HARNESS_FAULT_GROUND_H
#define VS_HARNESS_FAULT_GROUND_H

#include "keep.h"
#include "kernel_view.h"
#include "plain_history.h"
#include "plane_internal.h"
#include "view.h"

typedef struct fault_ground {
    uint64_t seed, rng;
    const char *path; /* of the directory, absolute */
    int dir;
    vs_store *store;
    vs_journal *journal; /* whoever opens it leaves it here; it is closed after act, while calls still fail */
    int keep_fd;         /* -1: none */
    vs_keep *keep;
    int primaries[PLAIN_VOLUMES_MAX + 1]; /* by volume id; files of the directory, -1: none */
    uint64_t segment_bytes, batch_bytes;
    int ack_journal;
    void *thing;       /* a scenario's own */
    plain_history history;
    plain_state *state; /* room for one */
    uint64_t scratch[16];
    int damaged; /* by its setup: a check afterwards finds it */
    int wrongs;
    char wrong[256];
} fault_ground;

typedef struct fault_scenario {
    const char *name;
    int (*setup)(fault_ground *g); /* NULL: an empty directory */
    int (*ready)(fault_ground *g); /* each time, before calls fail; may be NULL */
    int (*act)(fault_ground *g);
    void (*end)(fault_ground *g);  /* each time, after; may be NULL. What ready made */
} fault_scenario;

extern const fault_scenario fault_scenarios[];
extern const int fault_scenario_count;

static const uint8_t fault_uuid[16] = "fault-points-of";

enum { VOLUME_1 = 200000, VOLUME_2 = 96 * 1024, VOLUME_3 = 4096 };

/* Note that a thing was answered with success and is wrong. */
void fault_wrong(fault_ground *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Open the journal into g->journal. */
int ground_open(fault_ground *g, int owner);
int ground_close(fault_ground *g);
/* Give volume its primary, which lies in the directory. */
int ground_attach(fault_ground *g, uint32_t volume);

/* Begin in path, which is made: a directory with what a repository has. */
int ground_begin(fault_ground *g, const char *path);
/* Go on in a copy of it: path is made anew. */
int ground_copy(fault_ground *g, const fault_ground *from, const char *path);
void ground_end(fault_ground *g);
/* Give back what a ground needs without being used, and take it again. The keep's memory stays. */
void ground_rest(fault_ground *g);
int ground_resume(fault_ground *g);

/* Without faults: open it again, and say what is wrong with it. 0: nothing. */
int ground_verify(fault_ground *g);

#endif
