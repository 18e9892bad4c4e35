/* Reasons for which a domain has shut down (Xen public interface). See ../README. */
#ifndef XCSR_ABI_XEN_SCHED_H
#define XCSR_ABI_XEN_SCHED_H

#define SHUTDOWN_poweroff   0
#define SHUTDOWN_reboot     1
#define SHUTDOWN_suspend    2
#define SHUTDOWN_crash      3
#define SHUTDOWN_watchdog   4
#define SHUTDOWN_soft_reset 5
#define SHUTDOWN_MAX        5

#endif
