"""The executors, one file each, chosen by `distill serve --executor`.

An executor is a registered class with the methods of `distill.daemon.executor.Executor`::

    @executor("slurm")
    class SlurmExecutor:
        def __init__(self, command: JobCommand, grace: float) -> None: ...
"""
