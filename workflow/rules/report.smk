# Choice of the backbone, statistics, figures and the report.
#
# Inputs:  results/train/ results/evaluate/ results/cost/, and for the report all earlier results
# Outputs: results/choose/ results/calibrate/ results/*.csv results/mistakes.npz results/metrics.json
#          results/figures/ results/report.html
# Steps:   choose, calibrate -> aggregate -> plot -> report


# Does not read results of evaluate: the backbone is chosen without the test set.
rule choose:
    input:
        val=all_runs(rules.train.output.val),
        cost=rules.cost.output,
    output:
        "results/choose/choice.csv",
    log:
        "results/logs/choose.log",
    benchmark:
        "results/benchmarks/choose.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        choices=keys("choose", "backbones", "seeds", "split.repeats"),
    shell:
        "python scripts/choose.py --train results/train --cost results/cost"
        " --output {output} --log {log}"


# Thresholds are fitted on the validation set; aggregate evaluates them on the test set.
rule calibrate:
    input:
        val=all_runs(rules.train.output.val),
        models=all_runs(rules.train.output.model),
    output:
        "results/calibrate/thresholds.csv",
    log:
        "results/logs/calibrate.log",
    benchmark:
        "results/benchmarks/calibrate.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        choices=keys("calibrate", "backbones", "seeds"),
    shell:
        "python scripts/calibrate.py --train results/train --output {output} --log {log}"


rule aggregate:
    input:
        train=all_runs(rules.train.output.history),
        val=all_runs(rules.train.output.val),
        evaluate=all_runs(rules.evaluate.output),
        cost=rules.cost.output,
        choice=rules.choose.output,
        thresholds=rules.calibrate.output,
    output:
        summary="results/summary.csv",
        comparisons="results/comparisons.csv",
        variance_parts="results/variance_parts.csv",
        recall="results/recall.csv",
        slices="results/slices.csv",
        robustness="results/robustness.csv",
        reliability="results/reliability.csv",
        risk_coverage="results/risk_coverage.csv",
        decisions="results/decisions.csv",
        sets="results/sets.csv",
        label_errors="results/label_errors.csv",
        curves="results/curves.csv",
        confusion="results/confusion.csv",
        winner="results/winner.csv",
        mistakes="results/mistakes.csv",
        explanations="results/mistakes.npz",
        metrics="results/metrics.json",
    log:
        "results/logs/aggregate.log",
    benchmark:
        "results/benchmarks/aggregate.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        choices=keys(
            "aggregate",
            "backbones",
            "seeds",
            "split.repeats",
            "evaluate.calibration_bins",
            "choose.deployment_mix",
            "choose.margin",
        ),
    shell:
        "python scripts/aggregate.py --train results/train --evaluate results/evaluate"
        " --cost results/cost --choice {input.choice} --thresholds {input.thresholds}"
        " --output results --log {log}"


rule plot:
    input:
        table=lambda wildcards: FIGURES[wildcards.figure]["table"],
        images=lambda wildcards: FIGURES[wildcards.figure]["images"],
    output:
        svg=report(
            "results/figures/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        narrow="results/figures/{figure}-narrow.svg",
        png="results/figures/{figure}.png",
    log:
        "results/logs/plot/{figure}.log",
    benchmark:
        "results/benchmarks/plot/{figure}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        choices=keys("plot.style", "plot.{figure}"),
    shell:
        "python scripts/plot.py --figure {wildcards.figure} --table {input.table}"
        " --output results/figures --log {log}"


rule report:
    input:
        images=rules.fetch.output.images,
        manifest=rules.fetch.output.manifest,
        quarantine=rules.fetch.output.quarantine,
        groups=rules.audit.output.groups,
        findings=rules.audit.output.findings,
        sheet=rules.audit.output.sheet,
        split=rules.split.output.split,
        residual=rules.split.output.residual,
        train=all_runs(rules.train.output.provenance),
        evaluate=all_runs(rules.evaluate.output),
        cost=rules.cost.output,
        choice=rules.choose.output,
        tables=rules.aggregate.output,
        screen=expand(rules.screen.output, pool=POOLS),
        shortlist=rules.shortlist.output,
        learning_curve=rules.learning_curve.output,
        figures=expand(rules.plot.output, figure=FIGURES),
    output:
        report(
            "results/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(10),
    params:
        choices=keys("report"),
    shell:
        "python scripts/report.py --data results/data --audit results/audit"
        " --split {input.split} --residual {input.residual} --train results/train --choice {input.choice}"
        " --evaluate results/evaluate --cost results/cost --tables results"
        " --screen results/screen --shortlist results/shortlist"
        " --learning-curve results/learning_curve --figures results/figures"
        " --output {output} --log {log}"
