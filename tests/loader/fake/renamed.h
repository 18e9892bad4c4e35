/* Included before everything else by the stub hypervisor, and by the core of the module that makes its guests: what a
 * release of libxenctrl has in another form goes by another name, so that a file beside this one can give it the form of
 * that release. */
#define xc_memory_op stub_form_memory_op
#define xc_shadow_control stub_form_shadow_control
#define xc_logdirty_control stub_form_logdirty_control
#define xc_domain_getinfolist stub_form_getinfolist
#define xc_cpu_policy_init stub_form_policy_init
#define xc_cpu_policy_destroy stub_form_policy_destroy
#define xc_cpu_policy_get_size stub_form_policy_get_size
#define xc_cpu_policy_get_domain stub_form_policy_get_domain
#define xc_cpu_policy_serialise stub_form_policy_serialise
