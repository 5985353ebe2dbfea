# One result, either engine: what DVC has made is current to Snakemake, and the other way round.
#
# Before planning: a job that the ledger can prove is current, any other is not (docs/engines.md).
# After a run:     what was made goes into dvc.lock and DVC's cache, also where some jobs failed.

from carbench.interop.forced import pass_on
from carbench.interop.sync import Session

# A job on a cluster reads the Snakefile too; what it is to do was decided by the process that sent it.
if workflow.is_main_process:
    try:
        # Called from another program, as the tests do, Snakemake only plans.
        called = sys.argv[1:] if "snakemake" in sys.argv[0] else ["--dry-run"]
        session = Session(Path.cwd(), called)
    except CarbenchError as error:
        raise WorkflowError(str(error))

    pass_on(called)

    onsuccess:
        session.finish()

    onerror:
        session.finish()
