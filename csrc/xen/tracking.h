/* Internal: a domain's log-dirty mode, and Xen's bitmap of it. The caller has entered. */
#ifndef XCSR_TRACKING_H
#define XCSR_TRACKING_H

#include "xen/handle.h"

/* xc_shadow_control: -1 and errno. This and all below call again for a while if Xen says EBUSY. */
int tracking_control(xcsr *h, uint32_t domid, unsigned int op);
/* Log-dirty mode on. take_over: if Xen refuses because it may be on already, it is ended and begun anew; *retried says
 * whether that was done. */
int tracking_begin(xcsr *h, uint32_t domid, bool take_over, uint32_t *retried);
/* Off. An error leaves it on. */
int tracking_end(xcsr *h, uint32_t domid);
/* Fetches nr_pfns bits into buffer, and clears them all in Xen. mode: 0, or XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL. Bits
 * past the last pfn may be anything. -ENODATA: somebody else has ended log-dirty mode, so that the bitmap is worth
 * nothing; it is on again now. -ESRCH: the domain is being destroyed. */
int tracking_fetch(xcsr *h, uint32_t domid, xc_hypercall_buffer_t *buffer, uint64_t nr_pfns, uint32_t mode);
/* The same bits, which stay as they are in Xen. Does not notice that log-dirty mode is off: then there are none. */
int tracking_peek(xcsr *h, uint32_t domid, xc_hypercall_buffer_t *buffer, uint64_t nr_pfns);

/* How many bits are set, by Xen's own count; none is read into buffer. */
int tracking_count(xcsr *h, uint32_t domid, xc_hypercall_buffer_t *buffer, uint64_t *dirty);

/* Memory for so many words of a bitmap, which Xen can write to: *pages of it, described by buffer. The caller gives it
 * back with tracking_free. NULL: there is none. */
uint64_t *tracking_alloc(xcsr *h, uint64_t nr_words, xc_hypercall_buffer_t *buffer, int *pages);
/* words may be NULL. */
void tracking_free(xcsr *h, uint64_t *words, xc_hypercall_buffer_t *buffer, int pages);

#endif
