/* libxenstore, as far as this project uses it. See README. */
#ifndef XCSR_ABI_XENSTORE_H
#define XCSR_ABI_XENSTORE_H

#include <stdbool.h>
#include <stdint.h>

#define XBT_NULL 0

struct xs_handle;
typedef uint32_t xs_transaction_t;

struct xs_handle *xs_open(unsigned long flags);
void xs_close(struct xs_handle *xsh);
void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len);
bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data,
              unsigned int len);
/* The names below a node: an array that the caller frees with one free(). */
char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num);
xs_transaction_t xs_transaction_start(struct xs_handle *h);
bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort);
bool xs_resume_domain(struct xs_handle *h, unsigned int domid);

#endif
