# Export of the chosen model for deployment.
#
# Inputs:  results/choose/ results/calibrate/ results/train/ results/evaluate/ results/pack/ results/split/
# Outputs: results/export/
# Steps:   export


rule export:
    input:
        choice=rules.choose.output,
        thresholds=rules.calibrate.output,
        # All runs are listed, but the job reads only the one that it exports.
        train=all_runs(rules.train.output.model),
        provenance=all_runs(rules.train.output.provenance),
        predictions=all_runs(rules.evaluate.output.predictions),
        metrics=all_runs(rules.evaluate.output.metrics),
        summary=rules.aggregate.output.summary,
        images=rules.fetch.output.images,
        pack=rules.pack.output.images,
        index=rules.pack.output.index,
        split=rules.split.output.split,
    output:
        directory("results/export"),
    log:
        "results/logs/export.log",
    benchmark:
        "results/benchmarks/export.tsv"
    conda:
        CONDA
    threads: config["export"]["threads"]
    resources:
        gpu=0,
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        choices=keys("export", "pack", "aggregate.confidence", "choose.deployment_mix"),
    shell:
        "python scripts/export.py --choice {input.choice} --thresholds {input.thresholds}"
        " --train results/train"
        " --evaluate results/evaluate --summary {input.summary} --data results/data"
        " --pack results/pack --split {input.split} --output {output} --log {log}"
