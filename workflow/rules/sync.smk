# Synchronisation with DVC: each engine accepts the other's results as up to date.
#
# Before planning: jobs whose records match the current inputs are up to date (docs/engines.md).
# After a run:     results are added to dvc.lock and DVC's cache, even if some jobs failed; their
#                  last messages are shown.

from carbench.engines.failed_jobs import describe_failed_jobs
from carbench.engines.forced_jobs import publish_forced_jobs
from carbench.engines.snakemake_internals import failed_jobs
from carbench.engines.snakemake_session import (
    SnakemakeSession,
    reject_untargeted_subprocess,
)
from carbench.core.system_errors import explain_system_error

# Without a command line (through Snakemake's API, as in the tests), nothing is run, only planned.
arguments = sys.argv[1:] if "snakemake" in sys.argv[0] else None

# Jobs on a cluster read the Snakefile too; only the main process synchronises.
try:
    if workflow.is_main_process:
        session = SnakemakeSession(Path.cwd(), workflow, arguments)
        publish_forced_jobs(session.options.forced)
    else:
        reject_untargeted_subprocess(sys.argv)
except CarbenchError as error:
    raise WorkflowError(str(error))
except OSError as error:
    raise WorkflowError(explain_system_error(error, [Path.cwd()]))


# For jobs on clusters that do not pass on the environment.
envvars:
    "CARBENCH_AGAIN",


if workflow.is_main_process:

    onsuccess:
        try:
            session.finish(workflow, succeeded=True)
        except CarbenchError as error:
            raise WorkflowError(str(error))

    onerror:
        try:
            session.finish(workflow, succeeded=False)
            failures = describe_failed_jobs(Path.cwd(), failed_jobs(workflow))
            print(failures, end="", file=sys.stderr)
        except CarbenchError as error:
            print(error, file=sys.stderr)  # in addition to the jobs' own errors
