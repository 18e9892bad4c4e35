/* A guest's p2m: its leaf frames mapped for as long as the save lasts. */
#include "xen/p2m.h"
#include "xen/page_types.h"

#include <stdlib.h>
#include <sys/mman.h>

static int map_leaves(xcsr_p2m *p, uint32_t domid)
{
    xcsr *h = p->h;
    int rc = xcsr_m2p_need(h);
    if (rc)
        return rc;
    p->compat_m2p = XCSR_INVALID;
    if (pt_sees_compat_m2p(p->geometry)) {
        rc = m2p_need_compat(h);
        p->compat_m2p = h->compat_m2p;
    }
    if (rc)
        return rc;
    p->entries = xenforeignmemory_map(h->fmem, domid, PROT_READ, p->nr_leaves, (xen_pfn_t *)p->leaf_mfns, NULL);
    return p->entries ? 0
                      : xcsr_fail_call(h, errno, "xenforeignmemory_map", "cannot map the p2m of domain %u (%llu frames)",
                                       domid, (unsigned long long)p->nr_leaves);
}

static void free_p2m(xcsr_p2m *p)
{
    if (p) {
        free(p->leaf_mfns);
        free(p->leaf_pfns);
        free(p->fresh);
    }
    free(p);
}

static int by_value(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static uint64_t nr_ascents(const uint64_t *numbers, uint64_t nr)
{
    uint64_t found = 0;
    for (uint64_t i = 1; i < nr; i++)
        found += numbers[i - 1] < numbers[i];
    return found;
}

int xcsr_nr_distinct(xcsr *h, uint64_t nr, const uint64_t *numbers, uint64_t *out)
{
    XCSR_ENTER(h);
    *out = nr;
    if (!nr || nr_ascents(numbers, nr) == nr - 1) /* in order, as a guest's p2m frames are as a rule */
        return 0;
    uint64_t *sorted = malloc(nr * sizeof *sorted);
    if (!sorted)
        return xcsr_fail_call(h, ENOMEM, "malloc", "no memory to sort %llu frames", (unsigned long long)nr);
    memcpy(sorted, numbers, nr * sizeof *sorted);
    qsort(sorted, nr, sizeof *sorted, by_value);
    *out = 1 + nr_ascents(sorted, nr);
    free(sorted);
    return 0;
}

uint64_t xcsr_pte_frames(uint64_t nr, const uint64_t *entries, uint64_t nr_mfns, uint32_t level, uint64_t *mfns)
{
    const uint64_t flags = PTE_PRESENT | (level > 1 ? PTE_SUPERPAGE : 0);
    uint64_t bad = nr;
    for (uint64_t i = 0; i < nr; i++) {
        mfns[i] = pte_frame(entries[i]);
        bool is_good = (entries[i] & flags) == PTE_PRESENT && mfns[i] > 0 && mfns[i] < nr_mfns;
        if (!is_good && bad == nr)
            bad = i;
    }
    return bad;
}

static xcsr_p2m *alloc_p2m(uint64_t nr_leaves)
{
    xcsr_p2m *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->leaf_mfns = malloc(nr_leaves * sizeof *p->leaf_mfns);
    p->leaf_pfns = malloc(nr_leaves * sizeof *p->leaf_pfns);
    p->fresh = calloc(nr_leaves, sizeof *p->fresh);
    if (p->leaf_mfns && p->leaf_pfns && p->fresh)
        return p;
    free_p2m(p);
    return NULL;
}

int xcsr_p2m_map(xcsr *h, uint32_t domid, uint32_t width, uint64_t nr_pfns, uint64_t nr_leaves, const uint64_t *leaf_mfns,
                 xcsr_p2m **out)
{
    XCSR_ENTER(h);
    *out = NULL;
    const struct pt_geometry *geometry = pt_geometry(width);
    if (!geometry)
        return xcsr_fail(&h->error, XCSR_E_P2M, EOPNOTSUPP, "xcsr_p2m_map", "a p2m of a guest with words of %u bytes", width);
    if (!nr_pfns || nr_leaves != (nr_pfns + geometry->per_leaf - 1) / geometry->per_leaf)
        return xcsr_fail(&h->error, XCSR_E_P2M, EINVAL, "xcsr_p2m_map", "%llu leaves cannot hold %llu pfns",
                         (unsigned long long)nr_leaves, (unsigned long long)nr_pfns);
    xcsr_p2m *p = alloc_p2m(nr_leaves);
    if (!p)
        return xcsr_fail_call(h, ENOMEM, "malloc", "no memory for a p2m of %llu frames", (unsigned long long)nr_leaves);
    p->h = h;
    p->domid = domid;
    p->geometry = geometry;
    p->nr_pfns = nr_pfns;
    p->nr_leaves = nr_leaves;
    memcpy(p->leaf_mfns, leaf_mfns, nr_leaves * sizeof *leaf_mfns);
    memset(p->leaf_pfns, 0xff, nr_leaves * sizeof *p->leaf_pfns);
    int rc = map_leaves(p, domid);
    if (rc) {
        free_p2m(p);
        return rc;
    }
    *out = p;
    return 0;
}

void xcsr_p2m_unmap(xcsr_p2m *p)
{
    if (!p)
        return;
    xcsr *h = p->h;
    if (xcsr_seize(h)) { /* foreign mappings are not inherited by a forked child */
        xenforeignmemory_unmap(h->fmem, (void *)(uintptr_t)p->entries, p->nr_leaves);
        xcsr_leave(&h);
    }
    free_p2m(p);
}

int xcsr_p2m_leaf_pfns(xcsr_p2m *p, uint64_t *pfns)
{
    XCSR_ENTER(p->h);
    for (uint64_t i = 0; i < p->nr_leaves; i++) {
        pfns[i] = xcsr_lookup_pfn(p, p->leaf_mfns[i]);
        p->fresh[i] |= p->leaf_pfns[i] != XCSR_INVALID && p->leaf_pfns[i] != pfns[i];
        p->leaf_pfns[i] = pfns[i];
        if (pfns[i] != XCSR_INVALID)
            continue;
        p->h->error.index = (uint32_t)i;
        p->h->error.mfn = p->leaf_mfns[i];
        return xcsr_fail(&p->h->error, XCSR_E_P2M, ERANGE, "p2m", "p2m frame %llu is mfn %#llx, which the p2m does not name as the guest's",
                         (unsigned long long)i, (unsigned long long)p->leaf_mfns[i]);
    }
    return 0;
}

bool p2m_leaves_stay(const xcsr_p2m *p)
{
    uint64_t differ = 0;
    for (uint64_t i = 0; i < p->nr_leaves; i++)
        differ |= (p->leaf_pfns[i] == XCSR_INVALID) | (xcsr_lookup_pfn(p, p->leaf_mfns[i]) ^ p->leaf_pfns[i]);
    return !differ;
}

int xcsr_p2m_leaves_stay(xcsr_p2m *p, uint32_t *out)
{
    XCSR_ENTER(p->h);
    *out = p2m_leaves_stay(p);
    return 0;
}

static xcsr_error *wrong_leaf(xcsr_p2m *p, uint64_t i)
{
    xcsr_error *e = &p->h->error;
    e->index = (uint32_t)i;
    e->mfn = p->leaf_mfns[i];
    e->pfn = p->leaf_pfns[i];
    return e;
}

static int leaf_is_broken(xcsr_p2m *p, uint64_t i)
{
    xcsr_error *e = wrong_leaf(p, i);
    e->type = TYPE_BROKEN;
    return xcsr_fail(e, XCSR_E_P2M, ERANGE, "p2m", "p2m frame %llu (pfn %#llx) is broken: the hardware has lost its content, and with it "
                     "the guest can neither run on nor be restored", (unsigned long long)i, (unsigned long long)e->pfn);
}

static int leaf_is_table(xcsr_p2m *p, uint64_t i, uint32_t level)
{
    xcsr_error *e = wrong_leaf(p, i);
    e->level = level;
    return xcsr_fail(e, XCSR_E_P2M, ERANGE, "p2m", "p2m frame %llu (pfn %#llx) is a level %u page table, which nobody could restore",
                     (unsigned long long)i, (unsigned long long)e->pfn, level);
}

struct asked { /* leaves whose types are asked in one call */
    uint32_t nr;
    uint64_t leaves[XCSR_BATCH];
    xen_pfn_t types[XCSR_BATCH];
};

static int ask(xcsr_p2m *p, struct asked *a)
{
    for (uint32_t i = 0; i < a->nr; i++)
        a->types[i] = p->leaf_mfns[a->leaves[i]];
    int rc = a->nr ? page_types(p->h, p->domid, a->nr, a->types) : 0;
    for (uint32_t i = 0; !rc && i < a->nr; i++) {
        uint32_t type = (uint32_t)a->types[i];
        if (table_level(type))
            rc = leaf_is_table(p, a->leaves[i], table_level(type));
        else if (type == TYPE_BROKEN)
            rc = leaf_is_broken(p, a->leaves[i]);
    }
    a->nr = 0;
    return rc;
}

static int add(xcsr_p2m *p, struct asked *a, uint64_t leaf)
{
    a->leaves[a->nr++] = leaf;
    return a->nr < XCSR_BATCH ? 0 : ask(p, a);
}

int xcsr_p2m_check_leaves(xcsr_p2m *p)
{
    XCSR_ENTER(p->h);
    struct asked a;
    a.nr = 0;
    int rc = 0;
    for (uint64_t i = 0; !rc && i < p->nr_leaves; i++)
        rc = add(p, &a, i);
    return rc ? rc : ask(p, &a);
}

int p2m_check_fresh(xcsr_p2m *p)
{
    struct asked a;
    a.nr = 0;
    int rc = 0;
    const uint8_t *next = p->fresh, *end = p->fresh + p->nr_leaves;
    for (; !rc && (next = memchr(next, 1, (size_t)(end - next))); next++)
        rc = add(p, &a, (uint64_t)(next - p->fresh));
    return rc ? rc : ask(p, &a);
}

uint64_t xcsr_p2m_entry(const xcsr_p2m *p, uint64_t pfn)
{
    return p2m_entry(p, pfn);
}

int xcsr_p2m_pfn_of(const xcsr_p2m *p, uint64_t mfn, uint64_t *pfn)
{
    *pfn = xcsr_lookup_pfn(p, mfn);
    return *pfn == XCSR_INVALID ? -ERANGE : 0;
}

int xcsr_p2m_swap(xcsr_p2m *p, xcsr_p2m *other)
{
    XCSR_ENTER(p->h);
    if (p == other || p->h != other->h)
        return xcsr_fail_call(p->h, EINVAL, "xcsr_p2m_swap", "two p2ms of one hypervisor are needed");
    for (uint64_t i = 0; i < other->nr_leaves; i++)
        other->fresh[i] |= i >= p->nr_leaves || p->fresh[i] || p->leaf_mfns[i] != other->leaf_mfns[i] ||
                           p->leaf_pfns[i] != other->leaf_pfns[i];
    if (p->nr_pfns < other->nr_pfns) /* a page that was used in part is used further on */
        other->fresh[p->nr_pfns / p->geometry->per_leaf] = 1;
    xcsr_p2m was = *p;
    *p = *other;
    *other = was;
    return 0;
}
