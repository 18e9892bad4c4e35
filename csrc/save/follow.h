/* What following a p2m remembers. */
#ifndef XCSR_FOLLOW_H
#define XCSR_FOLLOW_H

#include "sets/sparse_set.h"
#include "sets/sent.h"

struct xcsr_save;

struct follow {
    struct sent_leaf *sent; /* for each leaf; NULL: nothing is followed */
    uint64_t nr_room;       /* pfns that sent[] has room for */
    deferred_set tables;    /* pfns that went out as page tables, ever */
    deferred_set recent;    /* the same, since the last sweep */
};

/* Notes what the batch in hand, just built, says of its pfns. -ENOMEM. */
int follow_note(struct xcsr_save *s);
int follow_grow(struct xcsr_save *s, uint64_t nr_pfns);
void follow_free(struct follow *f);

#endif
