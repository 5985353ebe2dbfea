"""Snakemake, which asks for the state of the jobs on a cluster every second.

Without accounting, its executor for Slurm asks after 1, 12, 33, 64, ... seconds unless a job has
finished, and this cannot be configured.
"""

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 1, lambda *_: None)

if __name__ == "__main__":
    main()
