# save.sh [GUEST]: pyxcsr save, live and not, of a guest that keeps writing; the streams
# pass both verifiers, the guest goes on, and unmodified `xl restore` brings them back.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
needed "its configuration" xlwrap config "$(domid)" /tmp/c.json
mkdir /tmp/s

accepted() { # accepted FILE: by Xen's verifier and by ours
    step "verify-stream-v2 accepts it" verify-stream-v2 -i "$1"
    step "pyxcsr verify accepts it" pyxcsr verify "$1"
}
saved() { # saved LIVE REPORT-FILE ARGUMENT... : pyxcsr save, its --json report checked
    local live=$1 report=$2; shift 2
    pyxcsr save "$@" --json >"$report" && python3 "$real/report.py" "$live" "$report"
}

needed "pyxcsr save --live" saved live /tmp/a.json --live "$g" /tmp/s/a.raw
cat /tmp/step
step "the guest goes on" goes_on
accepted /tmp/s/a.raw

needed "pyxcsr save --live --then destroy" saved live /tmp/b.json --live --then destroy "$g" /tmp/s/b.raw
step "the guest is gone" gone
accepted /tmp/s/b.raw
needed "xl restore of it" restore_raw /tmp/s/b.raw /tmp/c.json
step "the guest goes on, memory clean" goes_on
rm /tmp/s/b.raw

needed "pyxcsr save --no-live --then pause" saved no-live /tmp/n.json --no-live --then pause "$g" /tmp/s/n.raw
step "the guest stands" stands
accepted /tmp/s/n.raw
xl destroy "$g"
needed "xl restore of it" restore_raw /tmp/s/n.raw /tmp/c.json
step "the guest goes on, memory clean" goes_on
rm /tmp/s/n.raw

needed "pyxcsr save --no-live" saved no-live /tmp/m.json --no-live "$g" /tmp/s/m.raw
step "the guest goes on" goes_on
xl destroy "$g"; forget
needed "xl restore of the first image, older than what the guest did since" restore_raw /tmp/s/a.raw /tmp/c.json
step "the guest goes on, memory clean" goes_on
rm /tmp/s/a.raw /tmp/s/m.raw
step "nothing left behind" nothing_in /tmp/s
finish
