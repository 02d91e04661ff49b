"""The job queue: one SQLite file, one process per job, HTTP on a private Unix socket.

docs/daemon.md describes the life of a job as numbered steps. The modules follow it:

    states     which state follows which            (pure)
    outcome    what an ended attempt means          (pure)
    placing    priority, hold and label of a job    (pure)
    queue      the states on disk, one transaction per transition
    runfolder  runs/JOB: the frozen spec, the lock, the records of attempts
    runner     the supervisor of one attempt; outlives the daemon
    executor   launch, observe, stop: the interface between scheduler and execution
    executors  its implementations, one file each (local processes, Slurm)
    scheduler  the loop: settle what ended, start what is due
    service    submit, pause, move, retry, drain, cancel: shared by the API and the commands
    api, server, client    HTTP on the socket
    connections            their owner and their time limits
    room                   disk space needed to start and to end a job
    troubles, daemon_log   what the daemon logs, and how often

Nothing here imports torch: training runs in the job's own process.
"""
