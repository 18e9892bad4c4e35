/* A PV guest's state besides its memory, as records: gathered in one go, because the guest is paused. */
#include "xen/tsc.h"
#include "xen/vcpu.h"
#include "xen/vcpu_context.h"

enum record { TSC_INFO = 0x08, SHARED_INFO = 0x07, VCPU_BASIC = 0x04, VCPU_EXTENDED = 0x05, VCPU_XSAVE = 0x06, VCPU_MSRS = 0x0c };

#define HEAD 8      /* type and length */
#define VCPU_HEAD 8 /* vcpu and reserved */
#define ALIGN 8

struct out { /* records so far */
    char *at;
    size_t len, room;
};

static int need(xcsr *h, const struct out *o, size_t nr_bytes)
{
    return nr_bytes <= o->room - o->len ? 0
                                      : xcsr_fail_call(h, ENOBUFS, "xcsr_pv_state", "%zu bytes are too few", o->room);
}

/* Makes a record of the body that follows a head's room at o->len, and goes on behind its padding. */
static int end_record(xcsr *h, struct out *o, uint32_t type, size_t body)
{
    uint32_t head[2] = {type, (uint32_t)body};
    size_t padding = -body % ALIGN;
    int rc = need(h, o, HEAD + body + padding);
    if (rc)
        return rc;
    memcpy(o->at + o->len, head, HEAD);
    memset(o->at + o->len + HEAD + body, 0, padding);
    o->len += HEAD + body + padding;
    return 0;
}

static int put_record(xcsr *h, struct out *o, uint32_t type, const void *body, size_t size)
{
    int rc = need(h, o, HEAD + size);
    if (rc)
        return rc;
    memcpy(o->at + o->len + HEAD, body, size);
    return end_record(h, o, type, size);
}

static int put_blob(xcsr *h, const xcsr_p2m *p2m, struct out *o, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which)
{
    static const uint32_t types[] = {VCPU_BASIC, VCPU_EXTENDED, VCPU_XSAVE, VCPU_MSRS};
    uint32_t head[2] = {vcpu, 0};
    int rc = need(h, o, HEAD + VCPU_HEAD);
    if (rc)
        return rc;
    char *blob = o->at + o->len + HEAD + VCPU_HEAD;
    size_t size = o->room - o->len - HEAD - VCPU_HEAD;
    rc = vcpu_blob(h, domid, vcpu, which, p2m->geometry->width, blob, &size);
    if (!rc && which == XCSR_VCPU_BASIC)
        rc = vcpu_to_pfns(p2m, vcpu, blob);
    if (rc || !size)
        return rc;
    memcpy(o->at + o->len + HEAD, head, VCPU_HEAD);
    return end_record(h, o, types[which], VCPU_HEAD + size);
}

static int put_vcpu(xcsr *h, const xcsr_p2m *p2m, struct out *o, uint32_t domid, uint32_t vcpu)
{
    uint32_t online = 0;
    int rc = vcpu_online(h, domid, vcpu, &online);
    if (!rc && !vcpu && !online)
        return vcpu_wrong(h, 0, "online", 0, "without it a guest cannot be restored");
    for (unsigned int which = XCSR_VCPU_BASIC; !rc && online && which <= XCSR_VCPU_MSRS; which++)
        rc = put_blob(h, p2m, o, domid, vcpu, which);
    return rc;
}

static int put_tsc(xcsr *h, struct out *o, uint32_t domid)
{
    xcsr_tsc tsc;
    struct {
        uint32_t mode, khz;
        uint64_t nsec;
        uint32_t incarnation, reserved;
    } body;
    int rc = domain_tsc(h, domid, &tsc);
    if (rc)
        return rc;
    body.mode = tsc.mode;
    body.khz = tsc.khz;
    body.nsec = tsc.nsec;
    body.incarnation = tsc.incarnation;
    body.reserved = 0;
    return put_record(h, o, TSC_INFO, &body, sizeof body);
}

int xcsr_pv_state(xcsr *h, const xcsr_p2m *p2m, uint32_t domid, uint32_t max_vcpu, const void *shared_info, void *buf,
                  size_t *len)
{
    XCSR_ENTER(h);
    struct out o = {.at = buf, .room = *len};
    int rc = put_tsc(h, &o, domid);
    if (!rc)
        rc = put_record(h, &o, SHARED_INFO, shared_info, XCSR_PAGE);
    for (uint64_t vcpu = 0; !rc && vcpu <= max_vcpu; vcpu++)
        rc = put_vcpu(h, p2m, &o, domid, (uint32_t)vcpu);
    *len = o.len;
    return rc;
}
