/* ending.h: how a harness gives up when the machine does not do what it must. What it shows wrong of the core is counted instead. */
#ifndef VS_TESTS_ENDING_H
#define VS_TESTS_ENDING_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Exit status 2, at once, with what and errno on stderr. */
static inline _Noreturn void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    _exit(2);
}

#endif
