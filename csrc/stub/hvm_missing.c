/* The stub's guests are PV ones: Xen refuses what is asked of HVM guests only. Weak, so that a machine that knows HVM
 * guests takes the place of each function by defining it; this file goes then. */
#include <errno.h>
#include <xenctrl.h>
#include <xenstore.h>

static int refuse(void)
{
    errno = EOPNOTSUPP;
    return -1;
}

__attribute__((weak)) int xc_domain_nr_gpfns(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns)
{
    (void)xch, (void)domid, (void)gpfns;
    return refuse();
}

__attribute__((weak)) int xc_domain_get_pod_target(xc_interface *xch, uint32_t domid, uint64_t *tot_pages,
                                                   uint64_t *pod_cache_pages, uint64_t *pod_entries)
{
    (void)xch, (void)domid, (void)tot_pages, (void)pod_cache_pages, (void)pod_entries;
    return refuse();
}

__attribute__((weak)) int xc_hvm_param_set(xc_interface *xch, uint32_t domid, uint32_t param, uint64_t value)
{
    (void)xch, (void)domid, (void)param, (void)value;
    return refuse();
}

__attribute__((weak)) int xc_hvm_param_get(xc_interface *xch, uint32_t domid, uint32_t param, uint64_t *value)
{
    (void)xch, (void)domid, (void)param, (void)value;
    return refuse();
}

__attribute__((weak)) int xc_domain_hvm_getcontext(xc_interface *xch, uint32_t domid, uint8_t *buf, uint32_t size)
{
    (void)xch, (void)domid, (void)buf, (void)size;
    return refuse();
}

__attribute__((weak)) int xc_domain_hvm_setcontext(xc_interface *xch, uint32_t domid, uint8_t *context, uint32_t size)
{
    (void)xch, (void)domid, (void)context, (void)size;
    return refuse();
}

__attribute__((weak)) char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
    (void)h, (void)t, (void)path, (void)num;
    refuse();
    return NULL;
}
