/* Records of the stream, put one after another into a buffer; and the one that all guests have. */
#include "save/records.h"
#include "xen/tsc.h"

#define ALIGN 8

int records_need(xcsr *h, const struct records *o, size_t nr_bytes)
{
    return nr_bytes <= o->room - o->len ? 0 : xcsr_fail_call(h, ENOBUFS, o->op, "%zu bytes are too few", o->room);
}

int records_end(xcsr *h, struct records *o, uint32_t type, size_t body)
{
    uint32_t head[2] = {type, (uint32_t)body};
    size_t padding = -body % ALIGN;
    int rc = records_need(h, o, RECORD_HEAD + body + padding);
    if (rc)
        return rc;
    memcpy(o->at + o->len, head, RECORD_HEAD);
    memset(o->at + o->len + RECORD_HEAD + body, 0, padding);
    o->len += RECORD_HEAD + body + padding;
    return 0;
}

int records_put(xcsr *h, struct records *o, uint32_t type, const void *body, size_t size)
{
    int rc = records_need(h, o, RECORD_HEAD + size);
    if (rc)
        return rc;
    memcpy(o->at + o->len + RECORD_HEAD, body, size);
    return records_end(h, o, type, size);
}

int records_put_tsc(xcsr *h, struct records *o, uint32_t domid)
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
    return records_put(h, o, RECORD_TSC_INFO, &body, sizeof body);
}
