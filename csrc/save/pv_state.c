/* A PV guest's state besides its memory, as records: gathered in one go, because the guest is paused. */
#include "save/pv_state.h"
#include "xen/vcpu.h"
#include "xen/vcpu_context.h"

#define VCPU_HEAD 8 /* vcpu and reserved */

static int put_blob(xcsr *h, const xcsr_p2m *p2m, struct records *o, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which)
{
    static const uint32_t types[] = {RECORD_VCPU_BASIC, RECORD_VCPU_EXTENDED, RECORD_VCPU_XSAVE, RECORD_VCPU_MSRS};
    uint32_t head[2] = {vcpu, 0};
    int rc = records_need(h, o, RECORD_HEAD + VCPU_HEAD);
    if (rc)
        return rc;
    char *blob = o->at + o->len + RECORD_HEAD + VCPU_HEAD;
    size_t size = o->room - o->len - RECORD_HEAD - VCPU_HEAD;
    rc = vcpu_blob(h, domid, vcpu, which, p2m->geometry->width, blob, &size);
    if (!rc && which == XCSR_VCPU_BASIC && !o->thrown_away)
        rc = vcpu_to_pfns(p2m, vcpu, blob);
    if (rc || !size)
        return rc;
    memcpy(o->at + o->len + RECORD_HEAD, head, VCPU_HEAD);
    return records_end(h, o, types[which], VCPU_HEAD + size);
}

static int put_vcpu(xcsr *h, const xcsr_p2m *p2m, struct records *o, uint32_t domid, uint32_t vcpu)
{
    uint32_t online = 0;
    int rc = vcpu_online(h, domid, vcpu, &online);
    if (!rc && !vcpu && !online && !o->thrown_away) /* by the time that it counts it may be online again */
        return vcpu_wrong(h, 0, "online", 0, "without it a guest cannot be restored");
    for (unsigned int which = XCSR_VCPU_BASIC; !rc && online && which <= XCSR_VCPU_MSRS; which++)
        rc = put_blob(h, p2m, o, domid, vcpu, which);
    return rc;
}

int pv_state(xcsr *h, const xcsr_p2m *p2m, uint32_t domid, uint32_t max_vcpu, const void *shared_info, struct records *o)
{
    int rc = m2p_need_whole(h); /* else a page of the guest may have been sent as a hole */
    if (!rc)
        rc = records_put_tsc(h, o, domid);
    if (!rc)
        rc = records_put(h, o, RECORD_SHARED_INFO, shared_info, XCSR_PAGE);
    for (uint64_t vcpu = 0; !rc && vcpu <= max_vcpu; vcpu++)
        rc = put_vcpu(h, p2m, o, domid, (uint32_t)vcpu);
    return rc;
}

int xcsr_pv_state(xcsr *h, const xcsr_p2m *p2m, uint32_t domid, uint32_t max_vcpu, const void *shared_info, void *buf,
                  size_t *len)
{
    XCSR_ENTER(h);
    struct records o = {.op = "xcsr_pv_state", .at = buf, .room = *len};
    int rc = pv_state(h, p2m, domid, max_vcpu, shared_info, &o);
    *len = o.len;
    return rc;
}
