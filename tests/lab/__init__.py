"""The lab: real hosts on real LANs, on one machine.

systemd-nspawn machines with systemd, sshd and netplan, one Linux bridge per LAN, and commands to
start, cut, measure and remove them: `python3 -m tests.lab --help`. Standard library only, because
it has to run before anything is installed; root, because it makes machines and bridges.
"""
