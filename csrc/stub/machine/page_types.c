/* The types of frames, as a toolstack asks for them. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/types.h"

#define MAX_TYPES 1024U                 /* frames in one type query */

static inline uint32_t type_for(uint32_t domid, uint64_t mfn)
{
    if (mfn >= st.nr_frames || st.frames[mfn].owner != domid)
        return XEN_DOMCTL_PFINFO_XTAB;
    return st_type_of(&st.frames[mfn]);
}

/* Of a gfn: a frame or none. The question itself populates what is populated on demand. */
static uint32_t hvm_type(struct st_domain *d, uint64_t gfn)
{
    uint64_t mfn;

    return st_hvm_frame(d, gfn, &mfn) ? XEN_DOMCTL_PFINFO_XTAB : XEN_DOMCTL_PFINFO_NOTAB;
}

static int query_types(uint32_t domid, unsigned num, xen_pfn_t *arr)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (num > MAX_TYPES)
        return -E2BIG;
    for (unsigned i = 0; i < num; i++)
        arr[i] = d->hv ? hvm_type(d, arr[i]) : type_for(domid, arr[i]);
    return 0;
}

int xc_get_pfn_type_batch(xc_interface *xch, uint32_t domid, unsigned num, xen_pfn_t *arr);

int xc_get_pfn_type_batch(xc_interface *xch, uint32_t domid, unsigned num, xen_pfn_t *arr)
{
    int rc = st_begin_xc(ST_FN_xc_get_pfn_type_batch, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_get_pfn_type_batch, xch, rc);
    return (int)st_end(ST_FN_xc_get_pfn_type_batch, xch, query_types(domid, num, arr));
}
