/*
 * Every other function that libxenguest and its helper import: their loader wants all of them before the
 * first call. Weak, so that one the stub has (or gets) takes this one's place. Called, they say so and fail.
 */
#include <errno.h>
#include <stdio.h>

#define ABSENT(name)                                                        \
    long name(void);                                                        \
    __attribute__((weak)) long name(void)                                   \
    {                                                                       \
        fprintf(stderr, "stand-in: " #name " is not there\n");              \
        errno = ENOSYS;                                                     \
        return -1;                                                          \
    }

#define ABSENT_POINTER(name)                                                \
    void *name(void);                                                       \
    __attribute__((weak)) void *name(void)                                  \
    {                                                                       \
        fprintf(stderr, "stand-in: " #name " is not there\n");              \
        errno = EOPNOTSUPP;                                                 \
        return (void *)0;                                                   \
    }

ABSENT(xc_add_mmu_update)
ABSENT_POINTER(xc_alloc_mmu_updates)
ABSENT(xc_clear_domain_pages)
ABSENT(xc_domain_add_to_physmap)
ABSENT(xc_domain_cacheflush)
ABSENT(xc_domain_claim_pages)
ABSENT(xc_domain_hvm_getcontext)
ABSENT(xc_domain_hvm_setcontext)
ABSENT(xc_domain_memory_exchange_pages)
ABSENT(xc_domain_populate_physmap)
ABSENT(xc_domain_populate_physmap_exact)
ABSENT(xc_domain_set_pod_target)
ABSENT(xc_domain_set_tsc_info)
ABSENT(xc_domain_subscribe_for_suspend)
ABSENT(xc_flush_mmu_updates)
ABSENT_POINTER(xc_gnttab_map_table_v1)
ABSENT_POINTER(xc_gnttab_map_table_v2)
ABSENT(xc_gnttab_op)
ABSENT(xc_hvm_param_get)
ABSENT(xc_hvm_param_set)
ABSENT(xc_make_page_below_4G)
ABSENT(xc_memory_op)
ABSENT(xc_mmuext_op)
ABSENT(xc_dom_gnttab_seed)
ABSENT(xc_set_domain_cpu_policy)
ABSENT(xc_sysctl)
ABSENT(xc_vcpu_setcontext)
