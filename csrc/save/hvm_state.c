/* An HVM guest's state besides its memory, as records: gathered in one go, because the guest is paused. */
#include "save/hvm_state.h"
#include "xen/hvm.h"

static int put_context(xcsr *h, struct records *o, uint32_t domid, bool size_alone)
{
    int rc = records_need(h, o, RECORD_HEAD);
    if (rc)
        return rc;
    size_t room = o->room - o->len - RECORD_HEAD, size = room;
    rc = size_alone ? hvm_context_size(h, domid, &size) : hvm_context(h, domid, o->at + o->len + RECORD_HEAD, &size);
    return rc ? rc : size > room ? -ENOBUFS : records_end(h, o, RECORD_HVM_CONTEXT, size);
}

static int look_at_params(xcsr *h, uint32_t domid, uint32_t nr, const xcsr_param *params, bool *as_told)
{
    *as_told = true;
    for (uint32_t i = 0; i < nr; i++) {
        uint64_t value;
        int rc = hvm_param(h, domid, params[i].index, &value);
        if (rc)
            return rc;
        *as_told &= value == params[i].value;
    }
    return 0;
}

static int put_params(xcsr *h, struct records *o, uint32_t nr, const xcsr_param *params)
{
    uint32_t head[2] = {0, 0}; /* how many, reserved */
    size_t at = sizeof head;
    int rc = records_need(h, o, RECORD_HEAD + sizeof head + nr * 2 * sizeof(uint64_t));
    if (rc)
        return rc;
    char *body = o->at + o->len + RECORD_HEAD;
    for (uint32_t i = 0; i < nr; i++) {
        uint64_t entry[2] = {params[i].index, params[i].value};
        if (!params[i].value)
            continue;
        memcpy(body + at, entry, sizeof entry);
        at += sizeof entry;
        head[0]++;
    }
    memcpy(body, head, sizeof head);
    return head[0] ? records_end(h, o, RECORD_HVM_PARAMS, at) : 0;
}

int hvm_state(xcsr *h, uint32_t domid, const xcsr_end_plan *p, struct records *o, bool *as_told)
{
    int rc = records_put_tsc(h, o, domid);
    if (!rc)
        rc = put_context(h, o, domid, o->thrown_away && p->has_pm_timer);
    if (!rc)
        rc = look_at_params(h, domid, p->nr_params, p->params, as_told);
    return rc || !*as_told ? rc : put_params(h, o, p->nr_params, p->params);
}
