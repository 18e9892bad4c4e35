/* Internal: log-dirty mode. */
#ifndef XCSR_LOGDIRTY_H
#define XCSR_LOGDIRTY_H

#include "save/session.h"

/* The caller has entered, or is freeing. */
int logdirty_stop(xcsr_save *s); /* if this save switched it on */

/* The caller has entered. See xcsr_logdirty_clean, xcsr_written, xcsr_merge_deferred. */
int logdirty_fetch(xcsr_save *s, bool final);
int logdirty_peek(xcsr_save *s, uint64_t *dirty); /* the bits stay in Xen; all marks are gone afterwards */
bool logdirty_has_written(const xcsr_save *s, uint64_t nr, const uint64_t *mfns); /* the m2p is mapped */
int logdirty_merge(xcsr_save *s, uint64_t *merged);

#endif
