/* Internal: mappings that were written from and are not torn down yet. */
#ifndef XCSR_KEPT_H
#define XCSR_KEPT_H

#include "save/ahead.h"

#define KEPT_FRAMES 4096u /* frames mapped at once, those of the batch in hand and of the next included: 16 MiB */
#define KEPT_MAPPINGS 64u /* mappings kept at most */

struct kept { /* a ring, the oldest first */
    struct mapping held[KEPT_MAPPINGS];
    uint32_t first, count, frames;
};

/* Called before nr frames (two batches at most) are mapped: unmaps the oldest mappings until KEPT_FRAMES has room
 * for the new ones beside those that stay. */
void kept_make_room(xcsr *h, struct kept *k, uint32_t nr);
void kept_add(xcsr *h, struct kept *k, const struct mapping *m); /* takes over a mapping that is no longer needed */
void kept_drop(xcsr *h, struct kept *k);                         /* unmaps all; harmless when it is empty */

#endif
