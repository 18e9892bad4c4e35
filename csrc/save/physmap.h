/* Internal: what comes and goes in a guest without a p2m of its own. */
#ifndef XCSR_PHYSMAP_H
#define XCSR_PHYSMAP_H

#include "save/session.h"

/* Whether the running guest's number of pages is another one than xcsr_watch_pages told last. */
bool physmap_moves(xcsr_save *s);
/* A page of the gfn has come, or gone: whatever this pass still sends of it, it is sent once more after the next bitmap.
 * -ENOMEM, with a text in the handle. */
int physmap_untracked(xcsr_save *s, uint64_t gfn);

#endif
