/* Internal: records of the stream, put one after another into a buffer. The caller has entered. */
#ifndef XCSR_RECORDS_H
#define XCSR_RECORDS_H

#include "xen/handle.h"

enum record {
    RECORD_VCPU_BASIC = 0x04,
    RECORD_VCPU_EXTENDED = 0x05,
    RECORD_VCPU_XSAVE = 0x06,
    RECORD_SHARED_INFO = 0x07,
    RECORD_TSC_INFO = 0x08,
    RECORD_HVM_CONTEXT = 0x09,
    RECORD_HVM_PARAMS = 0x0a,
    RECORD_VCPU_MSRS = 0x0c
};

#define RECORD_HEAD 8 /* type and length */

struct records {
    const char *op; /* who is told that the room was too small */
    char *at;
    size_t len, room;
    bool thrown_away; /* the guest still runs: its registers are not what they will be, and are left as they are */
};

/* All: -ENOBUFS, with a text in the handle, if there is no room for it. */
int records_need(xcsr *h, const struct records *o, size_t nr_bytes);
/* Makes a record of the body that follows a head's room at o->len, and goes on behind its padding. */
int records_end(xcsr *h, struct records *o, uint32_t type, size_t body);
int records_put(xcsr *h, struct records *o, uint32_t type, const void *body, size_t size);
int records_put_tsc(xcsr *h, struct records *o, uint32_t domid);

#endif
