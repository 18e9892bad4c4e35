/* Internal: what a save holds. The files of this room work on it, each on its own part. */
#ifndef XCSR_SESSION_H
#define XCSR_SESSION_H

#include "save/mapper.h"
#include "sets/sent.h"
#include "sets/sparse_set.h"

#include <sys/uio.h>

#define TABLES_AT_ONCE 64u /* page tables in a batch: see tables.c */

struct batch_head { /* the record's header and PAGE_DATA's own: 16 bytes */
    uint32_t type, length, count, reserved;
};

struct batch { /* batch.c: one record on its way out; preallocated, used again and again */
    bool prepared;     /* up to the frames to be mapped */
    bool is_ordinary, in_one_piece; /* ordinary.c: all pfns have a page; all are mapped, and page[] has the tables alone */
    bool writing;      /* built, and not yet written whole */
    uint64_t next_pfn; /* where the scan stood after it */
    uint64_t position; /* see batch_prepare */
    uint32_t nr;        /* pfns in it: pfns, entries, frame_at and page go by these */
    uint32_t nr_frames; /* of them, those with a frame: frames, types and slot go by these */
    struct pages pages; /* of them, those with data: what is in it, and mapped_slot, go by these */
    struct batch_head head;
    uint64_t pfns[XCSR_BATCH];
    uint64_t entries[XCSR_BATCH]; /* type << 60 | pfn */
    xen_pfn_t frames[XCSR_BATCH];
    xen_pfn_t types[XCSR_BATCH];  /* asked in place: see page_types.h */
    uint16_t slot[XCSR_BATCH];        /* the index in pfns[], unless all have a frame: see slot_of */
    uint16_t mapped_slot[XCSR_BATCH]; /* the same, unless all is_ordinary: see mapped_slot_of */
    uint16_t tables[TABLES_AT_ONCE];  /* the indices in pfns[] of page tables, by the types that Xen told; none without a p2m */
    uint32_t nr_tables;
    uint64_t frame_at[XCSR_BATCH];    /* the frame, for messages and for follow.c */
    const char *page[XCSR_BATCH];     /* its data, or NULL */
    struct iovec iov[XCSR_BATCH + 2];
    uint32_t nr_iov;
    xcsr_batch_result result;
};

/* The index in pfns[] of the k-th one with a frame, and of the k-th that is mapped. They come in the order of pfns[]. */
static inline uint32_t slot_of(const struct batch *b, uint32_t k)
{
    return b->nr_frames == b->nr ? k : b->slot[k];
}

static inline uint32_t mapped_slot_of(const struct batch *b, uint32_t k)
{
    return b->is_ordinary ? k : b->mapped_slot[k];
}

struct follow { /* follow.c: what following a p2m remembers */
    struct sent_leaf *sent; /* for each leaf; NULL: nothing is followed */
    uint64_t nr_room;       /* pfns that sent[] has room for */
    uint64_t nr_bytes;      /* that these leaves own */
    uint64_t most_bytes;    /* that they may, as far as it is known: see check_room */
    sparse_set tables;      /* pfns that went out as page tables, ever */
    sparse_set recent;      /* the same, since the last sweep */
    sparse_set former;      /* frames, see former.c */
};

struct holes { /* holes.c */
    bool off;    /* each gfn has an entry */
    bool begun;  /* a pass has */
    bool unsaid; /* this pass is the first word of any gfn */
};

struct ending { /* ending.c */
    const xcsr_end_plan *plan; /* the caller's; NULL: not prepared, or over */
    const void *steps; /* whose the next one is: the end's, or a rehearsal's */
    uint32_t step;
    char *room; /* for the guest's state */
    struct iovec iov[3];
};

struct xcsr_save {
    xcsr *h;
    uint32_t domid;
    xcsr_p2m *p2m;  /* not owned; NULL: pfn == gfn, and Xen alone knows the frames */
    bool suspended; /* in this pass nothing may move */
    bool paused;    /* the guest was suspended in the midst of a live pass, which goes on as it began */
    bool without_ordinary; /* each pfn of each batch is looked at by itself */
    bool without_rows;     /* follow.c: what was sent of a leaf is unfolded each time */

    bool logdirty_on; /* logdirty.c */
    uint64_t nr_pfns, nr_words;
    xc_hypercall_buffer_t bitmap_buf;
    uint64_t *bitmap; /* nr_words */
    bool all_marked;  /* in it, and not as it was fetched from Xen */
    int bitmap_pages;

    sparse_set without_data; /* pfns whose last entry in the stream had no data: holes, and the deferred. Without a p2m
                                also those that were seen to have lost their page, and are to be sent as holes */
    sparse_set broken;       /* pfns that went out as BROKEN. Those that have data again are not in without_data */
    sparse_set named;        /* pfns that page tables above level 1 have named: they are page tables */
    sparse_set deferred;     /* pfns to be sent again, whether the next bitmap names them or not */
    sparse_set untracked;    /* without a p2m: the same, since Xen may not track their pages' writes before the next one */
    sparse_set counted;      /* without a p2m: of without_data, those that a look has found to have a page by now */

    bool watched;         /* physmap.c: a change of the domain's number of pages from nr_watched is to be told */
    uint64_t nr_watched;
    struct holes holes;

    bool count_is_stale; /* logdirty.c: Xen's count of dirty pfns may have another save's in it */
    uint64_t cursor; /* pass.c: where the scan of the bitmap stands */
    struct batch *batch, *next; /* the one in hand, being built or written; the one after it, if it is prepared */
    struct batch batches[2];
    int64_t writing_us;    /* what writing the batch in hand has taken */
    xcsr_batch_result sum; /* of the batches since xcsr_batches told of any */

    char *arena; /* batch.c: TABLES_AT_ONCE pages for the tables of the batch in hand, re-expressed in pfns */
    struct mapper mapper;
    struct follow follow;
    struct ending ending;
};

#endif
