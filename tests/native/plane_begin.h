/* plane_begin.h: a mount and its plane in one call, as a process without a keeper makes them. */
#ifndef VS_TESTS_PLANE_BEGIN_H
#define VS_TESTS_PLANE_BEGIN_H

#include <unistd.h>

#include "check.h"
#include "keep.h"
#include "plane.h"

static inline vs_keep *keep_new(void) {
    vs_keep *k = NULL;
    int fd = vs_keep_make();
    if (fd < 0) return NULL;
    if (vs_keep_open(fd, &k) < 0) k = NULL;
    close(fd);
    return k;
}

/* What fails leaves nothing behind. *k: for the caller to close, behind the plane. */
static inline int plane_begin(const vs_plane_options *o, int threads, vs_keep **k, vs_plane **out) {
    vs_plane *p = NULL;
    *k = keep_new();
    if (!*k) return -ENOMEM;
    int device = vs_plane_mount(o, *k), code = device < 0 ? device : vs_plane_open(device, *k, threads, &p);
    if (code == 0) {
        code = vs_plane_run(p);
        if (code < 0) close(vs_plane_socket(p));
    }
    if (device >= 0) {
        if (code < 0) vs_plane_detach(*k, 1);
        close(device);
    }
    if (code < 0) {
        vs_plane_free(p);
        vs_keep_close(*k);
        return code;
    }
    *out = p;
    return 0;
}

#endif
