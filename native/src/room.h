/* room.h: arrays that grow. Geometric, so that appends are cheap; nothing changes when there is no memory. */
#ifndef VS_ROOM_H
#define VS_ROOM_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* Make room for `more` items behind `used` of them. items: address of the array's pointer, NULL in the beginning. -ENOMEM. */
static inline int vs_room(void *items, size_t *room, size_t used, size_t more, size_t item_bytes) {
    void **array = items;
    if (used + more <= *room) return 0;
    size_t want = *room ? *room * 2 : 16;
    while (want < used + more) want *= 2;
    void *grown = realloc(*array, want * item_bytes);
    if (!grown) return -ENOMEM;
    *array = grown;
    *room = want;
    return 0;
}

#endif
