/* Internal: gfns without a page, in a guest without a p2m of its own. The caller has entered. */
#ifndef XCSR_HOLES_H
#define XCSR_HOLES_H

#include "save/session.h"

void holes_begin(xcsr_save *s); /* with each pass, once all its pfns are marked */
/* After a batch's types were asked: entries that no receiver needs go out of it. */
void holes_leave_out(xcsr_save *s, struct batch *b);

#endif
