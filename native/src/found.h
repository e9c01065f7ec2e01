/* found.h: the segments' files that stand in journal/, and which of them count.
 *
 * A compaction gives the range of many segments another file, by one rename; theirs stand there until nobody reads them any more. Of the files that
 * cover a range, the one with the highest generation counts. All files whose ranges lie within that of one that counts are superseded.
 *
 * Threads: a list belongs to one. Errors: -errno.
 */
#ifndef VS_FOUND_H
#define VS_FOUND_H

#include "segment.h"

#define VS_COMPACT_TEMPORARY "journal/compact.new" /* what a compaction writes before it has its name */

typedef struct vs_found_file {
    uint64_t first_seqno, generation; /* as its name says */
    vs_segment *segment;     /* one that counts and is compacted: loaded, with a reference; else NULL */
    uint64_t superseded_by;  /* the generation of the file that counts instead; 0: this one does */
} vs_found_file;

typedef struct vs_found {
    vs_found_file *files; /* by first seqno, then the highest generation first */
    size_t count, room;
    int leftover; /* a compaction that came to no end has left its file */
    uint64_t failed_seqno; /* vs_found_judge: where the file begins that could not be brought in */
} vs_found;

/* What a file's name says of it. 1: it is a segment's; everything else in the directory is not ours to judge. */
int vs_found_parse(const char *name, uint64_t *first_seqno, uint64_t *generation);

/* List the files. vs_found_end frees what they are, also after a failure. */
int vs_found_list(vs_store *s, vs_found *out);
void vs_found_end(vs_found *f);

/* Say of each which counts. load brings in a compacted segment: the file's range is in what it says itself. It gets each file at most once and
 * hands over a reference; whatever it fails with is returned. -EUCLEAN: ranges that overlap. */
typedef int (*vs_found_load)(void *arg, uint64_t first_seqno, uint64_t generation, vs_segment **out);
int vs_found_judge(vs_found *f, vs_found_load load, void *arg);

/* Forget the files that begin with seqno or after it. */
void vs_found_cut(vs_found *f, uint64_t seqno);

/* The greatest generation; 0: no file is compacted. */
uint64_t vs_found_generation(const vs_found *f);

#endif
