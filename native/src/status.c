/* status.c: the last fault of each thread.
 *
 * One plain thread-local struct: nothing to allocate, so that a failure under memory pressure can still be explained, and
 * nothing to lock. A text that is too long is cut; control characters become spaces, since callers print one line.
 */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local vs_fault last_fault;

void vs_fault_last(vs_fault *out) {
    *out = last_fault;
}

void vs_fault_clear(void) {
    last_fault = (vs_fault){0};
}

static void make_one_line(char *text) {
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
    }
}

int vs_fault_set(int code, uint32_t volume, uint64_t seqno, uint64_t segment, uint64_t offset_bytes, const char *fmt, ...) {
    last_fault = (vs_fault){.code = code, .volume = volume, .seqno = seqno, .segment = segment, .offset_bytes = offset_bytes};
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(last_fault.text, sizeof last_fault.text, fmt, args) < 0) last_fault.text[0] = '\0';
    va_end(args);
    make_one_line(last_fault.text);
    return code;
}
