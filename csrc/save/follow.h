/* Internal: following a p2m that changes. See follow.c. The caller has entered. */
#ifndef XCSR_FOLLOW_H
#define XCSR_FOLLOW_H

#include "save/session.h"

int follow_note(xcsr_save *s, const struct batch *b); /* b was just built: notes what it says of its pfns. -ENOMEM */
int follow_grow(xcsr_save *s, uint64_t nr_pfns);      /* -ENOMEM: as it was */
void follow_free(struct follow *f);
/* See xcsr_sweep; stay: see leaves_written. */
int follow_sweep(xcsr_save *s, bool final, bool stay, xcsr_sweep_result *out);

#endif
