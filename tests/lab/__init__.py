"""The lab: real hosts on real LANs, on one machine.

systemd-nspawn machines with systemd, sshd and netplan, one Linux bridge per LAN, and commands to
start, cut, measure and remove them: `build/venv/bin/python -m tests.lab --help`, as root. Only what
builds and cuts needs pyroute2: a lab can be removed where nothing is installed.
"""
