/* CPUID and MSR policy: a guest's is smaller than what Xen says a policy may need. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/policy.h"
#include "stub/machine/rng.h"

#define MAX_LEAVES 160U
#define MAX_MSRS   8U
#define MAX_GIVEN_LEAVES 121U           /* the limits of Xen 4.17 for a policy that it is given */
#define MAX_GIVEN_MSRS 5U
#define MAX_BASIC_LEAF 0xdU
#define MAX_EXTENDED_LEAF 0x80000021U

struct xc_cpu_policy {
    uint32_t nr_leaves, nr_msrs;
    xen_cpuid_leaf_t leaves[MAX_LEAVES];
    xen_msr_entry_t msrs[MAX_MSRS];
};

static const uint32_t plain_leaves[] = { 0x0, 0x1, 0x2, 0x5, 0x6, 0x9, 0xa };
static const uint32_t extended_leaves[] = { 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004,
                                            0x80000006, 0x80000007, 0x80000008, 0x80000021 };
static const struct { uint32_t leaf, subleaves; } deep_leaves[] = {
    { 0x4, 4 }, { 0x7, 2 }, { 0xb, 2 }, { 0xd, 3 },
};
static const uint32_t msr_indices[] = { 0xce, 0x10a };

xc_cpu_policy_t *xc_cpu_policy_init(void)
{
    xc_cpu_policy_t *policy;
    int rc = st_begin_quiet(ST_FN_xc_cpu_policy_init);

    if (rc) {
        st_refused(ST_FN_xc_cpu_policy_init, NULL, rc);
        return NULL;
    }
    policy = calloc(1, sizeof(*policy));
    st_usage.cpu_policies += policy != NULL;
    st_end(ST_FN_xc_cpu_policy_init, NULL, policy ? 0 : -ENOMEM);
    return policy;
}

void xc_cpu_policy_destroy(xc_cpu_policy_t *policy)
{
    int rc = st_begin_quiet(ST_FN_xc_cpu_policy_destroy);

    if (rc)
        st_lock();
    if (policy && st_usage.cpu_policies) /* there are none in a child that was forked with one */
        st_usage.cpu_policies--;
    free(policy);
    st_end(ST_FN_xc_cpu_policy_destroy, NULL, 0);
}

int xc_cpu_policy_get_size(xc_interface *xch, uint32_t *nr_leaves, uint32_t *nr_msrs)
{
    int rc = st_begin_xc(ST_FN_xc_cpu_policy_get_size, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_cpu_policy_get_size, xch, rc);
    *nr_leaves = MAX_LEAVES;
    *nr_msrs = MAX_MSRS;
    return (int)st_end(ST_FN_xc_cpu_policy_get_size, xch, 0);
}

static void add_leaf(struct xc_cpu_policy *p, uint64_t seed, uint32_t leaf, uint32_t subleaf)
{
    uint64_t ab = st_hash(seed, (uint64_t)leaf << 32 | subleaf), cd = st_hash(ab, seed);

    p->leaves[p->nr_leaves++] = (xen_cpuid_leaf_t){
        .leaf = leaf, .subleaf = subleaf, .a = (uint32_t)ab, .b = (uint32_t)(ab >> 32),
        .c = (uint32_t)cd, .d = (uint32_t)(cd >> 32),
    };
}

static int compare_leaves(const void *a, const void *b)
{
    const xen_cpuid_leaf_t *x = a, *y = b;

    if (x->leaf != y->leaf)
        return x->leaf < y->leaf ? -1 : 1;
    return x->subleaf < y->subleaf ? -1 : x->subleaf > y->subleaf;
}

/*
 * Random but for what readers take by its meaning: which leaves and extended states there are. MSRs of a
 * policy have 32 bits in Xen 4.17.
 */
static void make_sense(xen_cpuid_leaf_t *l)
{
    if (l->leaf == 0)
        l->a = MAX_BASIC_LEAF;
    else if (l->leaf == 0x80000000)
        l->a = MAX_EXTENDED_LEAF;
    else if (l->leaf == 0x7 && l->subleaf == 0)
        l->a = 1;
    else if (l->leaf == 0xd && l->subleaf == 0)
        l->a = 7, l->d = 0;
    else if (l->leaf == 0xd && l->subleaf == 1)
        l->c = l->d = 0;
}

static void fill_policy(struct xc_cpu_policy *p, uint64_t seed)
{
    p->nr_leaves = p->nr_msrs = 0;
    for (unsigned i = 0; i < sizeof(plain_leaves) / sizeof(plain_leaves[0]); i++)
        add_leaf(p, seed, plain_leaves[i], XEN_CPUID_NO_SUBLEAF);
    for (unsigned i = 0; i < sizeof(deep_leaves) / sizeof(deep_leaves[0]); i++)
        for (uint32_t sub = 0; sub < deep_leaves[i].subleaves; sub++)
            add_leaf(p, seed, deep_leaves[i].leaf, sub);
    for (unsigned i = 0; i < sizeof(extended_leaves) / sizeof(extended_leaves[0]); i++)
        add_leaf(p, seed, extended_leaves[i], XEN_CPUID_NO_SUBLEAF);
    for (uint32_t i = 0; i < p->nr_leaves; i++)
        make_sense(&p->leaves[i]);
    qsort(p->leaves, p->nr_leaves, sizeof(p->leaves[0]), compare_leaves);
    for (unsigned i = 0; i < sizeof(msr_indices) / sizeof(msr_indices[0]); i++)
        p->msrs[p->nr_msrs++] = (xen_msr_entry_t){ .idx = msr_indices[i],
                                                        .val = (uint32_t)st_hash(seed, msr_indices[i]) };
}

int xc_cpu_policy_get_domain(xc_interface *xch, uint32_t domid, xc_cpu_policy_t *policy)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_cpu_policy_get_domain, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_cpu_policy_get_domain, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d && d->policy)
        *policy = *d->policy;
    else if (d)
        fill_policy(policy, d->seed);
    return (int)st_end(ST_FN_xc_cpu_policy_get_domain, xch, rc);
}

static int serialise(const struct xc_cpu_policy *p, xen_cpuid_leaf_t *leaves, uint32_t *nr_leaves,
                     xen_msr_entry_t *msrs, uint32_t *nr_msrs)
{
    if (leaves) {
        if (*nr_leaves < p->nr_leaves)
            return -ENOBUFS;
        memcpy(leaves, p->leaves, p->nr_leaves * sizeof(*leaves));
        *nr_leaves = p->nr_leaves;
    }
    if (msrs) {
        if (*nr_msrs < p->nr_msrs)
            return -ENOBUFS;
        memcpy(msrs, p->msrs, p->nr_msrs * sizeof(*msrs));
        *nr_msrs = p->nr_msrs;
    }
    return 0;
}

int xc_cpu_policy_serialise(xc_interface *xch, const xc_cpu_policy_t *policy, xen_cpuid_leaf_t *leaves,
                            uint32_t *nr_leaves, xen_msr_entry_t *msrs, uint32_t *nr_msrs)
{
    int rc = st_begin_xc(ST_FN_xc_cpu_policy_serialise, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_cpu_policy_serialise, xch, rc);
    return (int)st_end(ST_FN_xc_cpu_policy_serialise, xch,
                       serialise(policy, leaves, nr_leaves, msrs, nr_msrs));
}

void st_policy_free(struct st_domain *d)
{
    free(d->policy);
}

/* ---- setting one: what is given is laid over what the domain has ---- */

struct given {
    uint32_t nr_leaves, nr_msrs;
    const xen_cpuid_leaf_t *leaves;
    const xen_msr_entry_t *msrs;
    uint32_t err_leaf, err_subleaf, err_msr;
};

/* How many subleaves Xen has room for; 0: the leaf has none. */
static uint32_t room_for_subleaves(uint32_t leaf)
{
    switch (leaf) {
    case 0x4:
        return 6;
    case 0x7:
        return 3;
    case 0xb:
        return 2;
    case 0xd:
        return 63;
    default:
        return 0;
    }
}

static bool leaf_in_range(const xen_cpuid_leaf_t *l)
{
    uint32_t subleaves = room_for_subleaves(l->leaf);

    if (subleaves)
        return l->subleaf < subleaves;
    if (l->leaf > MAX_BASIC_LEAF && l->leaf != 0x40000000 && l->leaf != 0x40000100
        && !(l->leaf >= 0x80000000 && l->leaf <= MAX_EXTENDED_LEAF))
        return false;
    return l->subleaf == XEN_CPUID_NO_SUBLEAF;
}

static int put_leaf(struct xc_cpu_policy *p, const xen_cpuid_leaf_t *given)
{
    for (uint32_t i = 0; i < p->nr_leaves; i++)
        if (compare_leaves(&p->leaves[i], given) == 0) {
            p->leaves[i] = *given;
            return 0;
        }
    if (p->nr_leaves == MAX_LEAVES)
        return -E2BIG;
    p->leaves[p->nr_leaves++] = *given;
    return 0;
}

static int put_msr(struct xc_cpu_policy *p, const xen_msr_entry_t *given)
{
    if (given->flags)
        return -EINVAL;
    for (uint32_t i = 0; i < p->nr_msrs; i++)
        if (p->msrs[i].idx == given->idx) {
            p->msrs[i] = *given;
            return 0;
        }
    return -ERANGE;
}

static int lay_over(struct xc_cpu_policy *p, struct given *g)
{
    for (uint32_t i = 0; i < g->nr_leaves; i++) {
        int rc = leaf_in_range(&g->leaves[i]) ? put_leaf(p, &g->leaves[i]) : -ERANGE;

        if (rc) {
            g->err_leaf = g->leaves[i].leaf;
            g->err_subleaf = g->leaves[i].subleaf;
            return rc;
        }
    }
    qsort(p->leaves, p->nr_leaves, sizeof(p->leaves[0]), compare_leaves);
    for (uint32_t i = 0; i < g->nr_msrs; i++) {
        int rc = put_msr(p, &g->msrs[i]);

        if (rc) {
            g->err_msr = g->msrs[i].idx;
            return rc;
        }
    }
    return 0;
}

static int set_policy(struct st_domain *d, struct given *g)
{
    struct xc_cpu_policy *policy;
    int rc;

    if (d->creation_finished)
        return -EEXIST;
    if (g->nr_leaves > MAX_GIVEN_LEAVES || g->nr_msrs > MAX_GIVEN_MSRS)
        return -E2BIG;
    policy = malloc(sizeof(*policy));
    if (!policy)
        return -ENOMEM;
    if (d->policy)
        *policy = *d->policy;
    else
        fill_policy(policy, d->seed);
    rc = lay_over(policy, g);
    if (rc) {
        free(policy);
        return rc;
    }
    free(d->policy);
    d->policy = policy;
    d->policy_leaves = g->nr_leaves;
    d->policy_msrs = g->nr_msrs;
    return 0;
}

static void report(uint32_t *to, uint32_t value)
{
    if (to)
        *to = value;
}

int xc_set_domain_cpu_policy(xc_interface *xch, uint32_t domid, uint32_t nr_leaves, xen_cpuid_leaf_t *leaves,
                             uint32_t nr_msrs, xen_msr_entry_t *msrs, uint32_t *err_leaf_p,
                             uint32_t *err_subleaf_p, uint32_t *err_msr_p)
{
    struct given g = { nr_leaves, nr_msrs, leaves, msrs, ~0U, ~0U, ~0U };
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_set_domain_cpu_policy, xch);

    report(err_leaf_p, ~0U);
    report(err_subleaf_p, ~0U);
    report(err_msr_p, ~0U);
    if (rc)
        return (int)st_refused(ST_FN_xc_set_domain_cpu_policy, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        rc = set_policy(d, &g);
    report(err_leaf_p, g.err_leaf);
    report(err_subleaf_p, g.err_subleaf);
    report(err_msr_p, g.err_msr);
    return (int)st_end(ST_FN_xc_set_domain_cpu_policy, xch, rc);
}
