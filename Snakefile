# carbench: from car images to the backbone to deploy.
#
#   snakemake --cores 8 --resources gpu=1     everything, up to results/report.html
#   snakemake -n                              list the jobs that would run, and why
#   snakemake figures                         the figures alone
#
# fetch -> audit -> split -+-> screen -> shortlist
#       -> pack -----------+-> tune -> train -+-> evaluate --+-> aggregate -> plot -> report
#          weights --------+                  +-> calibrate -+             -> export
#                          +-> cost ----------+-> choose ----+
#       draw -> subset -> learning_curve -> plot: after train, if there are fractions
#
# Parameters are in params.yaml, resources in workflow/profiles/. dvc.yaml has the same DAG for DVC.

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/screen.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/learning_curve.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/sync.smk"


# With an executor of a cluster, these run beside Snakemake: they take seconds, or need the network.
localrules:
    all,
    figures,
    fetch,
    split,
    weights,
    draw,
    shortlist,
    calibrate,
    choose,
    learning_curve,
    aggregate,
    plot,
    report,


rule all:
    default_target: True
    input:
        # All outputs are listed: Snakemake ignores missing intermediate files of targets that exist.
        rules.fetch.output,
        rules.audit.output,
        rules.split.output,
        rules.pack.output,
        expand(rules.screen.output, pool=POOLS),
        rules.shortlist.output,
        expand(rules.weights.output, backbone=BACKBONES),
        expand(rules.tune.output, backbone=BACKBONES),
        expand(rules.train.output, backbone=BACKBONES, seed=SEEDS),
        expand(rules.evaluate.output, backbone=BACKBONES, seed=SEEDS),
        rules.cost.output,
        rules.draw.output,
        all_subsets(rules.subset.output),
        rules.learning_curve.output,
        rules.choose.output,
        rules.calibrate.output,
        rules.aggregate.output,
        expand(rules.plot.output, figure=FIGURES),
        rules.report.output,
        rules.export.output,


rule figures:
    input:
        expand(rules.plot.output, figure=FIGURES),
