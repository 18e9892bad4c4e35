/* The page that Xen and a guest share. */
#include "stub/machine/frames.h"
#include "stub/machine/m2p.h"
#include "stub/machine/shared_info.h"

#define LOW_FRAMES (1UL << (32 - ST_PAGE_SHIFT))  /* below 4 GiB: the address fits into 32 bits */

static void clear(struct st_domain *d)
{
    const uint32_t version = 2, seconds = 1700000000;
    uint8_t *info = st_shared_info(d);

    memset(info, 0, ST_PAGE_SIZE);
    memcpy(info + d->geometry->shared.wc_version, &version, sizeof(version));
    memcpy(info + d->geometry->shared.wc_sec, &seconds, sizeof(seconds));
}

static int take_frame(struct st_domain *d, uint64_t limit, uint64_t *mfn)
{
    int rc = st_frame_alloc_below(limit, (uint16_t)d->id, ST_XEN, ST_NONE, mfn);

    if (!rc)
        st_m2p_set(*mfn, ST_M2P_SHARED);
    return rc;
}

/* Up to Xen 4.21 it lies below 4 GiB always, since then only a 32-bit guest's does. */
int st_make_shared_info(struct st_domain *d)
{
    bool anywhere = st.shared_info_anywhere && d->geometry->width == sizeof(uint64_t);
    int rc = take_frame(d, anywhere ? ST_NONE : LOW_FRAMES, &d->shared_info_mfn);

    if (!rc)
        clear(d);
    return rc;
}

int st_narrow_shared_info(struct st_domain *d, const struct st_geometry *narrow)
{
    uint64_t mfn = d->shared_info_mfn;

    if (mfn >= LOW_FRAMES) {
        if (take_frame(d, LOW_FRAMES, &mfn))
            return -ENOMEM;
        st_frame_free(d->shared_info_mfn);
        d->shared_info_mfn = mfn;
    }
    d->geometry = narrow;
    clear(d);
    return 0;
}

void *st_shared_info(const struct st_domain *d)
{
    return st_page(d->shared_info_mfn);
}

void st_mask_all_events(struct st_domain *d)
{
    memset((uint8_t *)st_shared_info(d) + d->geometry->shared.mask, 0xff, d->geometry->shared.nr_events);
}

static void *arch_field(const struct st_domain *d, enum st_arch_field field)
{
    return (uint8_t *)st_shared_info(d) + d->geometry->shared.arch + field * d->geometry->width;
}

uint64_t st_arch_get(const struct st_domain *d, enum st_arch_field field)
{
    return st_word_of(d->geometry, arch_field(d, field), 0);
}

void st_arch_set(struct st_domain *d, enum st_arch_field field, uint64_t value)
{
    void *at = arch_field(d, field);

    if (d->geometry->width == sizeof(uint64_t))
        __atomic_store_n((uint64_t *)at, value, __ATOMIC_SEQ_CST);
    else
        __atomic_store_n((uint32_t *)at, (uint32_t)value, __ATOMIC_SEQ_CST);
}
