# Training and evaluation of every backbone and seed, and the cost of every backbone.
#
# Inputs:  results/pack/ results/split/
# Outputs: results/weights/ results/tune/ results/train/ results/evaluate/ results/cost/
# Steps:   weights -> tune -> train -> evaluate
#          weights -> cost (all backbones together)


rule weights:
    output:
        "results/weights/{backbone}.safetensors",
    log:
        "results/logs/weights/{backbone}.log",
    benchmark:
        "results/benchmarks/weights/{backbone}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(4000),
        runtime=per_attempt(60),
    params:
        choices=keys(
            "backbones.{backbone}.model",
            "backbones.{backbone}.weights",
            "train.image_size",
        ),
    shell:
        "python scripts/weights.py --backbone {wildcards.backbone} --output {output} --log {log}"


rule tune:
    input:
        pack=rules.pack.output.images,
        index=rules.pack.output.index,
        split=rules.split.output.split,
        weights=rules.weights.output,
    output:
        "results/tune/{backbone}.csv",
    log:
        "results/logs/tune/{backbone}.log",
    benchmark:
        "results/benchmarks/tune/{backbone}.tsv"
    conda:
        CONDA
    threads: recipe("threads")
    resources:
        gpu=train_gpus,
        mem_mb=per_attempt(6000),
        runtime=per_attempt(720),
    params:
        choices=keys("tune", "train", "backbones.{backbone}.train"),
    shell:
        "python scripts/tune.py --backbone {wildcards.backbone}"
        " --pack results/pack --split {input.split} --weights {input.weights}"
        " --output {output} --log {log}"


rule train:
    input:
        pack=rules.pack.output.images,
        index=rules.pack.output.index,
        split=rules.split.output.split,
        weights=rules.weights.output,
        tune=rules.tune.output,
    output:
        model="results/train/{backbone}/{seed}/model.safetensors",
        val="results/train/{backbone}/{seed}/val.csv",
        history="results/train/{backbone}/{seed}/history.csv",
        provenance="results/train/{backbone}/{seed}/provenance.json",
    log:
        "results/logs/train/{backbone}/{seed}.log",
    benchmark:
        "results/benchmarks/train/{backbone}/{seed}.tsv"
    conda:
        CONDA
    threads: recipe("threads")
    resources:
        gpu=train_gpus,
        mem_mb=per_attempt(6000),
        runtime=per_attempt(720),
    params:
        choices=keys("train", "backbones.{backbone}.train"),
    shell:
        "python scripts/train.py --backbone {wildcards.backbone} --seed {wildcards.seed}"
        " --pack results/pack --split {input.split} --weights {input.weights} --tune {input.tune}"
        " --output results/train/{wildcards.backbone}/{wildcards.seed} --log {log}"


rule evaluate:
    input:
        pack=rules.pack.output.images,
        index=rules.pack.output.index,
        split=rules.split.output.split,
        model=rules.train.output.model,
    output:
        predictions="results/evaluate/{backbone}/{seed}/predictions.csv",
        metrics="results/evaluate/{backbone}/{seed}/metrics.json",
        robustness="results/evaluate/{backbone}/{seed}/robustness.csv",
        mistakes="results/evaluate/{backbone}/{seed}/mistakes.csv",
        explanations="results/evaluate/{backbone}/{seed}/explanations.npz",
    log:
        "results/logs/evaluate/{backbone}/{seed}.log",
    benchmark:
        "results/benchmarks/evaluate/{backbone}/{seed}.tsv"
    conda:
        CONDA
    threads: config["evaluate"]["threads"]
    resources:
        gpu=gpus("evaluate"),
        mem_mb=per_attempt(4000),
        runtime=per_attempt(60),
    params:
        choices=keys("evaluate"),
    shell:
        "python scripts/evaluate.py --backbone {wildcards.backbone} --seed {wildcards.seed}"
        " --model {input.model} --pack results/pack --split {input.split}"
        " --output results/evaluate/{wildcards.backbone}/{wildcards.seed} --log {log}"


# One job for all backbones, measured alternately: times measured at different times are not
# comparable.
rule cost:
    input:
        images=rules.fetch.output.images,
        manifest=rules.fetch.output.manifest,
        split=rules.split.output.split,
        weights=expand(rules.weights.output, backbone=BACKBONES),
    output:
        exact="results/cost/exact.csv",
        measured="results/cost/measured.csv",
        rounds="results/cost/rounds.csv",
        memory="results/cost/memory.csv",
        conditions="results/cost/conditions.json",
    log:
        "results/logs/cost.log",
    benchmark:
        "results/benchmarks/cost.tsv"
    conda:
        CONDA
    # Other jobs would distort the times. On a cluster, the profile requests a whole node.
    threads: all_local_cores
    resources:
        gpu=gpus("cost"),
        # All backbones are in memory, in every runtime.
        mem_mb=per_attempt(4000 + 500 * len(BACKBONES)),
        runtime=per_attempt(120),
    params:
        choices=keys("cost", "pack", "backbones", "train.image_size"),
    shell:
        "python scripts/cost.py --weights results/weights --data results/data"
        " --split {input.split} --output results/cost --log {log}"
