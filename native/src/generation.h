/* generation.h: the small file that tells readers of a compaction. Layout: native/FORMAT.md section 1. Threads: none of its own. */
#ifndef VS_GENERATION_H
#define VS_GENERATION_H

#include "journal_internal.h"

/* Owner: write the newest directory's generation in place. It is derived: nobody is told if it cannot be written. */
void vs_generation_write(vs_journal *j, uint64_t generation);

/* Reader: the greatest generation that there is, as the file says, or where it says nothing the names of the files. 0: none, or not known. */
uint64_t vs_generation_newest(vs_journal *j);

#endif
