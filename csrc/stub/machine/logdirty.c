/* Log-dirty mode: which pfns were written since the bitmap was last cleaned. */
#include "stub/machine/buffers.h"
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"

/* Xen finds the pfn through the m2p. */
void st_mark_dirty(struct st_domain *d, uint64_t pfn)
{
    uint64_t word;

    if (!d->logdirty || !st_has_memory(d, pfn) || st.frames[d->truth[pfn]].fresh)
        return;
    pfn = st.m2p[d->truth[pfn]];
    if (pfn >= d->nr_pfns)
        return;
    word = 1UL << (pfn % 64);
    if (d->bitmap[pfn / 64] & word)
        return;
    d->bitmap[pfn / 64] |= word;
    d->set_pieces[pfn / ST_PIECE_BITS] = 1;
    d->dirty_count++;
    d->fault_count++;
}

void st_mark_clean(struct st_domain *d, uint64_t pfn)
{
    uint64_t word = 1UL << (pfn % 64);

    if (pfn >= d->nr_pfns || !(d->bitmap[pfn / 64] & word))
        return;
    d->bitmap[pfn / 64] &= ~word;
    d->dirty_count--;
}

static uint64_t piece_bytes(uint64_t nr_bytes, uint64_t at)
{
    return nr_bytes - at < ST_PIECE_BITS / 8 ? nr_bytes - at : ST_PIECE_BITS / 8;
}

static void clear_bits(struct st_domain *d)
{
    uint64_t nr_bytes = (d->nr_pfns + 63) / 64 * 8;

    for (uint64_t at = 0, piece = 0; at < nr_bytes; at += ST_PIECE_BITS / 8, piece++) {
        if (d->set_pieces[piece])
            memset((uint8_t *)d->bitmap + at, 0, piece_bytes(nr_bytes, at));
        d->set_pieces[piece] = 0;
    }
}

static void track_all(struct st_domain *d)
{
    clear_bits(d);
    if (d->hv)
        st_hvm_track_all(d);
}

static void clear_bitmap(struct st_domain *d)
{
    d->dirty_count = d->fault_count = 0;
    track_all(d);
}

static int enable(struct st_domain *d)
{
    if (!d->hv && !st.shadow)
        return -EOPNOTSUPP;
    if (d->logdirty || (d->hv && d->hv->assigned))
        return -EINVAL;
    track_all(d); /* a new bitmap; what was counted before is still counted */
    d->logdirty = true;
    return 0;
}

static int control(uint32_t domid, unsigned op, unsigned mode)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (d->dying)
        return st.dying_refused ? -EINVAL : 0; /* paging_domctl: ignored, which was no error until Xen 4.17 */
    switch (op) {
    case XEN_DOMCTL_SHADOW_OP_ENABLE:
        return mode == XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY ? enable(d) : -EINVAL;
    case XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY:
        return enable(d);
    case XEN_DOMCTL_SHADOW_OP_OFF:
        if (d->logdirty)
            clear_bits(d); /* Xen frees the bitmap; its counts stay */
        d->logdirty = false;
        return d->hv || st.shadow ? 0 : -EINVAL;
    default:
        return -EINVAL;
    }
}

int xc_shadow_control(xc_interface *xch, uint32_t domid, unsigned int sop, unsigned int *mb,
                      unsigned int mode)
{
    int rc = st_begin_xc(ST_FN_xc_shadow_control, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_shadow_control, xch, rc);
    if (mb)
        *mb = 0;
    return (int)st_end(ST_FN_xc_shadow_control, xch, control(domid, sop, mode));
}

/* Whole bytes are written; what is past the bitmap's end, in the last byte too, is zero. */
static void copy_bitmap(const struct st_domain *d, uint8_t *out, uint64_t pages)
{
    uint64_t nr_bytes = (pages + 7) / 8, have = (d->nr_pfns + 7) / 8;

    have = have < nr_bytes ? have : nr_bytes;
    for (uint64_t at = 0; at < have; at += ST_PIECE_BITS / 8) {
        if (d->set_pieces[at / (ST_PIECE_BITS / 8)])
            memcpy(out + at, (uint8_t *)d->bitmap + at, piece_bytes(have, at));
        else
            memset(out + at, 0, piece_bytes(have, at));
    }
    memset(out + have, 0, nr_bytes - have);
    if (pages % 8)
        out[nr_bytes - 1] &= (uint8_t)((1U << (pages % 8)) - 1);
}

/* As in Xen nothing is refused while log-dirty mode is off: then no bit is set. Of a domain that is being destroyed it
 * says that all bits were read, and writes none; since 4.18 that is an error. */
static long long bitmap_op(uint32_t domid, unsigned op, const xc_hypercall_buffer_t *buffer,
                           unsigned long pages, unsigned mode, xc_shadow_op_stats_t *stats)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (op != XEN_DOMCTL_SHADOW_OP_CLEAN && op != XEN_DOMCTL_SHADOW_OP_PEEK)
        return -EINVAL;
    if (mode & ~(unsigned)XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL)
        return -EINVAL;
    if (d->dying)
        return st.dying_refused ? -EINVAL : (long long)pages;
    if (buffer && !st_buffer_holds(buffer->hbuf, (pages + 7) / 8))
        return -EFAULT;
    if (buffer)
        copy_bitmap(d, buffer->hbuf, pages);
    if (stats) {
        stats->dirty_count = (uint32_t)(d->dirty_count < UINT32_MAX ? d->dirty_count : UINT32_MAX);
        stats->fault_count = (uint32_t)(d->fault_count < UINT32_MAX ? d->fault_count : UINT32_MAX);
    }
    if (op == XEN_DOMCTL_SHADOW_OP_CLEAN) {
        clear_bitmap(d);
        d->cleaned++;
        d->cleaned_as_final += mode == XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL;
    }
    return (long long)pages;
}

long long xc_logdirty_control(xc_interface *xch, uint32_t domid, unsigned int sop,
                              xc_hypercall_buffer_t *dirty_bitmap, unsigned long pages,
                              unsigned int mode, xc_shadow_op_stats_t *stats)
{
    int rc = st_begin_xc(ST_FN_xc_logdirty_control, xch);

    if (rc)
        return st_refused(ST_FN_xc_logdirty_control, xch, rc);
    return st_end(ST_FN_xc_logdirty_control, xch, bitmap_op(domid, sop, dirty_bitmap, pages, mode, stats));
}
