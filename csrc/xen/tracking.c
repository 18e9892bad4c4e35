/* Log-dirty mode: on, off, and the bitmap. Whoever saves or measures a domain shares Xen's one bitmap. */
#include "xen/tracking.h"
#include "xen/domain.h"

#include <time.h>

#define TRIES 100 /* a millisecond apart */

/* Whether to call again. Xen interrupts a long call for other work, and refuses others for the same domain until it has
 * finished that one: another process may be reading the bitmap just now. */
static bool is_busy(int *tries)
{
    if (errno != EBUSY || ++*tries >= TRIES)
        return false;
    nanosleep(&(struct timespec){0, 1000000}, NULL);
    return true;
}

/* A call on log-dirty mode was refused, for errno. Since Xen 4.18 all are for a domain that is being destroyed; until 4.17 they
 * succeeded, and did nothing. */
static bool is_dying(xcsr *h, uint32_t domid)
{
    xcsr_domain info;
    int error = errno, rc = error == EINVAL ? domain_ask(h, domid, &info) : 0;
    bool dying = error == EINVAL && (rc == -ESRCH || (!rc && info.dying));
    errno = error;
    return dying;
}

static int fail_dying(xcsr *h, uint32_t domid, const char *op)
{
    return xcsr_fail_call(h, ESRCH, op, "domain %u is being destroyed", domid);
}

/* fmt: what cannot be done then, with %u for the domain. */
static int refused(xcsr *h, uint32_t domid, const char *op, const char *fmt)
{
    return is_dying(h, domid) ? fail_dying(h, domid, op) : xcsr_fail_call(h, errno, op, fmt, domid);
}

int tracking_control(xcsr *h, uint32_t domid, unsigned int op)
{
    int tries = 0, rc;
    do
        rc = xc_shadow_control(h->xch, domid, op, NULL, 0);
    while (rc < 0 && is_busy(&tries));
    return rc;
}

static long long bitmap_call(xcsr *h, uint32_t domid, unsigned int op, xc_hypercall_buffer_t *buffer, uint64_t nr_pfns,
                             uint32_t mode, xc_shadow_op_stats_t *stats)
{
    long long rc;
    int tries = 0;
    do
        rc = xc_logdirty_control(h->xch, domid, op, buffer, nr_pfns, mode, stats);
    while (rc < 0 && is_busy(&tries));
    return rc;
}

/* Whether an error may mean that it is on already: left on by a saver that was killed, or used to track a frame buffer. */
static bool may_be_on(int err)
{
    return err != EOPNOTSUPP && err != EPERM && err != EACCES && err != ESRCH;
}

int tracking_begin(xcsr *h, uint32_t domid, bool take_over, uint32_t *retried)
{
    *retried = 0;
    int rc = tracking_control(h, domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY);
    int first = errno;
    if (rc < 0 && take_over && may_be_on(first)) {
        *retried = 1;
        rc = tracking_control(h, domid, XEN_DOMCTL_SHADOW_OP_OFF);
        if (rc >= 0)
            rc = tracking_control(h, domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY);
    }
    if (rc >= 0)
        return 0;
    errno = errno ? errno : first;
    return refused(h, domid, "XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY", "cannot track the writes of domain %u");
}

int tracking_end(xcsr *h, uint32_t domid)
{
    if (tracking_control(h, domid, XEN_DOMCTL_SHADOW_OP_OFF) < 0 && !is_dying(h, domid))
        return xcsr_fail_call(h, errno, "XEN_DOMCTL_SHADOW_OP_OFF", "log-dirty mode of domain %u stays on", domid);
    return 0;
}

static int read_bitmap(xcsr *h, uint32_t domid, unsigned int op, xc_hypercall_buffer_t *buffer, uint64_t nr_pfns, uint32_t mode)
{
    const char *name = op == XEN_DOMCTL_SHADOW_OP_CLEAN ? "XEN_DOMCTL_SHADOW_OP_CLEAN" : "XEN_DOMCTL_SHADOW_OP_PEEK";
    xc_shadow_op_stats_t stats = {0, 0};
    long long rc = bitmap_call(h, domid, op, buffer, nr_pfns, mode, &stats);
    if (rc < 0)
        return refused(h, domid, name, "cannot read domain %u's dirty bitmap");
    if ((unsigned long long)rc != nr_pfns)
        return xcsr_fail_call(h, EPROTO, name, "Xen's dirty bitmap covers %lld of %llu pfns", rc, (unsigned long long)nr_pfns);
    return 0;
}

/* Log-dirty mode was off, or seems to have been: until Xen 4.17 each of these calls succeeds for a domain that is being
 * destroyed, and does nothing. */
static int ended(xcsr *h, uint32_t domid)
{
    const char *op = "XEN_DOMCTL_SHADOW_OP_CLEAN";
    xcsr_domain info;
    int rc = domain_ask(h, domid, &info);
    if (rc)
        return rc;
    if (info.dying)
        return fail_dying(h, domid, op);
    return xcsr_fail_call(h, ENODATA, op, "somebody else has ended log-dirty mode of domain %u, or begins to destroy it: "
                          "what it has written is not known", domid);
}

/* While log-dirty mode is off, Xen answers CLEAN with a bitmap in which nothing is dirty, and no error
 * (paging_log_dirty_op in xen/arch/x86/mm/paging.c). There is one way to ask whether it is on: Xen refuses to switch on
 * what is on already. Asked after CLEAN it tells that for the whole time before, unless somebody has both ended it and
 * begun it anew. */
static int still_on(xcsr *h, uint32_t domid)
{
    if (tracking_control(h, domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY) < 0) {
        if (errno == EINVAL)
            return 0;
        return xcsr_fail_call(h, errno, "XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY",
                              "cannot tell whether log-dirty mode of domain %u is still on", domid);
    }
    return ended(h, domid);
}

int tracking_fetch(xcsr *h, uint32_t domid, xc_hypercall_buffer_t *buffer, uint64_t nr_pfns, uint32_t mode)
{
    int rc = read_bitmap(h, domid, XEN_DOMCTL_SHADOW_OP_CLEAN, buffer, nr_pfns, mode);
    return rc ? rc : still_on(h, domid);
}

int tracking_peek(xcsr *h, uint32_t domid, xc_hypercall_buffer_t *buffer, uint64_t nr_pfns)
{
    return read_bitmap(h, domid, XEN_DOMCTL_SHADOW_OP_PEEK, buffer, nr_pfns, 0);
}

int tracking_count(xcsr *h, uint32_t domid, xc_hypercall_buffer_t *buffer, uint64_t *dirty)
{
    xc_shadow_op_stats_t stats = {0, 0};
    if (bitmap_call(h, domid, XEN_DOMCTL_SHADOW_OP_PEEK, buffer, 0, 0, &stats) < 0)
        return refused(h, domid, "XEN_DOMCTL_SHADOW_OP_PEEK", "cannot count domain %u's dirty pages");
    *dirty = stats.dirty_count;
    return 0;
}

uint64_t *tracking_alloc(xcsr *h, uint64_t nr_words, xc_hypercall_buffer_t *buffer, int *pages)
{
    uint64_t wanted = (nr_words * sizeof(uint64_t) + XCSR_PAGE - 1) / XCSR_PAGE;
    *pages = 0;
    if (wanted > INT32_MAX)
        return NULL;
    DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, words, buffer);
    words = xc_hypercall_buffer_alloc_pages(h->xch, words, (int)wanted);
    *pages = (int)wanted;
    return words;
}

void tracking_free(xcsr *h, uint64_t *words, xc_hypercall_buffer_t *buffer, int pages)
{
    DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, given, buffer);
    given = words;
    if (given)
        xc_hypercall_buffer_free_pages(h->xch, given, pages);
}
