/* A domain's CPUID and MSR policy, serialised as the stream's records have it: read, and set. */
#include "xen/handle.h"

#include <stdio.h>
#include <stdlib.h>

static int serialise(xcsr *h, uint32_t domid, xc_cpu_policy_t *policy, void *leaves, uint32_t *nr_leaves,
                     void *msrs, uint32_t *nr_msrs)
{
    if (xc_cpu_policy_get_domain(h->xch, domid, policy))
        return xcsr_fail_call(h, errno, "xc_cpu_policy_get_domain", "cannot read domain %u's CPU policy", domid);
    if (xc_cpu_policy_serialise(h->xch, policy, leaves, nr_leaves, msrs, nr_msrs))
        return xcsr_fail_call(h, errno, "xc_cpu_policy_serialise", "cannot serialise domain %u's CPU policy", domid);
    return 0;
}

int xcsr_cpu_policy(xcsr *h, uint32_t domid, void *leaves, size_t *leaves_len, void *msrs, size_t *msrs_len)
{
    XCSR_ENTER(h);
    uint32_t nr_leaves = 0, nr_msrs = 0;
    if (xc_cpu_policy_get_size(h->xch, &nr_leaves, &nr_msrs))
        return xcsr_fail_call(h, errno, "xc_cpu_policy_get_size", "cannot ask the size of a CPU policy");
    size_t leaves_room = *leaves_len, msrs_room = *msrs_len;
    *leaves_len = nr_leaves * sizeof(xen_cpuid_leaf_t);
    *msrs_len = nr_msrs * sizeof(xen_msr_entry_t);
    if (*leaves_len > leaves_room || *msrs_len > msrs_room)
        return xcsr_fail_call(h, ENOBUFS, "xc_cpu_policy_get_size", "a CPU policy has %u leaves and %u MSRs", nr_leaves,
                              nr_msrs);
    xc_cpu_policy_t *policy = xc_cpu_policy_init();
    if (!policy)
        return xcsr_fail_call(h, ENOMEM, "xc_cpu_policy_init", "no memory for a CPU policy");
    int rc = serialise(h, domid, policy, leaves, &nr_leaves, msrs, &nr_msrs);
    xc_cpu_policy_destroy(policy);
    *leaves_len = nr_leaves * sizeof(xen_cpuid_leaf_t);
    *msrs_len = nr_msrs * sizeof(xen_msr_entry_t);
    return rc;
}

/* What Xen named as the part that it refuses. What it does not name stays ~0, and is not for a reader. */
static void name_refused(char *text, size_t room, uint32_t leaf, uint32_t subleaf, uint32_t msr)
{
    text[0] = 0;
    if (msr != ~0u)
        snprintf(text, room, ": it refuses MSR %#x", msr);
    else if (leaf != ~0u && subleaf != ~0u)
        snprintf(text, room, ": it refuses CPUID leaf %#x, subleaf %#x", leaf, subleaf);
    else if (leaf != ~0u)
        snprintf(text, room, ": it refuses CPUID leaf %#x", leaf);
}

int xcsr_set_cpu_policy(xcsr *h, uint32_t domid, const void *leaves, size_t leaves_len, const void *msrs, size_t msrs_len)
{
    XCSR_ENTER(h);
    uint32_t leaf = ~0u, subleaf = ~0u, msr = ~0u;
    char refused[64];
    int rc = xc_set_domain_cpu_policy(h->xch, domid, (uint32_t)(leaves_len / sizeof(xen_cpuid_leaf_t)),
                                      (void *)(uintptr_t)leaves, (uint32_t)(msrs_len / sizeof(xen_msr_entry_t)),
                                      (void *)(uintptr_t)msrs, &leaf, &subleaf, &msr);

    if (!rc)
        return 0;
    rc = errno;
    name_refused(refused, sizeof refused, leaf, subleaf, msr);
    return xcsr_fail_call(h, rc, "xc_set_domain_cpu_policy", "this host cannot give domain %u its CPU policy%s", domid,
                          refused);
}
