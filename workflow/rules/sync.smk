# Synchronisation with DVC: each engine accepts the other's results as up to date.
#
# Before planning: jobs whose records match the current inputs are up to date (docs/engines.md).
# After a run:     results are added to dvc.lock and DVC's cache, even if some jobs failed.

from carbench.engines.forced_jobs import load_forced_jobs, publish_forced_jobs
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
        publish_forced_jobs(
            Path.cwd(), session.options.forced, session.options.read_only
        )
    else:
        reject_untargeted_subprocess(sys.argv)
        load_forced_jobs(Path.cwd())
except CarbenchError as error:
    raise WorkflowError(str(error))
except OSError as error:
    raise WorkflowError(explain_system_error(error, [Path.cwd()]))

if workflow.is_main_process:

    onsuccess:
        try:
            session.finish(workflow, succeeded=True)
        except CarbenchError as error:
            raise WorkflowError(str(error))

    onerror:
        try:
            session.finish(workflow, succeeded=False)
        except CarbenchError as error:
            print(error, file=sys.stderr)  # in addition to the job's own error
