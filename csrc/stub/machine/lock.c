/* The machine's lock, and the text of the last error. */
#include "stub/machine/base.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char error_text[256];

void st_lock(void)
{
    pthread_mutex_lock(&lock);
}

void st_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

int st_error(int error, const char *format, ...)
{
    va_list al;

    va_start(al, format);
    vsnprintf(error_text, sizeof(error_text), format, al);
    va_end(al);
    return -error;
}

const char *st_error_text(void)
{
    return error_text;
}
