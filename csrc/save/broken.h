/* Internal: pages of the guest that the hardware has lost. The caller has entered. */
#ifndef XCSR_BROKEN_H
#define XCSR_BROKEN_H

#include "save/session.h"

int broken_note(xcsr_save *s, uint64_t pfn); /* it goes out as BROKEN. An error if that is a table of a suspended guest */
/* Notes which tables a page table of a level, in pfns, names. An error if one of a suspended guest is broken. */
int broken_look(xcsr_save *s, uint32_t level, const uint64_t *table);

#endif
