/* The machine as a whole, and its store. */
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/m2p.h"
#include "stub/machine/store.h"
#include "stub/machine/types.h"
#include "stub/panel/stub_api.h"

const char *stub_error(void)
{
    return st_error_text();
}

int stub_reset(const stub_machine_config *config)
{
    int rc;

    st_lock();
    rc = st_machine_reset(config);
    st_unlock();
    return rc;
}

uint64_t stub_max_page(void)
{
    uint64_t frames = 0;

    st_lock();
    if (st_machine_ready() == 0)
        frames = st.nr_frames;
    st_unlock();
    return frames;
}

uint64_t stub_free_frames(void)
{
    uint64_t count = 0;

    st_lock();
    if (st_machine_ready() == 0)
        count = st_free_frames();
    st_unlock();
    return count;
}

int stub_frame(uint64_t mfn, stub_frame_info *info)
{
    int rc;

    st_lock();
    rc = st_machine_ready();
    if (!rc && mfn >= st.nr_frames)
        rc = st_error(EINVAL, "mfn %#lx is beyond the machine's end %#lx", (unsigned long)mfn,
                      (unsigned long)st.nr_frames);
    if (!rc) {
        const struct st_frame *frame = &st.frames[mfn];

        info->owner = frame->kind == ST_FREE ? DOMID_INVALID : frame->owner;
        info->pfn = frame->kind == ST_FREE || frame->kind == ST_XEN ? ST_NONE : frame->pfn;
        info->type = st_frame_type(mfn);
    }
    st_unlock();
    return rc;
}

int stub_set_m2p(uint64_t mfn, uint64_t pfn)
{
    int rc;

    st_lock();
    rc = st_machine_ready();
    if (!rc && mfn >= st.nr_frames)
        rc = st_error(EINVAL, "mfn %#lx is beyond the machine's end", (unsigned long)mfn);
    if (!rc)
        st_m2p_set(mfn, pfn);
    st_unlock();
    return rc;
}

int stub_add_memory(uint64_t frames)
{
    int rc;

    st_lock();
    rc = st_machine_ready();
    if (!rc && frames > st_m2p_room() - st.added)
        rc = st_error(ENOSPC, "the m2p has room for %lu frames more, not %lu", (unsigned long)(st_m2p_room() - st.added),
                      (unsigned long)frames);
    if (!rc)
        st.added += frames;
    st_unlock();
    return rc;
}

void stub_get_usage(stub_usage *usage)
{
    st_lock();
    st_usage_now(usage);
    st_unlock();
}

int stub_store_read(const char *path, char *value, uint32_t max)
{
    const char *found;
    size_t length;
    int rc = -ENOENT;

    st_lock();
    found = st_store_get(path);
    if (found) {
        length = strlen(found);
        rc = length < max ? (int)length : -ENOSPC;
        if (length < max)
            memcpy(value, found, length + 1);
    }
    st_unlock();
    return rc;
}

int stub_store_write(const char *path, const char *value)
{
    int rc;

    st_lock();
    rc = st_store_set(path, value);
    st_unlock();
    return rc;
}
