/* Log-dirty mode, and the bitmap: from Xen, all ones, or what was deferred. */
#include "save/logdirty.h"
#include "save/dirty.h"
#include "save/leaves.h"
#include "xen/tracking.h"

int xcsr_logdirty_enable(xcsr_save *s, uint32_t *retried)
{
    XCSR_ENTER(s->h);
    int rc = tracking_begin(s->h, s->domid, true, retried);
    if (!rc) {
        s->logdirty_on = true;
        s->count_is_stale = true;
    }
    return rc;
}

int xcsr_logdirty_off(xcsr *h, uint32_t domid, uint32_t *supported)
{
    XCSR_ENTER(h);
    *supported = 1;
    if (tracking_control(h, domid, XEN_DOMCTL_SHADOW_OP_OFF) >= 0)
        return 0;
    *supported = 0; /* a hypervisor without shadow paging says one of these */
    if (errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)
        return 0;
    return xcsr_fail_call(h, errno, "XEN_DOMCTL_SHADOW_OP_OFF", "cannot end log-dirty mode of domain %u", domid);
}

int logdirty_stop(xcsr_save *s)
{
    if (!s->logdirty_on)
        return 0;
    int rc = tracking_end(s->h, s->domid);
    if (!rc)
        s->logdirty_on = false;
    return rc;
}

int xcsr_logdirty_disable(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    return logdirty_stop(s);
}

/* A page that an HVM guest has given back counts for as long as it is mapped here, and its number of pages is asked for the
 * last time after the last bitmap: by then the worker has to have unmapped what was sent while the guest ran. */
int logdirty_fetch(xcsr_save *s, bool final)
{
    if (final)
        mapper_settle(&s->mapper);
    int rc = tracking_fetch(s->h, s->domid, &s->bitmap_buf, s->nr_pfns, final ? XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL : 0);
    if (rc)
        return rc;
    s->count_is_stale = false;
    s->cursor = 0; /* no pass has come past any of these */
    s->all_marked = false;
    return 0;
}

int xcsr_logdirty_clean(xcsr_save *s, uint32_t final, uint64_t *dirty)
{
    XCSR_ENTER(s->h);
    int rc = logdirty_fetch(s, final);
    if (!rc)
        *dirty = xcsr_count_dirty(s);
    return rc;
}

int logdirty_peek(xcsr_save *s, uint64_t *dirty)
{
    int rc = tracking_peek(s->h, s->domid, &s->bitmap_buf, s->nr_pfns);
    if (rc)
        return rc;
    s->all_marked = false;
    *dirty = xcsr_count_dirty(s);
    return 0;
}

/* No bit is asked for where Xen's own count will do, so that the guest stands still for a call and not for a copy. Neither
 * the end of log-dirty mode nor its beginning resets that count (paging_log_dirty_op in xen/arch/x86/mm/paging.c): what
 * somebody else left in it is gone only when a bitmap has been cleared. */
int xcsr_logdirty_count(xcsr_save *s, uint64_t *dirty)
{
    XCSR_ENTER(s->h);
    *dirty = 0;
    return s->count_is_stale ? logdirty_peek(s, dirty) : tracking_count(s->h, s->domid, &s->bitmap_buf, dirty);
}

int xcsr_mark_all(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    xcsr_bitmap_fill(s->bitmap, s->nr_pfns);
    s->all_marked = true;
    return 0;
}

int xcsr_mark_data(xcsr_save *s, uint64_t *marked)
{
    XCSR_ENTER(s->h);
    *marked = 0;
    for (uint64_t w = 0; w < s->nr_words; w++) {
        uint64_t left = s->nr_pfns - w * 64, exist = left < 64 ? (1ull << left) - 1 : ~0ull;
        uint64_t add = exist & ~sparse_word(&s->without_data, w) & ~s->bitmap[w];
        s->bitmap[w] |= add;
        *marked += (uint64_t)__builtin_popcountll(add);
    }
    return 0;
}

uint64_t xcsr_count_dirty(const xcsr_save *s)
{
    uint64_t full = s->nr_pfns / 64, tail = s->nr_pfns % 64;
    uint64_t n = xcsr_bitmap_count(s->bitmap, full);
    if (tail) /* Xen may leave anything beyond the last pfn */
        n += (uint64_t)__builtin_popcountll(s->bitmap[full] & ((1ull << tail) - 1));
    return n;
}

/* A run begins at a bit that is set where the one before is not. */
uint64_t xcsr_count_runs(const xcsr_save *s)
{
    uint64_t runs = 0, before = 0;
    for (uint64_t at = 0; at < s->nr_pfns; at += 64) {
        uint64_t left = s->nr_pfns - at, exist = left < 64 ? (1ull << left) - 1 : ~0ull;
        uint64_t word = s->bitmap[at / 64] & exist;
        if (word)
            runs += (uint64_t)__builtin_popcountll(word & ~(word << 1 | before));
        before = word >> 63;
    }
    return runs;
}

/* The bits of word that have a frame now: a hole that is still one was sent as such already. Without a p2m only Xen
 * knows, and is asked by the batch. */
static uint64_t present(const xcsr_save *s, uint64_t word, uint64_t first_pfn)
{
    uint64_t out = 0;
    if (!s->p2m)
        return word;
    for (; word; word &= word - 1) {
        unsigned int bit = (unsigned int)__builtin_ctzll(word);
        if (p2m_entry(s->p2m, first_pfn + bit) < s->h->nr_mfns)
            out |= 1ull << bit;
    }
    return out;
}

/* Words at to at + nr of the set, where they name pfns that have a frame, into the bitmap. */
static uint64_t merge_words(xcsr_save *s, const uint64_t *words, uint64_t at, uint64_t nr)
{
    uint64_t merged = 0;
    for (uint64_t w = 0; w < nr; w++) {
        if (!words[w])
            continue;
        uint64_t add = present(s, words[w], (at + w) * 64) & ~s->bitmap[at + w];
        s->bitmap[at + w] |= add;
        merged += (uint64_t)__builtin_popcountll(add);
    }
    return merged;
}

static uint64_t merge_set(xcsr_save *s, const sparse_set *set)
{
    uint64_t merged = 0;
    for (uint64_t c = 0; c < set->nr_chunks; c++)
        if (set->chunks[c])
            merged += merge_words(s, set->chunks[c], c * SPARSE_CHUNK_WORDS, SPARSE_CHUNK_WORDS);
    return merged;
}

/* A hole can only have been filled where the p2m was written. Half a guest may be holes, and they must not be looked at
 * one by one while the guest is paused. */
static uint64_t merge_holes(xcsr_save *s)
{
    const sparse_set *set = &s->without_data;
    uint64_t merged = 0;
    if (!s->p2m)
        return 0;
    const uint64_t per_leaf = s->p2m->geometry->per_leaf, words = per_leaf / 64, leaves = SPARSE_CHUNK_BITS / per_leaf;
    for (uint64_t c = 0; c < set->nr_chunks; c++) {
        if (!set->chunks[c])
            continue;
        for (uint64_t i = 0, leaf = c * leaves; i < leaves && leaf < s->p2m->nr_leaves; i++, leaf++)
            if (dirty_has_frame(s, s->p2m->leaf_mfns[leaf]))
                merged += merge_words(s, set->chunks[c] + i * words, leaf * words, words);
    }
    return merged;
}

bool logdirty_has_written(const xcsr_save *s, uint64_t nr, const uint64_t *mfns)
{
    bool found = false;
    for (uint64_t i = 0; !found && i < nr; i++)
        found = dirty_has_frame(s, mfns[i]);
    return found;
}

int xcsr_written(xcsr_save *s, uint64_t nr, const uint64_t *mfns, uint32_t *out)
{
    XCSR_ENTER(s->h);
    int rc = xcsr_m2p_need(s->h);
    *out = !rc && logdirty_has_written(s, nr, mfns);
    return rc;
}

/* Where the p2m is followed, the sweep sees to its pages. */
static int check_leaves(xcsr_save *s)
{
    if (!s->p2m || s->follow.sent)
        return 0;
    int rc = leaves_written(s, false);
    memset(s->p2m->fresh, 0, s->p2m->nr_leaves);
    return rc;
}

int logdirty_merge(xcsr_save *s, uint64_t *merged)
{
    *merged = 0;
    int rc = check_leaves(s); /* these two first: by the bitmap as Xen gave it */
    if (rc)
        return rc;
    *merged += merge_holes(s);
    *merged += merge_set(s, &s->deferred);
    *merged += merge_set(s, &s->untracked); /* from this bitmap on Xen tracks them */
    sparse_clear(&s->untracked);
    return 0;
}

int xcsr_merge_deferred(xcsr_save *s, uint64_t *merged)
{
    XCSR_ENTER(s->h);
    return logdirty_merge(s, merged);
}
