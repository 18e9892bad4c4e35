/* The way into and out of every call: counting, scripted failures, the hook, the guests' turn. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"

#include <time.h>

#define MAX_RULES 64U

#define ST_FUNCTION_NAME(name) #name,
static const char *const names[ST_NR_FUNCTIONS] = { ST_FUNCTIONS(ST_FUNCTION_NAME) };

struct rule {
    enum st_function function;
    uint64_t nth, seen;         /* nth 0: every call */
    int error;
    int64_t page;               /* of a mapping, or -1 for the call as a whole */
    bool done;
};

static struct rule rules[MAX_RULES];
static unsigned nr_rules;
static uint64_t calls[ST_NR_FUNCTIONS];
static struct { int64_t at, inside; } entered[ST_NR_FUNCTIONS];
static int64_t inside;              /* nanoseconds in calls that have ended */
static _Thread_local int64_t begun; /* of the call in progress; 0: none that is counted */
static int (*hook)(const char *function, uint64_t count);
static _Thread_local bool in_hook;

static int64_t fault_page = -1;     /* for the mapping that is being made */
static int fault_error;

static const char *const cannot_fail[] = {
    "xc_cpu_policy_destroy", "xc__hypercall_buffer_free", "xc__hypercall_buffer_free_pages", "xs_close",
};

int st_function_by_name(const char *name)
{
    for (int i = 0; i < ST_NR_FUNCTIONS; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return st_error(ENOENT, "the stub has no function %s", name);
}

static bool returns_nothing(const char *name)
{
    for (unsigned i = 0; i < sizeof(cannot_fail) / sizeof(cannot_fail[0]); i++)
        if (strcmp(cannot_fail[i], name) == 0)
            return true;
    return false;
}

static bool rule_fires(struct rule *rule)
{
    if (rule->done)
        return false;
    rule->seen++;
    if (rule->nth && rule->seen != rule->nth)
        return false;
    rule->done = rule->nth != 0;
    return true;
}

/* The error with which this call fails as a whole, or 0. */
static int ask_rules(enum st_function function)
{
    int error = 0;

    fault_page = -1;
    for (unsigned i = 0; i < nr_rules; i++) {
        if (rules[i].function != function || !rule_fires(&rules[i]))
            continue;
        if (rules[i].page < 0) {
            error = rules[i].error;
        } else {
            fault_page = rules[i].page;
            fault_error = rules[i].error;
        }
    }
    return error;
}

bool st_page_faults(void)
{
    return fault_page >= 0;
}

int st_page_fault(uint64_t page)
{
    return fault_page >= 0 && (uint64_t)fault_page == page ? -fault_error : 0;
}

static int call_hook(int (*callback)(const char *, uint64_t), enum st_function function, uint64_t count)
{
    int error;

    in_hook = true;
    error = callback(names[function], count);
    in_hook = false;
    return error;
}

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int enter(enum st_function function, bool tick)
{
    int (*callback)(const char *, uint64_t);
    uint64_t count;
    int error;

    st_lock();
    error = -st_machine_ready();
    count = in_hook ? calls[function] : ++calls[function];
    begun = in_hook ? 0 : now();
    if (!in_hook) {
        entered[function].at = begun;
        entered[function].inside = inside;
    }
    callback = in_hook ? NULL : hook;
    st_unlock();
    if (!error && callback)
        error = call_hook(callback, function, count);
    if (error)
        return -error;
    st_lock();
    error = in_hook ? 0 : ask_rules(function);
    if (error) {
        st_unlock();
        return -error;
    }
    if (tick && !in_hook)
        st_domains_tick();
    return 0;
}

int st_begin(enum st_function function)
{
    return enter(function, true);
}

int st_begin_quiet(enum st_function function)
{
    return enter(function, false);
}

long long st_refused(enum st_function function, xc_interface *xch, int error)
{
    bool valid;

    st_lock();
    valid = xch && st_xch_valid(xch);
    st_unlock();
    if (valid)
        st_log_error(xch, names[function], -error);
    errno = -error;
    return -1;
}

long long st_end(enum st_function function, xc_interface *xch, long long result)
{
    if (begun)
        inside += now() - begun;
    begun = 0;
    st_unlock();
    if (result >= 0)
        return result;
    return st_refused(function, xch, (int)result);
}

void st_faults_reset(void)
{
    nr_rules = 0;
    fault_page = -1;
    memset(calls, 0, sizeof(calls));
    memset(entered, 0, sizeof(entered));
    inside = 0;
}

const char *st_function_name(enum st_function function)
{
    return names[function];
}

int st_rule_add(const char *function, uint64_t nth, int error, int64_t page)
{
    int id = st_function_by_name(function);

    if (id < 0)
        return id;
    if (error <= 0)
        return st_error(EINVAL, "an errno is positive, not %d", error);
    if (returns_nothing(function))
        return st_error(EINVAL, "%s returns nothing and so cannot fail", function);
    if (page >= 0 && id != ST_FN_xenforeignmemory_map)
        return st_error(EINVAL, "only pages of a mapping can fail one by one");
    if (nr_rules == MAX_RULES)
        return st_error(ENOSPC, "no more than %u rules", MAX_RULES);
    rules[nr_rules++] = (struct rule){ (enum st_function)id, nth, 0, error, page, false };
    return 0;
}

void st_rules_clear(void)
{
    nr_rules = 0;
}

uint64_t st_calls(enum st_function function)
{
    return calls[function];
}

void st_calls_clear(void)
{
    memset(calls, 0, sizeof(calls));
}

int64_t st_entered(enum st_function function, int64_t *inside_before)
{
    *inside_before = entered[function].inside;
    return entered[function].at;
}

int64_t st_inside(void)
{
    return inside;
}

void st_set_hook(int (*callback)(const char *function, uint64_t count))
{
    hook = callback;
}
