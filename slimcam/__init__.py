"""A vision model on a smart camera, small and fast.

The folders `training`, `compression`, `deploy`, `pipeline` and `conf` of the repository are this package's: here they
are links, so that one name is imported and installed.
"""
