/* directory.c: see directory.h. */
#include "directory.h"

#include <ftw.h>
#include <stdio.h>

enum { OPEN_AT_ONCE = 8 };

static int entry_remove(const char *path, const struct stat *st, int kind, struct FTW *place) {
    (void)st, (void)kind, (void)place;
    return remove(path);
}

int directory_remove(const char *path) {
    return nftw(path, entry_remove, OPEN_AT_ONCE, FTW_DEPTH | FTW_PHYS);
}
