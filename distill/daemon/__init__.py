"""The job queue: one SQLite file, one process a job, HTTP on a private Unix socket.

docs/daemon.md tells the life of a job as a numbered page; the rooms follow it:

    states     which state follows which            (pure)
    outcome    what an ended attempt means          (pure)
    placing    priority, hold and label of a job    (pure)
    queue      the states on disk, one transaction a transition
    runfolder  runs/JOB: the frozen spec, the lock, the records of attempts
    runner     the supervisor of one attempt; outlives the daemon
    executor   launch, observe, stop: what the scheduler asks of a place to run
    executors  those places, a file each (local processes here)
    scheduler  the loop: settle what ended, start what is due
    service    submit, hold, retry, drain, cancel: what the API and the commands share
    api, server, client    HTTP on the socket
    connections            whose they are, and how long they may do nothing
    room                   what a start and an end take of the disk
    troubles, daemon_log   what the daemon says, and how often

Nothing here imports torch: training happens in the job's own process.
"""
