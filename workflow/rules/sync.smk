# One result, either engine: what DVC has made is current to Snakemake, and the other way round.
#
# Before planning: a job that the ledger can prove is current, any other is not (docs/engines.md).
# After a run:     what was made goes into dvc.lock and DVC's cache, also where some jobs failed.

from carbench.engines.forced_jobs import publish_forced_jobs, load_forced_jobs
from carbench.engines.snakemake_session import SnakemakeSession, reject_untargeted_subprocess
from carbench.core.system_errors import explain_system_error

# Called from another program, as the tests do, Snakemake only plans.
called = sys.argv[1:] if "snakemake" in sys.argv[0] else None

# A job on a cluster reads the Snakefile too; what it is to do was decided by the process that sent it.
try:
    if workflow.is_main_process:
        session = SnakemakeSession(Path.cwd(), workflow, called)
        publish_forced_jobs(Path.cwd(), session.options.forced, session.options.read_only)
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
            print(error, file=sys.stderr)  # beside what the job said
