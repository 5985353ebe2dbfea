# One result, either engine: what DVC has made is current to Snakemake, and the other way round.
#
# Before planning: a job that the ledger can prove is current, any other is not (docs/engines.md).
# After a run:     what was made goes into dvc.lock and DVC's cache, also where some jobs failed.

from carbench.engines.forcing import pass_on, take_over
from carbench.engines.session import Session, refuse_a_lone_job
from carbench.core.system_errors import explain_system_error

# Called from another program, as the tests do, Snakemake only plans.
called = sys.argv[1:] if "snakemake" in sys.argv[0] else None

# A job on a cluster reads the Snakefile too; what it is to do was decided by the process that sent it.
try:
    if workflow.is_main_process:
        session = Session(Path.cwd(), workflow, called)
        pass_on(Path.cwd(), session.options.forced, session.options.looks)
    else:
        refuse_a_lone_job(sys.argv)
        take_over(Path.cwd())
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
