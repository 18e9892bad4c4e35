/* What Python may call. This text is both the C header and, without its lines that start with '#',
 * cffi's cdef: the two cannot drift apart.
 *
 * A function that can fail returns 0 or -errno; where it failed, the handle holds the facts (xcsr_error_of).
 * XCSR_AGAIN is not a failure: the stream's other end is slow, and the same call goes on after the caller has looked at
 * signals. A handle belongs to the process that opened it, and to one thread at a time. Any other use is refused with
 * -XCSR_OTHER_PROCESS or -XCSR_OTHER_THREAD. These are no errnos, so they cannot be mistaken for an answer of Xen's, and
 * the handle's error record is left alone, as it belongs to the other caller.
 * A function that releases something waits until another thread's call has ended. In another process it frees memory
 * only: mappings and log-dirty mode belong to the process that opened the handle.
 */
#ifndef XCSR_API_H
#define XCSR_API_H
#include <stddef.h>
#include <stdint.h>

typedef struct xcsr xcsr;           /* an open hypervisor: libxenctrl, foreign memory, xenstore */
typedef struct xcsr_p2m xcsr_p2m;   /* a guest's p2m, its leaf frames mapped read-only */
typedef struct xcsr_save xcsr_save; /* one save: bitmap, deferred pages, batch buffers */
typedef struct xcsr_sink xcsr_sink; /* where the stream goes */
typedef struct xcsr_source xcsr_source;   /* where a stream comes from */
typedef struct xcsr_restore xcsr_restore; /* one restore: the new p2m, types, what has been sent */

#define XCSR_AGAIN 1
#define XCSR_OTHER_PROCESS 10001
#define XCSR_OTHER_THREAD 10002
#define XCSR_BATCH 1024

/* What kind of failure the handle describes: it decides which exception Python raises. */
enum xcsr_error_kind {
    XCSR_E_NONE,
    XCSR_E_CALL,   /* a libxenctrl, libxenforeignmemory or libxenstore call failed */
    XCSR_E_OUTPUT, /* writing the stream failed */
    XCSR_E_PTE,    /* a page table entry cannot be expressed in pfns: level, index, pfn, mfn */
    XCSR_E_PAGE,   /* a page cannot be sent: pfn, mfn, type */
    XCSR_E_P2M,    /* a p2m frame is not the guest's: index, mfn */
    XCSR_E_INPUT,  /* reading the stream failed (err), or it ended (err ENODATA) */
    XCSR_E_STREAM, /* the stream says what cannot be: pfn, mfn, level, index, type */
    XCSR_E_STATE,  /* a vcpu's state is not the guest's own: index the vcpu, op the field, mfn its value */
    XCSR_E_CONTEXT /* the same in a stream: index, op; err ENOENT: pfn was not sent, EINVAL: it is no page of that level
                      (type), ERANGE: the value, in mfn, cannot be */
};

typedef struct xcsr_error {
    uint32_t kind; /* enum xcsr_error_kind */
    int32_t err;   /* positive errno */
    uint64_t pfn, mfn;
    uint32_t level, index, type;
    char op[48];
    char text[464];
} xcsr_error;

/* ---- handle.c ---------------------------------------------------------------------------------
 * xcsr_open: *out is the handle, owned by the caller until xcsr_close; on failure *out is NULL and
 * *why describes it. xcsr_close takes NULL; in a forked child it frees memory only. */
int xcsr_open(xcsr **out, xcsr_error *why);
void xcsr_close(xcsr *h);
const xcsr_error *xcsr_error_of(const xcsr *h);

/* ---- domain.c --------------------------------------------------------------------------------- */
typedef struct xcsr_domain {
    uint32_t domid;
    uint32_t hvm, paused, shutdown, shutdown_reason, dying;
    uint32_t max_vcpu_id, nr_online_vcpus;
    uint64_t tot_pages, max_pages, shared_info_mfn;
} xcsr_domain;

typedef struct xcsr_tsc {
    uint32_t mode, khz;
    uint64_t nsec;
    uint32_t incarnation, reserved;
} xcsr_tsc;

int xcsr_xen_version(xcsr *h, uint32_t *major, uint32_t *minor);
int xcsr_domain_info(xcsr *h, uint32_t domid, xcsr_domain *out); /* -ESRCH: no such domain */
int xcsr_domain_list(xcsr *h, uint32_t first, uint32_t max, xcsr_domain *out, uint32_t *nr);
int xcsr_domain_width(xcsr *h, uint32_t domid, uint32_t *nr_bytes);
int xcsr_domain_pause(xcsr *h, uint32_t domid);
int xcsr_domain_unpause(xcsr *h, uint32_t domid);
int xcsr_domain_destroy(xcsr *h, uint32_t domid);
int xcsr_domain_resume(xcsr *h, uint32_t domid); /* it goes on where it suspended itself; xenstored is told, too */
int xcsr_domain_shutdown(xcsr *h, uint32_t domid, uint32_t reason); /* a SHUTDOWN_* code: see xen/sched.h */
int xcsr_set_width(xcsr *h, uint32_t domid, uint32_t nr_bytes);
int xcsr_seed_grants(xcsr *h, uint32_t domid, uint64_t console_mfn, uint64_t store_mfn, uint32_t console_domid,
                     uint32_t store_domid, uint32_t hvm);

/* ---- tsc.c ------------------------------------------------------------------------------------- */
int xcsr_domain_tsc(xcsr *h, uint32_t domid, xcsr_tsc *out);
int xcsr_set_tsc(xcsr *h, uint32_t domid, const xcsr_tsc *tsc);

/* ---- scheduler.c: how much of the processors a domain may have ------------------------------------
 * sched: a XEN_SCHEDULER_* number. xcsr_scheduler: the host's; a domain in a cpupool of its own may have another one.
 * cap: percent of one processor, 0: no limit. -EOPNOTSUPP: that scheduler has no caps, or is not this domain's. Setting a
 * cap leaves the weight as it is. */
int xcsr_scheduler(xcsr *h, uint32_t *sched);
int xcsr_sched_get(xcsr *h, uint32_t domid, uint32_t sched, uint32_t *weight, uint32_t *cap);
int xcsr_sched_set_cap(xcsr *h, uint32_t domid, uint32_t sched, uint32_t cap);

/* ---- vcpu.c -----------------------------------------------------------------------------------
 * Blobs: *len is the capacity on entry and the size on return; 0 means there is nothing to save.
 * -ENOBUFS: too small, *len says what is needed. width: bytes in a word of the guest's, which its context goes by. */
int xcsr_vcpu_online(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t *online);
enum xcsr_vcpu_blob { XCSR_VCPU_BASIC, XCSR_VCPU_EXTENDED, XCSR_VCPU_XSAVE, XCSR_VCPU_MSRS };
int xcsr_vcpu_blob(xcsr *h, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which, uint32_t width, void *buf, size_t *len);
int xcsr_set_vcpu_basic(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t width, const void *data, size_t len);
int xcsr_set_vcpu_extended(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len);
int xcsr_set_vcpu_xsave(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len);
int xcsr_set_vcpu_msrs(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len);

/* ---- cpu_policy.c: both blobs in wire form, lengths as above ------------------------------------- */
int xcsr_cpu_policy(xcsr *h, uint32_t domid, void *leaves, size_t *leaves_len, void *msrs, size_t *msrs_len);

int xcsr_set_cpu_policy(xcsr *h, uint32_t domid, const void *leaves, size_t leaves_len, const void *msrs,
                        size_t msrs_len);

/* ---- hvm.c: HVM and PVH guests ------------------------------------------------------------------
 * nr_gpfns: one past the last gfn that has, or had, an entry in the physmap (XENMEM_maximum_gpfn + 1); the guest may
 * raise it at any time. pod_target: entries > 0 means that asking types or mapping may make Xen allocate memory, or kill the
 * guest. hvm_param: of an HVM_PARAM_* index, see xen/hvm/params.h. hvm_context: *len as with vcpu blobs, -ENOBUFS: the
 * buffer is too small, or the context has grown meanwhile; never empty. Where the guest has a PM timer (HVM, not PVH), each
 * time that the context is read this timer leaps by the time since the guest read it last (Xen's acpi_save): of a guest that
 * runs only the size, as much as may be needed, should be asked for. set_hvm_context: as it was given; the guest is paused,
 * and Xen checks what it is told. */
typedef struct xcsr_pod {
    uint64_t tot_pages, cache_pages, entries;
} xcsr_pod;

int xcsr_nr_gpfns(xcsr *h, uint32_t domid, uint64_t *nr);
int xcsr_pod_target(xcsr *h, uint32_t domid, xcsr_pod *out);
int xcsr_hvm_param(xcsr *h, uint32_t domid, uint32_t index, uint64_t *value);
int xcsr_set_hvm_param(xcsr *h, uint32_t domid, uint32_t index, uint64_t value);
int xcsr_hvm_context_size(xcsr *h, uint32_t domid, size_t *len);
int xcsr_hvm_context(xcsr *h, uint32_t domid, void *buf, size_t *len);
int xcsr_set_hvm_context(xcsr *h, uint32_t domid, const void *data, size_t len);

/* ---- xenstore.c -------------------------------------------------------------------------------
 * read: *len is capacity, then size; -ENOENT: no such node. list: the names of a node's children, each with
 * its NUL; *len and -ENOENT as for read, -ENOBUFS: *len says what is needed. swap: writes only if the node holds
 * what is expected, in one transaction; *done says whether. */
int xcsr_xenstore_read(xcsr *h, const char *path, void *buf, size_t *len);
int xcsr_xenstore_list(xcsr *h, const char *path, void *buf, size_t *len);
int xcsr_xenstore_write(xcsr *h, const char *path, const void *data, size_t len);
int xcsr_xenstore_swap(xcsr *h, const char *path, const void *expected, size_t expected_len,
                       const void *data, size_t len, uint32_t *done);

/* ---- foreign.c --------------------------------------------------------------------------------
 * map: read-only, all or nothing; released by xcsr_unmap with the same count. write_frame: within one page. clear: zeros. */
int xcsr_map(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *mfns, void **out);
int xcsr_unmap(xcsr *h, void *addr, uint64_t nr);
int xcsr_read_frames(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *mfns, void *out);
int xcsr_write_frame(xcsr *h, uint32_t domid, uint64_t mfn, uint64_t offset, const void *data, size_t len);
int xcsr_clear_frames(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *frames);
uint64_t xcsr_load64(const void *addr); /* one atomic read: the guest may be writing */
uint32_t xcsr_load32(const void *addr);
typedef struct xcsr_word { /* in a page, as in shared_info; naturally aligned */
    uint32_t offset, size; /* 4 or 8 bytes */
    uint64_t value;
} xcsr_word;
uint32_t xcsr_words_stay(const void *page, uint32_t nr, const xcsr_word *words); /* 1: all have these values; each is read once */

/* ---- m2p.c and p2m.c --------------------------------------------------------------------------
 * The m2p is mapped at first use and kept until close. nr_mfns: one past the machine's last frame. Xen is asked for it anew
 * by xcsr_nr_mfns and xcsr_pv_state, and when a PV guest's restore begins: -ERANGE if memory was added to the host.
 * xcsr_p2m_map maps the leaves of a guest whose words have width bytes (pte.h has the widths there are; -EOPNOTSUPP: not
 * this one); the guest goes on writing them. */
int xcsr_nr_mfns(xcsr *h, uint64_t *nr);
int xcsr_m2p_get(xcsr *h, uint64_t mfn, uint64_t *pfn);
int xcsr_p2m_map(xcsr *h, uint32_t domid, uint32_t width, uint64_t nr_pfns, uint64_t nr_leaves, const uint64_t *leaf_mfns,
                 xcsr_p2m **out);
void xcsr_p2m_unmap(xcsr_p2m *p);
int xcsr_nr_distinct(xcsr *h, uint64_t nr, const uint64_t *numbers, uint64_t *out); /* how many different ones; -ENOMEM */
/* The frames that nr page table entries of one level name. Returns the index of the first entry that is not present, is a
 * superpage, or names frame 0 or one from nr_mfns on; nr: there is none. */
uint64_t xcsr_pte_frames(uint64_t nr, const uint64_t *entries, uint64_t nr_mfns, uint32_t level, uint64_t *mfns);
int xcsr_p2m_leaf_pfns(xcsr_p2m *p, uint64_t *pfns); /* -ERANGE, XCSR_E_P2M: a leaf is not the guest's */
int xcsr_p2m_leaves_stay(xcsr_p2m *p, uint32_t *out);  /* after it: 1 if it would say the same again, without an error */
/* After it. -ERANGE, XCSR_E_P2M: a leaf is a page table, into which Xen would not let a restorer write. */
int xcsr_p2m_check_leaves(xcsr_p2m *p);
uint64_t xcsr_p2m_entry(const xcsr_p2m *p, uint64_t pfn);   /* raw; ~0 beyond the end */
int xcsr_p2m_pfn_of(const xcsr_p2m *p, uint64_t mfn, uint64_t *pfn); /* -ERANGE: not in the p2m */

/* From now on p maps what other mapped, and other, to be unmapped, what p did. Whoever holds p need not know. */
int xcsr_p2m_swap(xcsr_p2m *p, xcsr_p2m *other);

/* ---- pv_state.c --------------------------------------------------------------------------------
 * What a paused PV guest's stream ends with, in one call: the records of the TSC, shared_info and all
 * vcpus that are online, up to max_vcpu, as they stand in the stream, in pfns (vcpu_context.c).
 * shared_info: where the page is mapped. *len is the capacity, then the size. -ENOBUFS: too small.
 * -ERANGE, XCSR_E_STATE: vcpu index's field op names frame mfn, which is not the guest's. */
int xcsr_pv_state(xcsr *h, const xcsr_p2m *p2m, uint32_t domid, uint32_t max_vcpu, const void *shared_info, void *buf,
                  size_t *len);

/* ---- sink.c -----------------------------------------------------------------------------------
 * The caller keeps fd open, and keeps data alive until the write is over. Writes return XCSR_AGAIN
 * when the output has not taken all after wait_ms; xcsr_sink_flush goes on from there. */
int xcsr_sink_open(int fd, int wait_ms, xcsr_sink **out, xcsr_error *why);
void xcsr_sink_close(xcsr_sink *s);
/* Called before the first write, where the caller will fsync in the end. A regular file is then brought to the disk while
 * it is written, so that only some megabytes are left for the fsync; while a guest is paused, no write waits for the disk.
 * Room is asked for expected bytes, which must not be more than will be needed. Any other output: nothing changes. */
void xcsr_sink_durable(xcsr_sink *s, uint64_t expected);
uint64_t xcsr_sink_arrived(const xcsr_sink *s); /* bytes known to have reached the disk */
int xcsr_sink_write(xcsr_sink *s, const void *data, size_t len);
int xcsr_sink_flush(xcsr_sink *s);
uint64_t xcsr_sink_offset(const xcsr_sink *s); /* bytes accepted so far */
const xcsr_error *xcsr_sink_error(const xcsr_sink *s);
/* From now on at most so many bytes a second; 0: as many as the output takes. A write that must wait for that returns
 * XCSR_AGAIN after wait_ms or when a signal came, as it does when the output is slow. */
void xcsr_sink_limit(xcsr_sink *s, uint64_t bytes_per_second);
uint64_t xcsr_sink_held_us(const xcsr_sink *s); /* for how long that has kept writes waiting */
uint64_t xcsr_sink_waited_us(const xcsr_sink *s); /* for how long writes have waited for the output to take anything */
/* How many bytes the output holds before its reader has taken them; 0: it is neither a pipe nor a socket, or does not say.
 * What the kernel says of a socket is about twice as much, for its own bookkeeping (man 7 socket, SO_SNDBUF). */
uint64_t xcsr_sink_room(const xcsr_sink *s);

/* ---- bucket.c: pure, exported for tests --------------------------------------------------------
 * rate: bytes a second, 0: no limit, and never above XCSR_BUCKET_MAX. level: bytes that may be written at once; below
 * 0 more were than there should have been. wait: microseconds until something may be written, 0: now. */
#define XCSR_BUCKET_MAX 4398046511104
typedef struct xcsr_bucket {
    uint64_t rate;
    int64_t level;
    int64_t at_us; /* when it was filled up last */
} xcsr_bucket;
void xcsr_bucket_set(xcsr_bucket *b, uint64_t rate, int64_t now_us);
int64_t xcsr_bucket_wait(xcsr_bucket *b, int64_t now_us);
void xcsr_bucket_take(xcsr_bucket *b, uint64_t nr_bytes);

/* ---- save/: lifetime.c, logdirty.c, pass.c ------------------------------------------------------
 * p2m may be NULL (pfn == gfn, no page tables: HVM); it must outlive the save. */
typedef struct xcsr_batch_result {
    uint32_t done;       /* 1: the pass is over */
    uint32_t nr_batches; /* records, or attempts at one */
    uint64_t nr_pfns;    /* gone through: they have an entry, or are holes of which nothing has to be said */
    uint64_t nr_pages;   /* of them, those with data */
    uint64_t nr_holes;   /* the p2m's entry names no frame; without a p2m: Xen has no page there */
    uint64_t nr_deferred; /* sent without data although the guest has a page: to be sent again */
    uint64_t nr_tables;   /* page tables re-expressed in pfns */
    uint64_t nr_ahead;    /* batches that were mapped while the one before was written */
    uint64_t nr_bytes;      /* of the records */
    uint64_t next_pfn;    /* where the scan stands */
    uint64_t busy_us;     /* how long they took, but for: */
    uint64_t unmapping_us; /* for which a suspended guest does not wait */
} xcsr_batch_result;

int xcsr_save_new(xcsr *h, uint32_t domid, uint64_t nr_pfns, xcsr_p2m *p2m, xcsr_save **out);
void xcsr_save_free(xcsr_save *s); /* also gives up a batch half written, and ends log-dirty mode if this save began it */
uint64_t xcsr_save_nr_pfns(const xcsr_save *s);
/* What the stream says of a pfn, once a pass over all of them is over: whether it has a page. */
uint32_t xcsr_save_has_data(const xcsr_save *s, uint64_t pfn);
/* Pfns that went out as BROKEN, and have not gone out otherwise since: the first max of them; *nr counts all. */
int xcsr_save_broken(xcsr_save *s, uint64_t max, uint64_t *pfns, uint64_t *nr);
/* Ends log-dirty mode, whoever began it; no error if nobody did. *supported 0: Xen cannot track this domain's writes. */
int xcsr_logdirty_off(xcsr *h, uint32_t domid, uint32_t *supported);
int xcsr_logdirty_enable(xcsr_save *s, uint32_t *retried);
int xcsr_logdirty_disable(xcsr_save *s); /* no-op if this save did not enable it */
/* -ENODATA: somebody else has ended log-dirty mode meanwhile, so that what the guest has written is not known. */
int xcsr_logdirty_clean(xcsr_save *s, uint32_t final, uint64_t *dirty);
/* How many pfns Xen's bitmap names by now; they stay so. Only between passes: the marks of one may be gone afterwards. */
int xcsr_logdirty_count(xcsr_save *s, uint64_t *dirty);
int xcsr_mark_all(xcsr_save *s);
/* Adds to the bitmap all pfns whose last entry in the stream had data, or that have none yet; *marked: how many. */
int xcsr_mark_data(xcsr_save *s, uint64_t *marked);
/* *out is 1 if the bitmap, as it was fetched, names one of these frames of the guest's, or one of them has no pfn. */
int xcsr_written(xcsr_save *s, uint64_t nr, const uint64_t *mfns, uint32_t *out);
/* Adds to the bitmap the pfns whose last entry in the stream had no data but that have a frame now; without a p2m, those
 * that may have got a page since the bitmap before. Called once each time that the bitmap was fetched: holes are looked
 * at where it names the p2m's own pages. Where the p2m is not followed, -ERANGE as xcsr_p2m_check_leaves, of those pages. */
int xcsr_merge_deferred(xcsr_save *s, uint64_t *merged);
uint64_t xcsr_count_dirty(const xcsr_save *s);
uint64_t xcsr_count_runs(const xcsr_save *s); /* of marked pfns in a row */
/* Whether a second thread maps the next batch while one is written. Without this call it never does. MEASURED: where it
 * is worth it, see pace.h. ALWAYS: returns -errno if there can be no such thread, and the save goes on without it. */
enum xcsr_ahead { XCSR_AHEAD_NEVER, XCSR_AHEAD_ALWAYS, XCSR_AHEAD_MEASURED };
int xcsr_map_ahead(xcsr_save *s, enum xcsr_ahead how);
int xcsr_pass_begin(xcsr_save *s, uint32_t suspended);
/* From now on each pfn of a batch is looked at by itself, also where all is as usual: see ordinary.c. */
int xcsr_without_ordinary(xcsr_save *s);
int xcsr_with_holes(xcsr_save *s); /* without a p2m: each gfn without a page has an entry (holes.c) */
/* From now on pfns in a row whose frames are in a row are remembered (follow.c), and put into page tables (normalise.c), one
 * by one. */
int xcsr_without_rows(xcsr_save *s);
/* The guest was suspended in the midst of a live pass. What is left of the pass goes out as it would have, but no write waits
 * for the disk any more. */
int xcsr_paused(xcsr_save *s);
/* A suspended guest is about to run again, and the save goes on: lets go of all mappings, and pages may move again. */
int xcsr_goes_on(xcsr_save *s);
/* Dirty pfns, at most XCSR_BATCH a record: types, map, normalise, write. Goes on until the pass is over or
 * for_us have passed, but sends at least one record; *out: what was done since it returned 0 last. */
int xcsr_batches(xcsr_save *s, xcsr_sink *sink, uint32_t for_us, xcsr_batch_result *out);

/* ---- follow.c: a p2m that changes --------------------------------------------------------------
 * xcsr_follow is called before the first batch: from then on the save remembers what was sent of each pfn. -EOPNOTSUPP:
 * there is no p2m, or the machine is too large. xcsr_sweep is called once after each bitmap that is fetched: it
 * compares what was sent with what the p2m says now, and marks what must be sent again. final: the guest is suspended. Then
 * it looks only where the bitmap names the p2m's own pages, or these are others than before; and a frame of the guest's that
 * no pfn has by now is not about to get one. */
typedef struct xcsr_sweep_result {
    uint64_t pfns;     /* looked at */
    uint64_t marked;   /* added to the bitmap; the counts below include what was there already */
    uint64_t appeared; /* had no frame, or were never sent, and have one */
    uint64_t vanished; /* have none any more */
    uint64_t moved;    /* have another */
    uint64_t returned; /* in a page of the p2m that was written: may have gone and come back; not marked yet */
    uint64_t tables;   /* page tables that may refer to such pfns; not marked yet */
    uint64_t pages_written; /* pages of the p2m that were written, or are others */
} xcsr_sweep_result;

int xcsr_follow(xcsr_save *s);
int xcsr_sweep(xcsr_save *s, uint32_t final, xcsr_sweep_result *out);
/* ---- physmap.c: a guest without a p2m of its own ------------------------------------------------
 * Asks Xen of which gfns it has pages and marks those of which the stream says something else: what came, and what went.
 * From *from on, which it moves, until all were looked at or for_us have passed; not within a batch. In a pass over all
 * gfns those that it has not come to are not asked about, as it does that itself. What it marks is marked once more by
 * xcsr_merge_deferred when the next bitmap has been fetched: only from then on does Xen track what is written to a page
 * that came. -EINVAL for a save with a p2m. */
typedef struct xcsr_look_result {
    uint32_t done;     /* 1: all were looked at */
    uint32_t nr_calls; /* to Xen */
    uint64_t nr_asked; /* gfns */
    uint64_t appeared; /* sent as holes, or seen to have gone, and have a page now; each counts at one look */
    uint64_t vanished; /* sent with data, or seen to have come, and have no page any more; the same */
} xcsr_look_result;

/* Without a p2m: *nr_pages is how many pages the domain has. While it runs, xcsr_batches and xcsr_physmap_look return from
 * then on as soon as the number is another one, until this is called again. */
int xcsr_watch_pages(xcsr_save *s, uint64_t *nr_pages);
int xcsr_physmap_look(xcsr_save *s, uint64_t *from, uint32_t for_us, xcsr_look_result *out);

/* The save has so many pfns, if it had fewer; the new ones are marked. Not within a batch. */
int xcsr_save_grow(xcsr_save *s, uint64_t nr_pfns);

/* ---- ending.c: the end of a live save, in one call ------------------------------------------------
 * While the guest runs, xcsr_prepare_end is told what was learnt of it last. Once it is suspended, xcsr_end fetches the last
 * bitmap, merges and sweeps, sends the last pass, and writes before, the guest's state and last. It returns XCSR_AGAIN as
 * xcsr_batches does, after for_us, and once when the pass is over; the same call goes on from there. 0: *out says how far it has come. Less than
 * XCSR_END_COMPLETE: something is not as the plan says, and the caller goes on from there. -errno: of what was under way.
 * *out is all zero before the first call, and the caller's; the plan and all that it points at, too, until the save is
 * freed or prepared anew. plan NULL: forgets the former one. */
typedef struct xcsr_param { /* an HVM parameter */
    uint32_t index, reserved;
    uint64_t value; /* 0: not sent */
} xcsr_param;
typedef struct xcsr_end_plan {
    const void *shared_info; /* PV: where it is mapped. NULL: no p2m */
    const xcsr_word *words;  /* as the guest had set them when its p2m was looked at last. Looked at before anything is */
    uint32_t nr_words;       /* marked; the first nr_kept again before the pages and after them */
    uint32_t nr_kept;
    const uint64_t *tables; /* frames of the p2m's page tables: none of them may have been written */
    uint64_t nr_tables;
    uint32_t max_vcpu;
    uint32_t nr_params; /* without a p2m: all that a save asks for, in their order */
    const xcsr_param *params;
    const uint64_t *gfns; /* that must have a page */
    uint32_t nr_gfns, has_pm_timer; /* 1: a rehearsal does not read the HVM context, see xcsr_hvm_context */
    uint64_t tot_pages, max_pages; /* without a p2m: what the guest has, and may have */
    const void *before, *last;     /* records that follow the pages; those that follow the state */
    size_t before_len, last_len, room; /* room: for the state */
} xcsr_end_plan;
enum xcsr_end_reached {
    XCSR_END_NOTHING, /* the guest is not suspended */
    XCSR_END_FETCHED, /* the last bitmap is here */
    XCSR_END_SENT,    /* the pass is over */
    XCSR_END_COMPLETE /* the last byte is out */
};
typedef struct xcsr_end_result {
    uint32_t reached; /* enum xcsr_end_reached */
    uint32_t in_pass; /* 1: of an error, it came while pages were sent */
    uint64_t marked;  /* pfns that the pass has to send, all or so far; 0: not counted yet */
    xcsr_sweep_result sweep;
    xcsr_batch_result batches;
    uint64_t complete_at; /* the stream's length when it is complete; 0: not known yet */
    uint64_t began_us;    /* when the bitmap was asked for, by CLOCK_MONOTONIC; all below: how long things took */
    uint64_t fetch_us;    /* until all was marked */
    uint64_t sweep_us;
    uint64_t pass_us, held_us; /* held_us: of it, for the bandwidth's sake */
} xcsr_end_result;

int xcsr_prepare_end(xcsr_save *s, const xcsr_end_plan *plan);
/* While the guest runs: of xcsr_end, as prepared, what sends and changes nothing, so that the caller learns how long it
 * takes. with_bitmap: the bitmap is read, too, and stays in Xen; the marks of the pass before are gone afterwards. It returns
 * XCSR_AGAIN where xcsr_end does when the pass is over. -errno: of what failed. It is prepared as before in any case.
 * In the pass's place as many pages as *trial asks for, but no more than XCSR_TRIAL, are mapped and read, or written to a
 * pipe that is made for it; it says then of how many that is true, and how long that took. */
#define XCSR_TRIAL 64
typedef struct xcsr_trial {
    uint32_t nr_pages; /* 0: none */
    uint32_t to_pipe;
    uint64_t us;     /* of what a pass does with them */
    uint64_t all_us; /* with what is done for the trial only */
} xcsr_trial;
int xcsr_rehearse_end(xcsr_save *s, uint32_t with_bitmap, xcsr_trial *trial);
int xcsr_end(xcsr_save *s, xcsr_sink *sink, uint32_t for_us, xcsr_end_result *out);

/* ---- measure/meter.c: what a guest writes, without saving it -------------------------------------
 * A meter has XCSR_METER_SETS sets of pfns, all empty at first. xcsr_meter_fetch and _peek fill set 0; the others are made
 * of sets by xcsr_meter_join. A set that stays empty takes next to no memory. -EINVAL: there is no such set. */
typedef struct xcsr_meter xcsr_meter;
#define XCSR_METER_SETS 32
enum xcsr_meter_how { XCSR_METER_COPY, XCSR_METER_ADD, XCSR_METER_COMMON };

int xcsr_meter_new(xcsr *h, uint32_t domid, uint64_t nr_pfns, xcsr_meter **out);
void xcsr_meter_free(xcsr_meter *m); /* ends log-dirty mode if this meter began it */
/* Log-dirty mode on. -EINVAL: it is on already, by whomever, or there are PCI devices. */
int xcsr_meter_begin(xcsr_meter *m);
int xcsr_meter_end(xcsr_meter *m); /* no-op if this meter did not begin it */
/* Log-dirty mode is somebody else's from now on: this meter will not end it. */
void xcsr_meter_leave(xcsr_meter *m);
/* Set 0 is what was written since it was fetched last, and Xen's bitmap is clear. *dirty: how many pfns that are.
 * -ENODATA: somebody else has ended log-dirty mode meanwhile; it is on again, and this meter's. */
int xcsr_meter_fetch(xcsr_meter *m, uint64_t *dirty);
/* The same, but Xen's bitmap stays as it is, and it is not noticed if log-dirty mode is off. */
int xcsr_meter_peek(xcsr_meter *m, uint64_t *dirty);
/* into becomes from, from and into, or what both have; *count: how many pfns that are. */
int xcsr_meter_join(xcsr_meter *m, uint32_t from, uint32_t into, enum xcsr_meter_how how, uint64_t *count);
int xcsr_meter_clear(xcsr_meter *m, uint32_t set);
/* counts[i]: how many pfns of the set are from i * per_range on, below (i + 1) * per_range. -EINVAL unless per_range is a
 * multiple of 64 and the ranges cover all pfns. */
int xcsr_meter_spread(xcsr_meter *m, uint32_t set, uint64_t per_range, uint32_t nr_ranges, uint64_t *counts);

/* ---- bitmap.c: pure, exported for tests ------------------------------------------------------- */
uint64_t xcsr_bitmap_count(const uint64_t *words, uint64_t nr_words);
/* Pfns of set bits from *cursor on, at most max, never at or beyond nr_bits; moves *cursor.
 * All of pfns[0 ... max - 1] may be written to. */
uint32_t xcsr_bitmap_scan(const uint64_t *words, uint64_t nr_bits, uint64_t *cursor, uint64_t *pfns,
                          uint32_t max);
void xcsr_bitmap_fill(uint64_t *words, uint64_t nr_bits);
/* Which instructions the two above use: the best that the processor has, unless a test says otherwise.
 * -ENOTSUP: it does not have these. */
enum xcsr_bitmap_way { XCSR_BITMAP_BEST, XCSR_BITMAP_PLAIN, XCSR_BITMAP_BMI, XCSR_BITMAP_AVX2 };
int xcsr_bitmap_use(enum xcsr_bitmap_way way);

/* ---- normalise.c: pure, exported for tests ----------------------------------------------------
 * table: 512 entries, replaced in place by pfns. 0; -EAGAIN an entry's frame is not in the p2m;
 * -E2BIG a superpage; *slot names the entry, *mfn its frame. one_by_one: entries in a row are not taken at once, which is
 * the obvious way; what comes of it is the same. */
int xcsr_normalise(const xcsr_p2m *p, uint32_t level, uint32_t one_by_one, uint64_t *table, uint32_t *slot, uint64_t *mfn);

/* ---- source.c ---------------------------------------------------------------------------------
 * The caller keeps fd open. Reads return XCSR_AGAIN when nothing has come for wait_ms, or not all by then; the same call
 * again goes on from there. Never reads beyond what is asked for. */
int xcsr_source_open(int fd, int wait_ms, xcsr_source **out, xcsr_error *why);
void xcsr_source_close(xcsr_source *s);
int xcsr_source_read(xcsr_source *s, void *buf, size_t len);
uint64_t xcsr_source_offset(const xcsr_source *s); /* bytes taken so far */
const xcsr_error *xcsr_source_error(const xcsr_source *s);

/* ---- restore/ ------------------------------------------------------------------------------------
 * A domain being built. limit: pfns it may ever have. width: bytes in a word of a PV guest's, 0: translated. PV: its p2m
 * is here, by pfn, and grows with xcsr_restore_grow.
 * translated (HVM): pfn == gfn, Xen keeps the p2m; any gfn below limit may have an entry, and there are no page tables.
 * Whole aligned runs of 512 get a page of 2 MiB where Xen has one, also if a record ends within them (row.c).
 * Memory is nine bytes a pfn, or one, touched only where there is something. */
typedef struct xcsr_page_result {
    uint32_t nr_entries, nr_pages, nr_tables, nr_populated;
    uint64_t nr_differing; /* compare mode: pages that are not what the guest has */
    uint64_t first_differing;
} xcsr_page_result;

int xcsr_restore_new(xcsr *h, uint32_t domid, uint64_t limit, uint32_t width, xcsr_restore **out);
void xcsr_restore_free(xcsr_restore *r);
int xcsr_restore_without_rows(xcsr_restore *r); /* translated: memory is given for what a record names, never ahead */
int xcsr_restore_grow(xcsr_restore *r, uint64_t nr_pfns); /* no-op if not larger; -E2BIG beyond limit */
void xcsr_restore_compare(xcsr_restore *r, uint32_t on);  /* from here on pages are compared, not written */
/* The body of one PAGE_DATA record of length bytes, read from src straight into the guest. */
int xcsr_restore_pages(xcsr_restore *r, xcsr_source *src, uint64_t length, xcsr_page_result *out);
uint64_t xcsr_restore_nr_pfns(const xcsr_restore *r); /* see xcsr_restore_grow; translated: past the last that had an entry */
uint64_t xcsr_restore_mfn(const xcsr_restore *r, uint64_t pfn);  /* ~0: no memory */
uint32_t xcsr_restore_type(const xcsr_restore *r, uint64_t pfn); /* as sent last; XTAB if never */
uint32_t xcsr_restore_has_data(const xcsr_restore *r, uint64_t pfn);
/* Every frame that a page table refers to must have been sent with data: -ENOENT names the first
 * that was not (pfn: the table, level, index, mfn: the missing pfn), *missing counts them all. */
int xcsr_restore_check_tables(xcsr_restore *r, uint64_t *missing);
/* After it: pages that were last sent as BROKEN, and have memory because a PV guest's page tables name them, are filled with
 * zeroes. *cleared counts them, *first is the first one's pfn. */
int xcsr_restore_clear_broken(xcsr_restore *r, uint64_t *cleared, uint64_t *first);
/* The guest has so many pfns and no more: what was sent of others counts as gone. */
int xcsr_restore_cut(xcsr_restore *r, uint64_t nr_pfns);
/* Takes the memory of pfns whose last entry says that they have none. Only after xcsr_restore_check_tables:
 * nothing refers to them. *given: pages taken back by Xen. */
int xcsr_restore_give_back(xcsr_restore *r, uint64_t *given);
/* What the entries of a checkpoint's next record, which was checked, will say: to be told of each, in their order, and
 * before any of them is put in. */
int xcsr_restore_foretell(xcsr_restore *r, const uint64_t *entries, uint64_t nr);
/* Takes the memory of pfns of which the last word will be that they have none, so that there is room for those that come:
 * the domain may be at its limit, and its guest never owned both. Not of those that a page table names that will not come.
 * *given: as above. */
int xcsr_restore_make_room(xcsr_restore *r, uint64_t *given);
/* A checkpoint is whole, and its tables are not checked: as xcsr_restore_give_back, but not what a page table names. */
int xcsr_restore_give_unnamed(xcsr_restore *r, uint64_t *given);
/* A vcpu's vcpu_guest_context, of the restore's width, from pfns to frames, in place, and online. XCSR_E_CONTEXT: context is half done. */
int xcsr_restore_context(xcsr_restore *r, uint32_t vcpu, void *context, size_t len);
int xcsr_restore_pin(xcsr_restore *r, uint64_t *pinned);
/* Writes the p2m into the guest's own list: leaf_pfns[i] holds the i-th page of entries. */
int xcsr_restore_write_p2m(xcsr_restore *r, const uint64_t *leaf_pfns, uint64_t nr_leaves);

#endif
