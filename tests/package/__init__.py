"""The .deb: built twice, looked into, installed, upgraded, run and purged on every suite."""
