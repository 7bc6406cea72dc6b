# Checks of SELinux's labels, by a policy that is made for them: all is allowed but one thing. Read by checks.sh.
# vm-modes: full
# vm-programs: checkpolicy
# vm-cmdline: security=selinux selinux=1 enforcing=0
# shellcheck shell=sh

label=system_u:system_r:container_t:s0:c1,c2
mount_label=system_u:object_r:container_file_t:s0:c1,c2

# The classes of the kernel's that the policy is about; what it does not know is allowed. A type for the guest, one for containers and one for their files, and
# a type of files that containers may not read.
selinux_policy() {
    classes='process process2 file dir lnk_file chr_file blk_file sock_file fifo_file filesystem'
    for class in $classes; do echo "class $class"; done
    for sid in kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet icmp_socket tcp_socket sysctl_modprobe \
        sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm sysctl_dev kmod policy scmp_packet devnull; do echo "sid $sid"; done
    files='read write open getattr execute execute_no_trans entrypoint create unlink append setattr ioctl mounton map lock relabelfrom relabelto'
    for class in $classes; do
        case $class in
        process) echo 'class process { fork transition dyntransition setexec setcurrent setkeycreate siginh rlimitinh noatsecure getattr }' ;;
        # Who has no new privileges may take another label all the same.
        process2) echo 'class process2 { nnp_transition nosuid_transition }' ;;
        dir) echo "class dir { $files search add_name remove_name rmdir }" ;;
        filesystem) echo 'class filesystem { mount remount unmount getattr relabelfrom relabelto associate }' ;;
        *) echo "class $class { $files }" ;;
        esac
    done
    cat <<'END'
sensitivity s0;
dominance { s0 }
category c0; category c1; category c2; category c3;
level s0:c0.c3;
mlsconstrain file { read } (h1 dom l2);
policycap nnp_nosuid_transition;
attribute everything;
type guest_t, everything;
type container_t, everything;
type container_file_t, everything;
type secret_t, everything;
role system_r;
role system_r types { guest_t container_t container_file_t secret_t };
END
    for class in $classes; do
        echo "allow { guest_t container_file_t secret_t } everything:$class *;"
        case $class in
        file) echo 'allow container_t { guest_t container_t container_file_t }:file *;' ;;
        *) echo "allow container_t everything:$class *;" ;;
        esac
    done
    echo 'user system_u roles { system_r } level s0 range s0 - s0:c0.c3;'
    for sid in kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet icmp_socket tcp_socket sysctl_modprobe \
        sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm sysctl_dev kmod policy scmp_packet devnull; do
        echo "sid $sid system_u:system_r:guest_t:s0 - s0:c0.c3"
    done
    echo 'fs_use_xattr ext4 system_u:object_r:guest_t:s0;'
    echo 'fs_use_trans tmpfs system_u:object_r:guest_t:s0;'
    echo 'fs_use_trans devpts system_u:object_r:guest_t:s0;'
    echo 'fs_use_task pipefs system_u:object_r:guest_t:s0;'
    echo 'fs_use_task sockfs system_u:object_r:guest_t:s0;'
    for name in proc sysfs cgroup2 selinuxfs rootfs devtmpfs; do echo "genfscon $name / system_u:object_r:guest_t:s0"; done
}

selinux_is_on() {
    mount -t selinuxfs selinuxfs /sys/fs/selinux
    selinux_policy >/tmp/policy.conf
    checkpolicy -M -U allow -c 31 -o /tmp/policy /tmp/policy.conf
    # In one write, which dd makes it.
    dd if=/tmp/policy of=/sys/fs/selinux/load bs=1M 2>/dev/null
    echo 1 >/sys/fs/selinux/enforce
    holds "$(cat /proc/self/attr/current)" system_u:system_r:guest_t:s0
}

# bundle() with the labels. usage: labelled_bundle NAME RESOURCES SCRIPT
labelled_bundle() {
    process="\"selinuxLabel\": \"$label\"," linux="\"mountLabel\": \"$mount_label\"," bundle "$@"
}

selinux_labels_a_program_and_its_mounts() {
    labelled_bundle labelled '' 'cat /proc/self/attr/current; echo; grep " /tmp \| /dev " /proc/mounts; echo x >/tmp/file; ls -Z /tmp/file 2>/dev/null; exit 0'
    said=$(rt run --bundle /data/bundles/labelled labelled)
    holds "$said" "$label"
    # Both tmpfs, and what their files are is theirs.
    [ "$(echo "$said" | grep -c "context=\"\?$mount_label")" = 2 ] || fail "$said"
    # Root of its own user namespace, too.
    said=$(namespaces='{ "type": "user" },' process="\"selinuxLabel\": \"$label\"," linux="\"mountLabel\": \"$mount_label\", \"uidMappings\": [{ \"containerID\": 0, \"hostID\": 100000, \"size\": 65536 }],
        \"gidMappings\": [{ \"containerID\": 0, \"hostID\": 100000, \"size\": 65536 }]," contain mapped '' 'cat /proc/self/attr/current; echo; exit 0' 2>&1) || fail "$said"
    holds "$said" "$label"
}

selinux_confines_a_program() {
    mkdir -p /data/files/hidden
    mount -t tmpfs -o context=system_u:object_r:secret_t:s0 tmpfs /data/files/hidden
    echo secret words >/data/files/hidden/file
    labelled_bundle confined '' 'cat /var/www/hidden/file; echo ended'
    said=$(rt run --bundle /data/bundles/confined confined 2>&1)
    bundle free '' 'cat /var/www/hidden/file'
    free=$(rt run --bundle /data/bundles/free free 2>&1)
    umount /data/files/hidden
    holds "$said" 'Permission denied'
    holds "$said" ended
    holds "$free" 'secret words'
}

selinux_labels_what_is_executed() {
    labelled_bundle entered '' 'exec sleep 100'
    rt run -d --bundle /data/bundles/entered entered </dev/null >/dev/null 2>&1
    said=$(rt exec entered cat /proc/self/attr/current)
    other=$(rt exec --process-label system_u:system_r:container_t:s0:c3 entered cat /proc/self/attr/current)
    status=0
    wrong=$(rt exec --process-label system_u:system_r:nobody_t:s0 entered echo begun 2>&1) || status=$?
    # The file is gone, the policy remains.
    rt delete --force entered
    holds "$said" "$label"
    holds "$other" system_u:system_r:container_t:s0:c3
    [ "$status" != 0 ] || fail "$wrong"
    holds "$wrong" nobody_t
    ! echo "$wrong" | grep begun || fail "$wrong"
}

selinux_labels_that_are_none_are_errors() {
    status=0
    said=$(process='"selinuxLabel": "system_u:system_r:nobody_t:s0",' contain wrong '' 'echo begun' 2>&1) || status=$?
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$said" system_u:system_r:nobody_t:s0
    ! echo "$said" | grep begun || fail "$said"
    status=0
    said=$(linux='"mountLabel": "nothing at all",' contain wrong '' 'echo begun' 2>&1) || status=$?
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$said" context
    ! echo "$said" | grep begun || fail "$said"
    [ -z "$(cgroup_directories wrong)" ] || fail "a cgroup is left: $(cgroup_directories wrong)"
}

check selinux_is_on selinux_labels_a_program_and_its_mounts selinux_confines_a_program selinux_labels_what_is_executed selinux_labels_that_are_none_are_errors
