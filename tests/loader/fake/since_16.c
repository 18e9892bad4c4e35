/* What libxenctrl and libxenguest have since 4.16, and call so: the stub's own. */
#include <xenctrl.h>
#include <xenguest.h>

#define NAMED(result, name, parameters, arguments) \
    result stub_form_##name parameters;            \
    result xc_##name parameters { return stub_form_##name arguments; }

NAMED(long, memory_op, (xc_interface *x, unsigned int cmd, void *arg, size_t n), (x, cmd, arg, n))
NAMED(int, shadow_control, (xc_interface *x, uint32_t d, unsigned int op, unsigned int *mb, unsigned int mode),
      (x, d, op, mb, mode))
NAMED(long long, logdirty_control, (xc_interface *x, uint32_t d, unsigned int op, xc_hypercall_buffer_t *b, unsigned long n,
      unsigned int mode, xc_shadow_op_stats_t *stats), (x, d, op, b, n, mode, stats))
#define xc_getinfolist xc_domain_getinfolist
NAMED(int, getinfolist, (xc_interface *x, uint32_t first, unsigned int max, xc_domaininfo_t *info), (x, first, max, info))
#define xc_policy_init xc_cpu_policy_init
NAMED(xc_cpu_policy_t *, policy_init, (void), ())
#define xc_policy_destroy xc_cpu_policy_destroy
NAMED(void, policy_destroy, (xc_cpu_policy_t *p), (p))
#define xc_policy_get_size xc_cpu_policy_get_size
NAMED(int, policy_get_size, (xc_interface *x, uint32_t *leaves, uint32_t *msrs), (x, leaves, msrs))
#define xc_policy_get_domain xc_cpu_policy_get_domain
NAMED(int, policy_get_domain, (xc_interface *x, uint32_t d, xc_cpu_policy_t *p), (x, d, p))
#define xc_policy_serialise xc_cpu_policy_serialise
NAMED(int, policy_serialise, (xc_interface *x, const xc_cpu_policy_t *p, xen_cpuid_leaf_t *leaves, uint32_t *nr_leaves,
      xen_msr_entry_t *msrs, uint32_t *nr_msrs), (x, p, leaves, nr_leaves, msrs, nr_msrs))

long do_memory_op(xc_interface *x, int cmd, void *arg, size_t n); /* its name in 4.16, the last one that has it */
long do_memory_op(xc_interface *x, int cmd, void *arg, size_t n) { return stub_form_memory_op(x, (unsigned int)cmd, arg, n); }
