# Screening of many timm models, and a shortlist of those worth training.
#
# Inputs:  results/pack/ results/split/, the table in screen.weights
# Outputs: results/screen/ results/shortlist/
# Steps:   screen -> shortlist (then `carbench shortlist` writes backbones into params.yaml)


rule screen:
    input:
        pack=rules.pack.output.images,
        index=rules.pack.output.index,
        split=rules.split.output.split,
        weights=config["screen"]["weights"],
    output:
        candidates="results/screen/{pool}/candidates.csv",
        predictions="results/screen/{pool}/predictions.csv",
        cost="results/screen/{pool}/cost.csv",
    log:
        "results/logs/screen/{pool}.log",
    benchmark:
        "results/benchmarks/screen/{pool}.tsv"
    conda:
        CONDA
    threads: config["screen"]["features"]["threads"]
    resources:
        gpu=1 if config["screen"]["features"]["device"] == "cuda" else 0,
        mem_mb=per_attempt(6000),
        runtime=per_attempt(720),
    params:
        choices=keys(
            "screen.candidates.{pool}",
            "screen.weights",
            "screen.limits",
            "screen.features",
            "screen.probe",
        ),
    shell:
        "python scripts/screen.py --pool {wildcards.pool} --pack results/pack"
        " --split {input.split} --output results/screen/{wildcards.pool} --log {log}"


rule shortlist:
    input:
        expand(rules.screen.output, pool=POOLS),
    output:
        shortlist="results/shortlist/shortlist.csv",
        metrics="results/shortlist/metrics.json",
    log:
        "results/logs/shortlist.log",
    benchmark:
        "results/benchmarks/shortlist.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        choices=keys("shortlist", "screen.candidates"),
    shell:
        "python scripts/shortlist.py --screen results/screen --output results/shortlist --log {log}"
