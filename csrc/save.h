/* Internal: what a save holds. */
#ifndef XCSR_SAVE_H
#define XCSR_SAVE_H

#include "deferred.h"
#include "follow.h"
#include "sink.h"
#include "window.h"
#include "xcsr.h"

struct batch_head { /* the record's header and PAGE_DATA's own: 16 octets */
    uint32_t type, length, count, reserved;
};

struct batch { /* one record on its way out; preallocated, used again and again */
    bool writing;          /* built, and not yet written whole */
    uint32_t nr;           /* pfns in it */
    uint32_t nr_frames;    /* of them with a frame; frames, types, slot and errs go by these */
    uint32_t nr_mapped;    /* frames mapped at map, in the order of mapped[] */
    void *map;
    struct batch_head head;
    uint64_t pfns[XCSR_BATCH];
    uint64_t entries[XCSR_BATCH]; /* type << 60 | pfn */
    xen_pfn_t frames[XCSR_BATCH];
    xen_pfn_t types[XCSR_BATCH]; /* asked in place: see page_types.h */
    xen_pfn_t mapped[XCSR_BATCH];
    uint16_t slot[XCSR_BATCH];       /* of frames[]: the index in pfns[] */
    uint16_t mapped_slot[XCSR_BATCH];
    int errs[XCSR_BATCH];
    uint64_t frame_at[XCSR_BATCH]; /* of pfns[]: the mfn, for messages */
    const char *page[XCSR_BATCH];  /* of pfns[]: its data, or NULL */
    struct iovec iov[XCSR_BATCH + 2];
    uint32_t nr_iov;
    char *arena; /* XCSR_BATCH pages for tables re-expressed in pfns */
    xcsr_batch_result result;
    xcsr_batch_result sum; /* of the batches since xcsr_batches told of any */
};

struct xcsr_save {
    xcsr *h;
    uint32_t domid;
    bool logdirty_on, suspended;
    uint64_t nr_pfns, nr_words, cursor;
    xcsr_p2m *p2m; /* not owned; NULL: pfn == gfn */
    xc_hypercall_buffer_t bitmap_buf;
    uint64_t *bitmap;
    int bitmap_pages;
    deferred_set deferred; /* pfns whose last entry in the stream had no data */
    deferred_set again;    /* of them, those that are not known to be holes */
    struct window window; /* of the suspended pass */
    struct follow follow;
    struct batch batch;
};

/* Lets go of what a batch has mapped, at once or, the guest suspended, later; harmless when there is none. */
void batch_drop(xcsr_save *s);

static inline bool save_marked(const xcsr_save *s, uint64_t pfn)
{
    return s->bitmap[pfn / 64] >> pfn % 64 & 1;
}

/* Has the guest written this frame of its own since the last bitmap but one? By the bitmap as Xen gave it, and the
 * pfn that the frame has now. Where it has none: yes. The m2p must be mapped. */
static inline bool save_written(const xcsr_save *s, uint64_t mfn)
{
    uint64_t pfn = mfn < s->h->nr_mfns ? xcsr_load(&s->h->m2p[mfn]) : XCSR_INVALID;
    return pfn >= s->nr_pfns || save_marked(s, pfn);
}

#endif
