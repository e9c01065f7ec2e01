/* view_internal.h: what the journal needs of a view. */
#ifndef VS_VIEW_INTERNAL_H
#define VS_VIEW_INTERNAL_H

#include "store_ops.h"
#include "view.h"

/* Write what the view's maps hold to file: data as data, zeros as zeros, holes are left alone; then sync. */
int vs_view_apply(vs_view *v, vs_store *s, int file);

#endif
