"""`distill doctor`: problems of this machine or workspace that would affect jobs.

A check is a function of a ``Workspace`` with ``@check("NAME")`` in a file of ``checks/``.
"""
