/* Raw libxc save of a PV domain, without libxl's wrapping, and small queries.
 *
 *   xcpeer save DOMID FILE [live] [debug] [resume] [-v]
 *        libxenguest's own xc_domain_save; "resume" lets the guest go on after it
 *   xcpeer info DOMID
 *        what the guest's shared info page and the p2m list's head say
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xenguest.h>
#include <xenstore.h>

static xc_interface *xch;
static struct xs_handle *xs;
static uint32_t domid;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* xc_domain_getinfo is gone since 4.18, xc_domain_getinfo_single new in it */
static int getinfo(xc_domaininfo_t *i)
{
    return xc_domain_getinfolist(xch, domid, 1, i) == 1 && i->domain == domid;
}

static int is_shutdown(const xc_domaininfo_t *i)
{
    return !!(i->flags & XEN_DOMINF_shutdown);
}

static unsigned shutdown_reason(const xc_domaininfo_t *i)
{
    return (i->flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
}

static double suspended_at;

static int on_suspend(void *data)
{
    char path[64];
    double t0 = now();
    xc_domaininfo_t was;
    if (getinfo(&was) && is_shutdown(&was)) {   /* suspended before: to ask again would suspend it twice */
        suspended_at = t0;
        return shutdown_reason(&was) == SHUTDOWN_suspend;
    }
    snprintf(path, sizeof path, "/local/domain/%u/control/shutdown", domid);
    if (!xs_write(xs, XBT_NULL, path, "suspend", 7)) {
        perror("xs_write");
        return 0;
    }
    while (now() - t0 < 120) {
        xc_domaininfo_t i;
        if (getinfo(&i) && is_shutdown(&i)) {
            suspended_at = now();
            fprintf(stderr, "xcpeer: suspended after %.3f s, reason %u\n",
                    suspended_at - t0, shutdown_reason(&i));
            return shutdown_reason(&i) == SHUTDOWN_suspend;
        }
        usleep(2000);
    }
    return 0;
}

static int on_precopy(struct precopy_stats stats, void *data)
{
    fprintf(stderr, "xcpeer: precopy iteration %u total %lu dirty %ld at %.3f\n",
            stats.iteration, stats.total_written, stats.dirty_count, now());
    if (stats.dirty_count >= 0 && (stats.dirty_count < 50 || stats.iteration >= 5))
        return XGS_POLICY_STOP_AND_COPY;
    return XGS_POLICY_CONTINUE_PRECOPY;
}

/* Sends one command to the device model, if there is one, and waits for its answer. */
static int qmp(const char *command)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char line[4096] = "";
    int answers = 0, fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "/run/xen/qmp-libxl-%u", domid);
    if (connect(fd, (void *)&to, sizeof to)) {
        close(fd);
        return errno == ENOENT ? 0 : -1;
    }
    FILE *in = fdopen(fd, "r");
    dprintf(fd, "{\"execute\": \"qmp_capabilities\"}\n");
    while (answers < 2 && fgets(line, sizeof line, in))
        if (!strncmp(line, "{\"return\"", 9) || !strncmp(line, "{\"error\"", 8))
            if (++answers == 1)
                dprintf(fd, "%s\n", command);
    fclose(in);
    fprintf(stderr, "xcpeer: %s: %s", command, line);
    return answers == 2 && line[2] == 'r' ? 0 : -1;
}

static int on_logdirty(uint32_t dom, unsigned enable, void *data)
{
    return qmp(enable ? "{\"execute\": \"xen-set-global-dirty-log\", \"arguments\": {\"enable\": true}}"
                      : "{\"execute\": \"xen-set-global-dirty-log\", \"arguments\": {\"enable\": false}}");
}

static int info(void)
{
    xc_domaininfo_t i;
    if (!getinfo(&i))
        return 1;
    printf("domid %u hvm %u vcpus %u nr_pages %lu max_memkb %lu shutdown %u reason %u shared_info_frame %#lx\n",
           i.domain, !!(i.flags & XEN_DOMINF_hvm_guest), i.max_vcpu_id + 1, i.tot_pages,
           i.max_pages * 4, is_shutdown(&i), shutdown_reason(&i), i.shared_info_frame);
    xen_pfn_t frame = i.shared_info_frame;
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    shared_info_t *s = xenforeignmemory_map(fmem, domid, PROT_READ, 1, &frame, NULL);
    if (!s)
        return 1;
    printf("max_pfn %#lx fll_mfn %#lx p2m_cr3 %#lx p2m_vaddr %#lx p2m_generation %lu\n",
           s->arch.max_pfn, s->arch.pfn_to_mfn_frame_list_list, s->arch.p2m_cr3,
           s->arch.p2m_vaddr, s->arch.p2m_generation);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 64;
    domid = atoi(argv[2]);
    int verbose = !strcmp(argv[argc - 1], "-v");
    xentoollog_logger *log = (void *)xtl_createlogger_stdiostream(
        stderr, verbose ? XTL_DEBUG : XTL_WARN, 0);
    xch = xc_interface_open(log, log, 0);
    xs = xs_open(0);
    if (!xch || !xs) {
        perror("open");
        return 1;
    }
    if (!strcmp(argv[1], "info"))
        return info();
    if (strcmp(argv[1], "save") || argc < 4)
        return 64;
    uint32_t flags = 0;
    int resume = 0;
    for (int i = 4; i < argc; i++) {
        if (!strcmp(argv[i], "live"))
            flags |= XCFLAGS_LIVE;
        if (!strcmp(argv[i], "debug"))
            flags |= XCFLAGS_DEBUG;
        if (!strcmp(argv[i], "resume"))
            resume = 1;
    }
    struct save_callbacks cb = {
        .suspend = on_suspend, .precopy_policy = on_precopy, .switch_qemu_logdirty = on_logdirty,
    };
    int fd = strcmp(argv[3], "-") ? open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0600) : 1;
    if (fd < 0) {
        perror(argv[3]);
        return 1;
    }
    double t0 = now();
    int rc = xc_domain_save(xch, fd, domid, flags, &cb, XC_STREAM_PLAIN, -1);
    int err = errno;
    double t1 = now();
    fprintf(stderr, "xcpeer: xc_domain_save rc %d errno %d in %.3f s, paused part %.3f s, %ld bytes\n",
            rc, rc ? err : 0, t1 - t0, suspended_at ? t1 - suspended_at : 0.0,
            (long)lseek(fd, 0, SEEK_CUR));
    if (resume && suspended_at) {
        int r = xc_domain_resume(xch, domid, 1);
        xs_resume_domain(xs, domid);
        fprintf(stderr, "xcpeer: xc_domain_resume %d\n", r);
    }
    return rc != 0;
}
