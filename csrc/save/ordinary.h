/* Internal: batches in which all is as usual. See ordinary.c. The caller has entered. */
#ifndef XCSR_ORDINARY_H
#define XCSR_ORDINARY_H

#include "save/session.h"

/* Each does a step of a batch as batch.c does it pfn by pfn, and returns true; or returns false, where the step has to be
 * done in that way. Then nothing that counts has changed. */
bool ordinary_frames(const xcsr_save *s, struct batch *b);
bool ordinary_types(xcsr_save *s, struct batch *b);
bool ordinary_pages(struct batch *b);  /* all are mapped, in_one_piece; of page[], the tables' are filled in */
bool ordinary_gather(struct batch *b); /* the pages as they lie mapped, but for tables */

bool ordinary_holes(const xcsr_save *s, const struct batch *b); /* whether no pfn of the batch has a page */
int ordinary_enter_holes(xcsr_save *s, struct batch *b);        /* enters all of such a batch without data; 0 or -ENOMEM */

#endif
