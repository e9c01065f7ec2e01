/* require.h: what must hold. A fuzzer takes an abort for a finding and keeps the input. */
#ifndef VS_FUZZ_REQUIRE_H
#define VS_FUZZ_REQUIRE_H

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition, what)                                                              \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, #condition);         \
            abort();                                                                          \
        }                                                                                     \
    } while (0)

#endif
