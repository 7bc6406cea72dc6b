# Checks of the labels that programs run under: AppArmor is on in the distribution's kernel. Read by checks.sh.
# vm-modes: v2
# vm-programs: apparmor_parser
# vm-cmdline: apparmor=1 security=apparmor
# shellcheck shell=sh

label='"apparmorProfile": "dhow-vm",'

apparmor_is_on() {
    mount -t securityfs securityfs /sys/kernel/security 2>/dev/null || :
    [ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ] || fail "it is not enabled"
    cat >/tmp/dhow-vm.profile <<'END'
profile dhow-vm flags=(attach_disconnected, mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  mount,
  deny /var/www/secret rwklx,
}
END
    apparmor_parser --replace --skip-cache /tmp/dhow-vm.profile
    grep -q '^dhow-vm ' /sys/kernel/security/apparmor/profiles || fail "the profile is not loaded"
}

a_program_runs_under_its_profile() {
    echo hidden >/data/files/secret
    said=$(process=$label contain labelled '' 'cat /proc/self/attr/current; cat /var/www/secret 2>&1; echo end')
    holds "$said" 'dhow-vm (enforce)'
    holds "$said" 'Permission denied'
    holds "$said" end
    # With root of its own user namespace, too.
    said=$(process=$label namespaces='{ "type": "user" },' linux='"uidMappings": [{ "containerID": 0, "hostID": 100000, "size": 65536 }],
        "gidMappings": [{ "containerID": 0, "hostID": 100000, "size": 65536 }],' contain mapped '' 'cat /proc/self/attr/current /proc/self/uid_map')
    holds "$said" 'dhow-vm (enforce)'
    holds "$said" 100000
}

an_executed_process_does_too() {
    process=$label detach later '' 'sleep 100'
    holds "$(rt exec later cat /proc/self/attr/current)" 'dhow-vm (enforce)'
    rt exec later cat /var/www/secret 2>&1 | grep 'Permission denied'
    # Somebody who is asked for another one.
    said=$(rt exec --apparmor unconfined later cat /proc/self/attr/current)
    holds "$said" unconfined
    rt delete --force later
}

a_profile_that_is_not_loaded_is_an_error() {
    said=$(process='"apparmorProfile": "dhow-vm-missing",' contain missing '' 'echo begun' 2>&1) && fail "it began: $said"
    holds "$said" dhow-vm-missing
    ! echo "$said" | grep begun || fail "it began: $said"
}

check apparmor_is_on
check a_program_runs_under_its_profile
check an_executed_process_does_too
check a_profile_that_is_not_loaded_is_an_error
