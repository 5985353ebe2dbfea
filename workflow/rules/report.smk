# From numbers to the answer.
#
# Inputs:  results/train/ results/evaluate/ results/cost/, and for the report all that came before
# Outputs: results/choose/ results/*.csv results/mistakes.npz results/metrics.json
#          results/figures/ results/report.html
# Steps:   choose -> aggregate -> plot -> report


# Reads nothing of evaluate: what is deployed was decided before a test picture was looked at.
rule choose:
    input:
        val=all_runs(rules.train.output.val),
        cost=expand(rules.cost.output, backbone=BACKBONES),
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
        mem_mb=2000,
        runtime=30,
    params:
        code=code("choose"),
        choices=keys("choose", "backbones", "seeds"),
    shell:
        "python scripts/choose.py --train results/train --cost results/cost"
        " --output {output} --log {log}"


rule aggregate:
    input:
        train=all_runs(rules.train.output.history),
        evaluate=all_runs(rules.evaluate.output),
        cost=expand(rules.cost.output, backbone=BACKBONES),
        choice=rules.choose.output,
    output:
        summary="results/summary.csv",
        comparisons="results/comparisons.csv",
        recall="results/recall.csv",
        slices="results/slices.csv",
        robustness="results/robustness.csv",
        reliability="results/reliability.csv",
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
        mem_mb=2000,
        runtime=30,
    params:
        code=code("aggregate"),
        choices=keys("aggregate", "backbones", "seeds", "evaluate.calibration_bins"),
    shell:
        "python scripts/aggregate.py --train results/train --evaluate results/evaluate"
        " --cost results/cost --choice {input.choice} --output results --log {log}"


rule plot:
    input:
        table=lambda wildcards: FIGURES[wildcards.figure][0],
        pictures=lambda wildcards: FIGURES[wildcards.figure][1],
    output:
        svg=report(
            "results/figures/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
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
        mem_mb=1000,
        runtime=10,
    params:
        code=code("plot"),
        choices=keys("plot.style", "plot.{figure}"),
    shell:
        "python scripts/plot.py --figure {wildcards.figure} --table {input.table}"
        " --output results/figures --log {log}"


rule report:
    input:
        images=rules.fetch.output.images,
        manifest=rules.fetch.output.manifest,
        quarantine=rules.fetch.output.quarantine,
        audit=rules.audit.output,
        split=rules.split.output,
        train=all_runs(rules.train.output.provenance),
        evaluate=all_runs(rules.evaluate.output),
        cost=expand(rules.cost.output, backbone=BACKBONES),
        choice=rules.choose.output,
        tables=rules.aggregate.output,
        screen=expand(rules.screen.output, pool=POOLS),
        shortlist=rules.shortlist.output,
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
        mem_mb=2000,
        runtime=10,
    params:
        code=code("report"),
        choices=keys("report"),
    shell:
        "python scripts/report.py --data results/data --audit results/audit"
        " --split {input.split} --train results/train --choice {input.choice}"
        " --evaluate results/evaluate --cost results/cost --tables results"
        " --screen results/screen --shortlist results/shortlist --figures results/figures"
        " --output {output} --log {log}"
