# libvirt.sh [GUEST] [keep]: libvirt's libxl driver, with pyxcsr-save-helper in its daemon's environment, on Debian's packages,
# which the payload has as files: virsh save, restore, managedsave and migrate, the settings file, and saves that are ended. A second
# daemon, in a mount namespace of its own, is the other end of migrations. "keep" leaves a save file in /out.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
g=${1:-pulse} name=${1:-pulse}
other=/tmp/other file=/var/tmp/$name.libvirt
here=xen:///system
there="xen+unix:///system?socket=$other/run/libvirt-sock"
logs_here=/var/log/libvirt/libxl logs_there=$other/log/libxl
done_line='pyxcsr: .*domain [0-9]+: [0-9]+'
restored_line='pyxcsr: .*domain [0-9]+: restored'

# There is no systemd and no user for the daemon here: the files alone will do, and of its drivers the one for Xen. /lib is a
# symbolic link, which dpkg-deb -x would replace.
unpack() {
    local deb
    for deb in $(find /payload -maxdepth 2 -name '*.deb'); do
        case ${deb##*/} in systemd* | libpam-systemd* | dbus* | polkitd* | *driver-qemu*) continue ;; esac
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C / || return 1
    done
    ldconfig
    # The emulated processor has not all flags of any model that libvirt knows (no VME, and on AMD's no SEP under Xen), and then
    # its daemon ends at once: the smallest model is made smaller.
    sed -i "/name='vme'/d" /usr/share/libvirt/cpu_map/x86_486.xml
    find /usr/lib/x86_64-linux-gnu/libvirt/connection-driver -name '*.so' ! -name '*libxl*' -delete
    virsh --version
}
settings() { # settings FOLDER: libvirtd.conf
    printf 'auth_unix_rw = "none"\nauth_unix_ro = "none"\nunix_sock_group = "root"\nlog_outputs = "2:file:%s/libvirtd.log"\n' "$1"
    printf 'log_level = 2\n'    # which is libxl's, too: the line that the helper ends with is of level info
    printf 'host_uuid = "%s"\n' "$(cat /proc/sys/kernel/random/uuid)"
}
answers() { # answers URI LOG: the daemon there has begun its work
    for _ in $(seq 150); do virsh -c "$1" list >/dev/null 2>&1 && return; sleep 0.2; done
    virsh -c "$1" list; tail -n 20 "$2"; return 1
}
first_daemon() {
    mkdir -p /out/first
    settings /out/first >/etc/libvirt/libvirtd.conf
    env LIBXL_SAVE_HELPER="$helper" PYXCSR_RESUME=yes libvirtd --daemon    # as the drop-in has it
    answers $here /out/first/libvirtd.log
}
second_daemon() {
    local way mounts=
    mkdir -p /out/second $other/etc
    cp -r /etc/libvirt/. $other/etc/
    rm -rf $other/etc/libxl     # the guests that are defined here
    settings /out/second >$other/etc/libvirtd.conf
    for way in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt run:/run/libvirt; do
        mkdir -p "$other/${way%%:*}" "${way#*:}"
        mounts="$mounts mount --bind $other/${way%%:*} ${way#*:} &&"
    done
    unshare -m sh -c "$mounts exec env LIBXL_SAVE_HELPER=$helper PYXCSR_RESUME=yes libvirtd --daemon --pid-file /run/libvirt/second.pid"
    answers "$there" /out/second/libvirtd.log
}
logged() { # logged PATTERN [FOLDER]: what the driver has noted since `quiet`; it has a file of its own, and one a domain
    grep -ahE -- "$1" "${2:-$logs_here}"/*.log || { echo "nothing like: $1"; tail -n 20 "${2:-$logs_here}"/*.log; return 1; }
}
quiet() { # the daemons append to these
    local file
    for file in $logs_here/*.log; do [ ! -e "$file" ] || { cat "$file" >>"/out/first/${file##*/}"; : >"$file"; }; done
    for file in $logs_there/*.log; do [ ! -e "$file" ] || { cat "$file" >>"/out/second/${file##*/}"; : >"$file"; }; done
}
conf() { printf '%s\n' "$@" >/etc/pyxcsr.conf; }
show() { sed 's/^/    /' /tmp/step | tail -n "${1:-6}"; }
on() { step "  the guest goes on, memory clean" goes_on; show 3; }
saved() { quiet; virsh -c $here "$@" && gone && logged "$done_line"; }
ended() { # ended PATTERN COMMAND...: it fails, the driver's log says why, and the guest is the same domain and runs
    local pattern=$1 was; shift; was=$(domid); quiet
    ! "$@" || { echo "it succeeded"; return 1; }
    logged "$pattern" || return 1
    [ "$(domid)" = "$was" ] || { echo "another domain"; return 1; }
    sleep 1; xl list "$g"
    case $(state) in *s* | *p*) echo "left suspended or paused: virsh says $(virsh -c $here domstate "$g")"; return 1 ;; esac
}
let_go() { # what an operator does then
    case $(state) in
    *s* | *p*)
        say "     the guest stands: $(state); virsh resume: $(virsh -c $here resume "$g" 2>&1 | tr '\n' ' ') and then: $(state)"
        case $(state) in *s* | *p*) step "  pyxcsr recover lets it go on" pyxcsr recover "$(domid)"; show ;; esac
        ;;
    esac
}
migrate() { virsh -c $here migrate --live "$@" "$name" "$there" --dname "$name-there" --migrateuri tcp://127.0.0.1; }
moved() { # the guest runs there, under its other name, and the other daemon's log has the restore
    local was; was=$(domid); quiet
    migrate "$@" || return 1
    g=$name-there
    [ "$(domid)" != "$was" ] && ! xl domid "$name" && virsh -c "$there" domstate "$g" && logged "$done_line.*paused" &&
        logged "$restored_line" $logs_there
}
cancelled() { # while virsh does it, `pyxcsr cancel` ends it
    conf '[guests]' 'bandwidth = 8M' 'bandwidth_while_paused = yes'
    (for _ in $(seq 60); do pyxcsr cancel "$name"; [ $? != 2 ] && break; sleep 0.1; done) >/tmp/cancel 2>&1 & # 2: none yet
    "$@"; local status=$?
    wait $!; tail -n 2 /tmp/cancel; rm /etc/pyxcsr.conf
    return $status
}

needed "libvirt's packages" unpack; show 1
needed "its daemon, with the helper in its environment" first_daemon
needed "the guest's XML" sh -c "virsh -c $here domxml-from-native xen-xl /lab/$g.cfg >/out/$g.xml"
needed "virsh define" virsh -c $here define "/out/$g.xml"
needed "virsh start" virsh -c $here start "$g"
needed "heartbeat" goes_on

step "virsh save" saved save "$g" "$file"; show 2
step "  pyxcsr verify takes the file" pyxcsr verify "$file"; show 2
[ "$2" != keep ] || zstd -q -T0 -f "$file" -o "/out/$g.libvirt.zst"
quiet
step "virsh restore" virsh -c $here restore "$file"
step "  by our helper" logged "$restored_line"; show 1; on
rm -f "$file"

conf '[guests]' 'bandwidth = fast'
step "a settings file that is wrong ends virsh save" ended 'pyxcsr.conf, line 2' virsh -c $here save "$g" "$file"; show; let_go; on
rm -f /etc/pyxcsr.conf
step "managedsave, cancelled" ended 'pyxcsr|ancel' cancelled virsh -c $here managedsave "$g"; show 12; let_go; on
step "managedsave" saved managedsave "$g"; show 2
quiet
step "virsh start, which restores it" virsh -c $here start "$g"
step "  by our helper" logged "$restored_line"; show 1; on

if [ "$live" = --live ] || [ "$g" != pulse ]; then
    needed "a second daemon" second_daemon
    conf '[guests]' 'bandwidth = 8M' "[guest $g]" 'timeout = 2s'
    step "virsh migrate, with a timeout in the settings file: ended" ended 'timeout' migrate; show; let_go; on
    conf '[guests]' 'max_downtime = 2s'
    step "virsh migrate --live" moved; show; on
else
    left_out "virsh migrate"
fi
[ "$2" != keep ] || {   # what libvirt says of what it cannot do
    for words in "domjobabort $g" "domjobinfo $g" "migrate-setmaxdowntime $g 100" "migrate-setspeed $g 10"; do
        echo "--- virsh $words"; virsh -c $here $words; virsh -c "$there" $words
    done
    quiet; tail -n 30 /out/first/libvirtd.log /out/second/libvirtd.log
} 2>&1
finish
