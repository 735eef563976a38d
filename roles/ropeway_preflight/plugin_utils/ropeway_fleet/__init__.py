"""What the filters of the ropeway roles share, and the checks of an inventory.

Ansible loads each file of filter_plugins/ for itself and knows no module beside it, so each filter
that needs this package puts its folder on Python's path.
"""
