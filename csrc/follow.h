/* What of each pfn went into the stream last, so that a p2m that changes can be followed: four octets
 * a pfn. An entry of the p2m and its mark agree if entry + 2 is the mark; so all bits of a p2m entry
 * count, and the usual entry of a hole, all ones, agrees with SENT_HOLE. */
#ifndef XCSR_FOLLOW_H
#define XCSR_FOLLOW_H

#include "deferred.h"

#include <stdbool.h>

#define SENT_NEVER 0u         /* no entry of this pfn yet */
#define SENT_HOLE 1u          /* an entry without data: the p2m named no frame */
#define SENT_AGAIN 0xffffffffu /* an entry without data, although there is a frame: come again */
#define SENT_BIAS 2u          /* frame + 2: sent with data, from that frame */
#define SENT_MAX_MFNS (0xffffffffull - SENT_BIAS)

struct xcsr_save;

struct follow {
    uint32_t *sent;      /* by pfn; NULL: nothing is followed */
    uint64_t nr_room;    /* pfns that sent[] has room for */
    deferred_set tables; /* pfns that went out as page tables, ever */
    deferred_set recent; /* the same, since the last sweep */
};

/* Notes what the batch just built says of its pfns. -ENOMEM. */
int follow_note(struct xcsr_save *s);
int follow_grow(struct xcsr_save *s, uint64_t nr_pfns);
void follow_free(struct follow *f);

#endif
