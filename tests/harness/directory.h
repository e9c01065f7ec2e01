/* directory.h: directories that a harness has made. */
#ifndef VS_TESTS_DIRECTORY_H
#define VS_TESTS_DIRECTORY_H

/* Delete path and all below it; symbolic links are not followed. 0; -1: something is there still, errno says why. */
int directory_remove(const char *path);

#endif
