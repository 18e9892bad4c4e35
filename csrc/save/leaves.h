/* Internal: the p2m's own pages, where the guest has written them. The caller has entered. */
#ifndef XCSR_LEAVES_H
#define XCSR_LEAVES_H

#include "save/session.h"

/* Makes each page of the p2m fresh that the bitmap names, and asks Xen about all fresh ones: -ERANGE if one is a page table
 * by now, and -errno as page_types. The bitmap has just been fetched. stay: since then p2m_leaves_stay was true, and the guest
 * is suspended. */
int leaves_written(xcsr_save *s, bool stay);

#endif
