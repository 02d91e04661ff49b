"""`distill doctor`: what of this machine and workspace would get in the way of jobs.

A check is a function of a ``Workspace`` with ``@check("NAME")`` in a file of ``checks/``.
"""
