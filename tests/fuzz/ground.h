/* ground.h: a small journal in a memory store that stays the same from run to run, for targets that need one below what they are given. */
#ifndef VS_FUZZ_GROUND_H
#define VS_FUZZ_GROUND_H

#include <errno.h>

#include "journal.h"

enum { GROUND_BYTES = 16 * 4096 }; /* of each volume */

/* Volume 1 and 2 are added in the first of so many sealed segments, with writes to both in each; then an unsealed one with a bookmark. */
vs_store *ground_make(int segments);

#define GROUND_EIGHTH "journal/00000000000000000038.seg"

vs_journal *ground_open(vs_store *s, int owner);

extern const uint8_t ground_uuid[16];

#endif
