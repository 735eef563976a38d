"""The checks of an inventory, which run before any host is contacted.

    inventory          runs all checks, in order
    groups             the groups ropeway, ropeway_routers and ropeway_clients
    variables          names: unknown, mistyped and removed variables
    reading            variables that cannot be templated or decrypted
    role_options       variables of a role (ropeway_agent_port): their types, from argument_specs
    virtual_network    ropeway_network, ropeway_encapsulation, and what all hosts must share
    interfaces         ropeway_interfaces, one entry at a time
    lans               addresses and prefixes of all interfaces of a LAN
    management         ansible_host
    reachability       ropeway_direct_peers, ropeway_tolerated_links; LANs shared with the router
    settings           ports, times, sizes, offloads, endpoints, the pre-shared key, the device
    extra_networks     ropeway_agent_extra_networks
    virtual_addresses  ropeway_virtual_address, and the record of allocated addresses
    host               one host, as the inventory describes it

Every check is a pure function of Ansible's ``groups`` and ``hostvars``. It uses no facts, no
connections and no files. It yields problems: sentences that name the host, the value and the
remedy. Hosts with the same problem share one sentence.
"""
