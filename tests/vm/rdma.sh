# Checks of limits of RDMA, with the kernel's soft device over Ethernet. Read by checks.sh.
# vm-modes: full
# vm-programs: rdma
# vm-modules: rdma_rxe crc32_generic dummy ib_uverbs
# shellcheck shell=sh

rdma_has_a_device() {
    ip link add wire0 type dummy
    ip link set wire0 up
    /bin/rdma link add soft0 type rxe netdev wire0
    holds "$(cat /sys/fs/cgroup/rdma.max 2>/dev/null; ls /sys/class/infiniband)" soft0
    echo +rdma >/sys/fs/cgroup/cgroup.subtree_control
}

rdma_limits_are_set() {
    detach remote '"rdma": { "soft0": { "hcaHandles": 3, "hcaObjects": 10000 } }' 'exec sleep 100'
    said=$(cat /sys/fs/cgroup/dhow-vm/remote/rdma.max)
    seen=$(rt exec remote cat /sys/fs/cgroup/rdma.max)
    # One of the two alone: the other has no limit.
    rt delete --force remote
    detach half '"rdma": { "soft0": { "hcaHandles": 5 } }' 'exec sleep 100'
    half=$(cat /sys/fs/cgroup/dhow-vm/half/rdma.max)
    rt delete --force half
    [ "$said" = 'soft0 hca_handle=3 hca_object=10000 ' ] || [ "$said" = 'soft0 hca_handle=3 hca_object=10000' ] || fail "$said"
    [ "$seen" = "$said" ] || fail "inside: $seen"
    holds "$half" 'soft0 hca_handle=5 hca_object=max'
}

rdma_of_a_device_that_is_not_there_is_an_error() {
    status=0
    said=$(contain missing '"rdma": { "mlx5_9": { "hcaHandles": 3 } }' 'echo begun' 2>&1) || status=$?
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$said" mlx5_9
    ! echo "$said" | grep begun || fail "it began: $said"
    [ -z "$(cgroup_directories missing)" ] || fail "a cgroup is left"
}

check rdma_has_a_device rdma_limits_are_set rdma_of_a_device_that_is_not_there_is_an_error
