/* The functions that differ between releases, in the form that the core calls. */
#include "loader/calls.h"

#include <stdlib.h>

/* -- log-dirty mode: one function until 4.15, two since then */

int xc_shadow_control(xc_interface *xch, uint32_t domid, unsigned int sop, unsigned int *mb, unsigned int mode)
{
    if (loaded_calls.shadow_control_16)
        return loaded_calls.shadow_control_16(xch, domid, sop, mb, mode);
    unsigned long megabytes = mb ? *mb : 0;
    int rc = loaded_calls.shadow_control_14(xch, domid, sop, NULL, 0, mb ? &megabytes : NULL, mode, NULL);
    if (mb)
        *mb = (unsigned int)megabytes;
    return rc;
}

long long xc_logdirty_control(xc_interface *xch, uint32_t domid, unsigned int sop, xc_hypercall_buffer_t *dirty_bitmap,
                              unsigned long pages, unsigned int mode, xc_shadow_op_stats_t *stats)
{
    if (loaded_calls.logdirty_control_16)
        return loaded_calls.logdirty_control_16(xch, domid, sop, dirty_bitmap, pages, mode, stats);
    if (pages > INT32_MAX) { /* more than its result, an int, can say: 8 TiB */
        errno = E2BIG;
        return -1;
    }
    return loaded_calls.shadow_control_14(xch, domid, sop, dirty_bitmap, pages, NULL, mode, stats);
}

/* -- memory operations: another name until 4.16 */

long xc_memory_op(xc_interface *xch, unsigned int cmd, void *arg, size_t len)
{
    if (loaded_calls.memory_op_17)
        return loaded_calls.memory_op_17(xch, cmd, arg, len);
    return loaded_calls.memory_op_14(xch, (int)cmd, arg, len);
}

/* -- domains: the struct is shorter until 4.15, and may be longer in a release to come */

#define COMMON offsetof(xc_domaininfo_t, gpaddr_bits) /* bytes at the front that have stayed the same */
#define ROOM 4096                                     /* for one domain's, whatever a release to come makes of it */

int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains, xc_domaininfo_t *info)
{
    bool known;
    union {
        xc_domaininfo_t info;
        char room[ROOM];
    } one;
    if (loaded_release(&known)->domaininfo == sizeof *info && known)
        return loaded_calls.getinfolist(xch, first_domain, max_domains, info);
    unsigned int nr = 0;
    for (; nr < max_domains; nr++) {
        int rc = loaded_calls.getinfolist(xch, first_domain, 1, &one.info);
        if (rc < 0 && !nr)
            return rc;
        if (rc <= 0)
            break;
        memset(&info[nr], 0, sizeof info[nr]);
        memcpy(&info[nr], &one, COMMON);
        first_domain = info[nr].domain + 1u;
    }
    return (int)nr;
}

/* -- CPU policy: until 4.15 there is no object, and both parts are fetched at once */

struct xc_cpu_policy {
    xen_cpuid_leaf_t *leaves;
    xen_msr_entry_t *msrs;
    uint32_t nr_leaves, nr_msrs;
};

xc_cpu_policy_t *xc_cpu_policy_init(void)
{
    return loaded_calls.policy_init_16 ? loaded_calls.policy_init_16() : calloc(1, sizeof(struct xc_cpu_policy));
}

void xc_cpu_policy_destroy(xc_cpu_policy_t *policy)
{
    if (loaded_calls.policy_destroy_16) {
        loaded_calls.policy_destroy_16(policy);
    } else if (policy) {
        free(policy->leaves);
        free(policy->msrs);
        free(policy);
    }
}

int xc_cpu_policy_get_size(xc_interface *xch, uint32_t *nr_leaves, uint32_t *nr_msrs)
{
    return loaded_calls.policy_size_16 ? loaded_calls.policy_size_16(xch, nr_leaves, nr_msrs)
                                       : loaded_calls.policy_size_14(xch, nr_leaves, nr_msrs);
}

int xc_cpu_policy_get_domain(xc_interface *xch, uint32_t domid, xc_cpu_policy_t *policy)
{
    if (loaded_calls.policy_domain_16)
        return loaded_calls.policy_domain_16(xch, domid, policy);
    int rc = loaded_calls.policy_size_14(xch, &policy->nr_leaves, &policy->nr_msrs);
    if (rc)
        return rc;
    free(policy->leaves);
    free(policy->msrs);
    policy->leaves = calloc(policy->nr_leaves, sizeof *policy->leaves);
    policy->msrs = calloc(policy->nr_msrs, sizeof *policy->msrs);
    if (!policy->leaves || !policy->msrs)
        return -1; /* errno is calloc's */
    return loaded_calls.policy_domain_14(xch, domid, &policy->nr_leaves, policy->leaves, &policy->nr_msrs, policy->msrs);
}

int xc_cpu_policy_serialise(xc_interface *xch, const xc_cpu_policy_t *policy, xen_cpuid_leaf_t *leaves, uint32_t *nr_leaves,
                            xen_msr_entry_t *msrs, uint32_t *nr_msrs)
{
    if (loaded_calls.policy_serialise_16)
        return loaded_calls.policy_serialise_16(xch, policy, leaves, nr_leaves, msrs, nr_msrs);
    if (policy->nr_leaves > *nr_leaves || policy->nr_msrs > *nr_msrs) {
        errno = ENOBUFS;
        return -1;
    }
    memcpy(leaves, policy->leaves, policy->nr_leaves * sizeof *leaves);
    memcpy(msrs, policy->msrs, policy->nr_msrs * sizeof *msrs);
    *nr_leaves = policy->nr_leaves;
    *nr_msrs = policy->nr_msrs;
    return 0;
}
