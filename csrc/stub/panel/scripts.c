/* Scripts: which calls fail, what is called at their entry, how often and when they were made. */
#include "stub/machine/entry.h"
#include "stub/panel/stub_api.h"

int stub_functions(const char **list, uint32_t max)
{
    for (uint32_t i = 0; i < max && i < ST_NR_FUNCTIONS; i++)
        list[i] = st_function_name((enum st_function)i);
    return ST_NR_FUNCTIONS;
}

int stub_fail(const char *function, uint64_t nth, int error, int64_t page)
{
    int rc;

    st_lock();
    rc = st_rule_add(function, nth, error, page);
    st_unlock();
    return rc;
}

void stub_fail_clear(void)
{
    st_lock();
    st_rules_clear();
    st_unlock();
}

int64_t stub_calls(const char *function)
{
    int64_t count;
    int id;

    st_lock();
    id = st_function_by_name(function);
    count = id < 0 ? id : (int64_t)st_calls((enum st_function)id);
    st_unlock();
    return count;
}

int stub_entered(const char *function, int64_t *at, int64_t *inside_before)
{
    int id;

    st_lock();
    id = st_function_by_name(function);
    if (id >= 0)
        *at = st_entered((enum st_function)id, inside_before);
    st_unlock();
    return id < 0 ? id : 0;
}

int64_t stub_inside(void)
{
    int64_t total;

    st_lock();
    total = st_inside();
    st_unlock();
    return total;
}

void stub_calls_clear(void)
{
    st_lock();
    st_calls_clear();
    st_unlock();
}

void stub_set_hook(int (*callback)(const char *function, uint64_t count))
{
    st_lock();
    st_set_hook(callback);
    st_unlock();
}
