"""Questions that a whole inventory answers before any host is touched.

Everything here is a pure function over Ansible's ``groups`` and ``hostvars``: no fact, no
connection, no file. A problem is one sentence that names the host, the value and what to do. Hosts
that share a problem share its sentence.
"""
