/* Internal: mappings that were written from and are not torn down yet. */
#ifndef XCSR_WINDOW_H
#define XCSR_WINDOW_H

#include "save/ahead.h"

#define XCSR_WINDOW 4096u /* frames mapped at once, those of the batch in hand and of the next included: 16 MiB */
#define XCSR_HELD 64u     /* mappings kept at most */

struct window { /* a ring, the oldest first */
    struct mapping held[XCSR_HELD];
    uint32_t first, count, frames;
};

/* Before frames are mapped, so that there are nr (two batches at most) beside those kept: unmaps the oldest until
 * XCSR_WINDOW holds them all. */
void window_make_room(xcsr *h, struct window *w, uint32_t nr);
void window_keep(xcsr *h, struct window *w, const struct mapping *m); /* takes over a mapping no longer needed */
void window_drop(xcsr *h, struct window *w);                          /* unmaps all; harmless when it is empty */

#endif
