/* Internal: how many page tables one batch may have. The caller has entered. */
#ifndef XCSR_TABLES_H
#define XCSR_TABLES_H

#include "save/session.h"

/* The types of its frames have been asked: lists the tables, and cuts the batch before the first one that the arena has no
 * room for. */
void tables_fit(xcsr_save *s, struct batch *b);

#endif
