/* superseded.h: files of the journal that a compaction has replaced, until nobody reads them any more.
 *
 * Threads: the list belongs to the journal's state lock; deleting, to whoever holds j->generations_mu. Only owners have one.
 */
#ifndef VS_SUPERSEDED_H
#define VS_SUPERSEDED_H

#include <stddef.h>
#include <stdint.h>

struct vs_journal;
struct vs_found;
struct vs_segment;

typedef struct vs_superseded {
    struct vs_segment *segment; /* one reference; NULL: found at open, so that nobody in this process has it */
    uint64_t first_seqno, generation, by; /* by: the generation that took its place */
} vs_superseded;

typedef struct vs_superseded_list {
    vs_superseded *files;
    size_t count, room;
} vs_superseded_list;

/* Open: note what was found, and remove what a compaction that came to no end has left. */
int vs_superseded_note(struct vs_journal *j, const struct vs_found *f);

/* mu held: make room for count more, and then put them there; takes a reference of its own. */
int vs_superseded_reserve(struct vs_journal *j, size_t count);
void vs_superseded_add(struct vs_journal *j, struct vs_segment *g, uint64_t by);

void vs_superseded_end(struct vs_journal *j);

#endif
