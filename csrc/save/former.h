/* Internal: frames that are not any more what the stream said that they were. See former.c. The caller has entered. */
#ifndef XCSR_FORMER_H
#define XCSR_FORMER_H

#include "save/session.h"

/* The marks of one leaf are to become now, and are was. -ENOMEM */
int former_note(struct follow *f, const uint32_t *was, const uint32_t *now);
/* Sets *found if one of these frames has a pfn, whichever it is, or, with the guest suspended, has none and is the guest's
 * all the same. Such a frame is forgotten: the caller has all tables sent again. Asks Xen: -errno as page_types. */
int former_in_use(xcsr_save *s, bool suspended, bool *found);

#endif
