/* Who maps and unmaps when: see mapper.h. */
#include "save/mapper.h"

#include <stdlib.h>
#include <sys/mman.h>

/* The library's answer in words. The caller looks at errs. */
static int mapped(struct mapper *m, const struct pages *p, int err)
{
    return err ? xcsr_fail_call(m->h, err, "xenforeignmemory_map", "cannot map %u frames of domain %u", p->nr, m->domid) : 0;
}

static int map_now(struct mapper *m, struct pages *p)
{
    kept_make_room(m->h, &m->kept, p->nr);
    if (m->kept.count)
        ahead_settle(m->ahead); /* what the worker was told to unmap has to be gone: it counts against KEPT_FRAMES */
    memset(p->errs, 0, p->nr * sizeof *p->errs);
    errno = 0; /* as in xcsr_enter */
    void *at = xenforeignmemory_map(m->h->fmem, m->domid, PROT_READ, p->nr, p->frames, p->errs);
    int err = at ? 0 : errno ? errno : EIO;
    p->map = (struct mapping){at, p->nr, NULL};
    return mapped(m, p, err);
}

int mapper_map(struct mapper *m, struct pages *p)
{
    int64_t began = xcsr_now_us();
    int rc = p->nr ? map_now(m, p) : 0;
    m->pace.mapping_us += xcsr_now_us() - began;
    return rc;
}

/* -- ahead */

static bool have_worker(struct mapper *m)
{
    if (!m->ahead && !m->pace.impossible)
        m->pace.impossible = ahead_start(m->h, &m->ahead);
    return m->ahead;
}

bool mapper_looks_ahead(struct mapper *m)
{
    const struct pace *p = &m->pace;
    bool wanted = p->how == XCSR_AHEAD_ALWAYS || (p->how == XCSR_AHEAD_MEASURED && p->pays);
    return wanted && have_worker(m);
}

void mapper_begin(struct mapper *m, struct pages *p, uint32_t nr_besides)
{
    kept_make_room(m->h, &m->kept, nr_besides + p->nr);
    if (!p->nr)
        return;
    memset(p->errs, 0, p->nr * sizeof *p->errs);
    p->asked = true;
    ahead_map(m->ahead, m->domid, p->nr, p->frames, p->errs);
}

int mapper_take(struct mapper *m, struct pages *p)
{
    p->asked = false;
    return mapped(m, p, ahead_take(m->ahead, m->h, &p->map));
}

void mapper_unmap_spent(struct mapper *m)
{
    mapping_drop(m->h, &m->spent);
}

void mapper_settle(struct mapper *m)
{
    ahead_settle(m->ahead);
}

int mapper_ahead(struct mapper *m, enum xcsr_ahead how)
{
    m->pace.how = how;
    if (how != XCSR_AHEAD_ALWAYS || m->ahead)
        return 0;
    int rc = ahead_start(m->h, &m->ahead);
    m->pace.impossible = rc;
    return rc;
}

/* -- letting go */

static void unmap_now(struct mapper *m, struct pages *p)
{
    int64_t began = xcsr_now_us();
    mapping_drop(m->h, &p->map);
    int64_t took = xcsr_now_us() - began;
    m->pace.mapping_us += took;
    m->unmapping_us += took;
}

void mapper_drop(struct mapper *m, struct pages *p)
{
    if (p->asked)
        ahead_take(m->ahead, m->h, &p->map);
    p->asked = false;
    if (p->map.at && m->keeps)
        kept_add(m->h, &m->kept, &p->map);
    else
        unmap_now(m, p);
    p->map.at = NULL;
}

void mapper_retire(struct mapper *m, struct pages *p, bool next_is_begun)
{
    if (next_is_begun && p->map.by && !m->keeps) {
        m->spent = p->map;
        p->map.at = NULL;
    }
    mapper_drop(m, p);
}

void mapper_keep(struct mapper *m, bool on)
{
    m->keeps = on;
    if (!on) /* the guest runs, perhaps again: it is not to wait for its pages, should it give them back */
        kept_drop(m->h, &m->kept);
}

/* The last batch's unmapping may be counted with this one, or the next one's mapping. */
void mapper_measure(struct mapper *m, uint32_t nr, int64_t writing_us)
{
    struct pace *p = &m->pace;
    int64_t mapping_us = p->mapping_us + (m->ahead ? ahead_busy_us(m->ahead) : 0);
    if (nr >= XCSR_BATCH / 2) /* of a smaller one nothing can be told */
        pace_note(p, mapping_us - p->mapping_before_us, writing_us);
    p->mapping_before_us = mapping_us;
}

void mapper_stop(struct mapper *m)
{
    mapping_drop(m->h, &m->spent);
    kept_drop(m->h, &m->kept);
    ahead_stop(m->ahead);
    m->ahead = NULL;
}

void mapper_forget(struct mapper *m)
{
    ahead_forget(m->ahead);
}
