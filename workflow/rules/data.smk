# Images from a source to packed arrays for training.
#
# Inputs:  the source in data.source
# Outputs: results/data/ results/audit/ results/split/ results/pack/
# Steps:   fetch -> audit -> split
#          fetch -> pack


rule fetch:
    input:
        local=config["data"]["path"],
    output:
        images=directory("results/data/images"),
        manifest="results/data/manifest.csv",
        quarantine="results/data/quarantine.csv",
    log:
        "results/logs/fetch.log",
    benchmark:
        "results/benchmarks/fetch.tsv"
    conda:
        CONDA
    threads: IMAGE_THREADS
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(240),
    params:
        choices=keys("data"),
    shell:
        "python scripts/fetch.py --output results/data --log {log}"


rule audit:
    input:
        images=rules.fetch.output.images,
        manifest=rules.fetch.output.manifest,
        quarantine=rules.fetch.output.quarantine,
        reviewed=config["audit"]["reviewed"],
    output:
        groups="results/audit/groups.csv",
        candidates="results/audit/candidates.csv",
        findings="results/audit/audit.json",
        sheet="results/audit/groups.jpg",
    log:
        "results/logs/audit.log",
    benchmark:
        "results/benchmarks/audit.tsv"
    conda:
        CONDA
    threads: IMAGE_THREADS
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(120),
    params:
        choices=keys("audit"),
    shell:
        "python scripts/audit.py --data results/data --output results/audit --log {log}"


rule split:
    input:
        groups=rules.audit.output.groups,
        candidates=rules.audit.output.candidates,
    output:
        split="results/split/split.csv",
        doubtful="results/split/doubtful.csv",
        residual="results/split/residual.json",
    log:
        "results/logs/split.log",
    benchmark:
        "results/benchmarks/split.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        choices=keys("split"),
    shell:
        "python scripts/split.py --audit results/audit --output results/split --log {log}"


rule pack:
    input:
        images=rules.fetch.output.images,
        manifest=rules.fetch.output.manifest,
    output:
        images="results/pack/images.npy",
        index="results/pack/index.csv",
    log:
        "results/logs/pack.log",
    benchmark:
        "results/benchmarks/pack.tsv"
    conda:
        CONDA
    threads: IMAGE_THREADS
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(120),
    params:
        choices=keys("pack"),
    shell:
        "python scripts/pack.py --data results/data --output results/pack --log {log}"
