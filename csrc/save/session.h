/* Internal: what a save holds. */
#ifndef XCSR_SAVE_H
#define XCSR_SAVE_H

#include "sets/sparse_set.h"
#include "save/follow.h"
#include "io/sink.h"
#include "save/pace.h"
#include "save/kept.h"
#include "xen/handle.h"

struct batch_head { /* the record's header and PAGE_DATA's own: 16 bytes */
    uint32_t type, length, count, reserved;
};

struct batch { /* one record on its way out; preallocated, used again and again */
    bool prepared;         /* up to mapped[] */
    bool asked;            /* the worker is to map it, and its mapping was not taken yet */
    bool writing;          /* built, and not yet written whole */
    uint64_t next_pfn;     /* where the scan stood after it */
    uint64_t position;     /* see batch_prepare */
    uint32_t nr;           /* pfns in it */
    uint32_t nr_frames;    /* of them with a frame; frames, types, slot and errs go by these */
    uint32_t nr_mapped;    /* frames to be mapped, in the order of mapped[] */
    struct mapping map;
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
    xcsr_batch_result result;
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
    char *arena; /* XCSR_BATCH pages for the tables of the batch in hand, re-expressed in pfns */
    struct batch *batch, *next; /* the one in hand, being built or written; the one after it, if it is prepared */
    struct batch batches[2];
    xcsr_batch_result sum; /* of the batches since xcsr_batches told of any */
    struct ahead *ahead;   /* NULL: not started */
    struct pace pace;
    struct mapping written; /* from; the worker unmaps it as soon as it has mapped the next batch */
};

/* -- batch.c: one batch, step by step */

/* The next pfns of the bitmap, their frames and types. position: where in its output the record begins, but for whole
 * pages; as it is known by then. */
int batch_prepare(xcsr_save *s, struct batch *b, uint64_t position);
uint64_t batch_end(const struct batch *b); /* where the next record begins, but for whole pages */
int batch_map(xcsr_save *s, struct batch *b);
void batch_map_ahead(xcsr_save *s, struct batch *b);        /* begins it, in the worker */
int batch_take(xcsr_save *s, struct batch *b);              /* ends it */
int batch_build(xcsr_save *s, struct batch *b);             /* the record */

/* -- pass.c */

void pass_drop(xcsr_save *s); /* lets go of the batch in hand and of the next; harmless when there is none */

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
