"""Code that the filters of several ropeway roles share.

    constants  names and defaults of the fleet
    values     reading of single values
    wording    how messages show values, hosts and output of hosts
    checks/    the checks of an inventory: one file for each kind of variable

Ansible loads each file of filter_plugins/ alone and cannot import a module next to it. A filter
that needs this package therefore adds its folder to Python's path.
"""
