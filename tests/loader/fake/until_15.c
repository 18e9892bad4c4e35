/* The same until 4.15: one function for log-dirty mode, a shorter struct for a domain, no object for a CPU policy. */
#include <errno.h>
#include <string.h>
#include <xenctrl.h>
#include <xenguest.h>

/* xenctrl.h has these names already, for functions of another form. */
int old_shadow_control(xc_interface *x, uint32_t d, unsigned int op, xc_hypercall_buffer_t *b, unsigned long n,
                       unsigned long *mb, uint32_t mode, xc_shadow_op_stats_t *stats) __asm__("xc_shadow_control");
int old_getinfolist(xc_interface *x, uint32_t first, unsigned int max, void *info) __asm__("xc_domain_getinfolist");

long do_memory_op(xc_interface *x, int cmd, void *arg, size_t n);
long stub_form_memory_op(xc_interface *x, unsigned int cmd, void *arg, size_t n);
int stub_form_shadow_control(xc_interface *x, uint32_t d, unsigned int op, unsigned int *mb, unsigned int mode);
long long stub_form_logdirty_control(xc_interface *x, uint32_t d, unsigned int op, xc_hypercall_buffer_t *b,
                                     unsigned long n, unsigned int mode, xc_shadow_op_stats_t *stats);
int stub_form_getinfolist(xc_interface *x, uint32_t first, unsigned int max, xc_domaininfo_t *info);
xc_cpu_policy_t *stub_form_policy_init(void);
void stub_form_policy_destroy(xc_cpu_policy_t *p);
int stub_form_policy_get_size(xc_interface *x, uint32_t *leaves, uint32_t *msrs);
int stub_form_policy_get_domain(xc_interface *x, uint32_t d, xc_cpu_policy_t *p);
int stub_form_policy_serialise(xc_interface *x, const xc_cpu_policy_t *p, xen_cpuid_leaf_t *leaves, uint32_t *nr_leaves,
                               xen_msr_entry_t *msrs, uint32_t *nr_msrs);
int xc_get_cpu_policy_size(xc_interface *x, uint32_t *nr_leaves, uint32_t *nr_msrs);
int xc_get_domain_cpu_policy(xc_interface *x, uint32_t d, uint32_t *nr_leaves, xen_cpuid_leaf_t *leaves, uint32_t *nr_msrs,
                             xen_msr_entry_t *msrs);

int old_shadow_control(xc_interface *x, uint32_t d, unsigned int op, xc_hypercall_buffer_t *b, unsigned long n,
                       unsigned long *mb, uint32_t mode, xc_shadow_op_stats_t *stats)
{
    (void)mb;
    if (op == XEN_DOMCTL_SHADOW_OP_CLEAN || op == XEN_DOMCTL_SHADOW_OP_PEEK)
        return (int)stub_form_logdirty_control(x, d, op, b, n, mode, stats);
    if (b || n || stats) {
        errno = EFAULT;
        return -1;
    }
    return stub_form_shadow_control(x, d, op, NULL, mode);
}

long do_memory_op(xc_interface *x, int cmd, void *arg, size_t n)
{
    return stub_form_memory_op(x, (unsigned int)cmd, arg, n);
}

#define SIZE_15 104
#define COMMON 96 /* what comes before gpaddr_bits and arch_config */

int old_getinfolist(xc_interface *x, uint32_t first, unsigned int max, void *info)
{
    unsigned int nr = 0;
    for (; nr < max; nr++) {
        xc_domaininfo_t one;
        int rc = stub_form_getinfolist(x, first, 1, &one);
        if (rc != 1)
            return nr ? (int)nr : rc;
        memset((char *)info + nr * SIZE_15, 0x5a, SIZE_15);
        memcpy((char *)info + nr * SIZE_15, &one, COMMON);
        first = one.domain + 1u;
    }
    return (int)nr;
}

/* The guest runs a little at each of the stub's calls. The loader asks once more than the core does, so that only the
 * first time counts: then the guest is at the same point as in a save without a loader. */
int xc_get_cpu_policy_size(xc_interface *x, uint32_t *nr_leaves, uint32_t *nr_msrs)
{
    static uint32_t leaves, msrs;
    if (!leaves && stub_form_policy_get_size(x, &leaves, &msrs))
        return -1;
    *nr_leaves = leaves;
    *nr_msrs = msrs;
    return 0;
}

int xc_get_domain_cpu_policy(xc_interface *x, uint32_t d, uint32_t *nr_leaves, xen_cpuid_leaf_t *leaves, uint32_t *nr_msrs,
                             xen_msr_entry_t *msrs)
{
    xc_cpu_policy_t *policy = stub_form_policy_init();
    int rc = policy ? stub_form_policy_get_domain(x, d, policy) : -1;
    rc = rc ? rc : stub_form_policy_serialise(x, policy, leaves, nr_leaves, msrs, nr_msrs);
    stub_form_policy_destroy(policy);
    return rc;
}
