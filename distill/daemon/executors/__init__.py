"""Where attempts run: a file dropped in here is an executor, chosen by `distill serve --executor`.

It registers beside its definition and has the methods of `distill.daemon.executor.Executor`::

    @executor("slurm")
    class SlurmExecutor:
        def __init__(self, command: JobCommand, grace: float) -> None: ...
"""
