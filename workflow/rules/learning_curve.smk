# Learning curve: training on fractions of the training set, evaluated on the validation set.
#
# Inputs:  results/pack/ results/split/ results/weights/ results/tune/ results/train/
# Outputs: results/subset/ results/learning_curve/
# Steps:   draw -> subset -> learning_curve (no fractions: no subset, and tables without rows)


rule draw:
    input:
        split=rules.split.output.split,
    output:
        "results/subset/order.csv",
    log:
        "results/logs/draw.log",
    benchmark:
        "results/benchmarks/draw.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        choices=keys("learning_curve.draw_seed"),
    shell:
        "python scripts/draw.py --split {input.split} --output {output} --log {log}"


rule subset:
    input:
        pack=rules.pack.output.images,
        index=rules.pack.output.index,
        split=rules.split.output.split,
        order=rules.draw.output,
        weights=rules.weights.output,
        tune=rules.tune.output,
        full=rules.train.output.val,
    output:
        val="results/subset/{backbone}/{fraction}/{seed}/val.csv",
        provenance="results/subset/{backbone}/{fraction}/{seed}/provenance.json",
    log:
        "results/logs/subset/{backbone}/{fraction}/{seed}.log",
    benchmark:
        "results/benchmarks/subset/{backbone}/{fraction}/{seed}.tsv"
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
        "python scripts/subset.py --backbone {wildcards.backbone} --fraction {wildcards.fraction}"
        " --seed {wildcards.seed} --pack results/pack --split {input.split} --order {input.order}"
        " --weights {input.weights} --tune {input.tune} --full {input.full}"
        " --output results/subset/{wildcards.backbone}/{wildcards.fraction}/{wildcards.seed}"
        " --log {log}"


rule learning_curve:
    input:
        order=rules.draw.output,
        subsets=all_subsets(rules.subset.output),
    output:
        points="results/learning_curve/learning_curve.csv",
        ahead="results/learning_curve/extrapolation.csv",
    log:
        "results/logs/learning_curve.log",
    benchmark:
        "results/benchmarks/learning_curve.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        gpu=0,
        mem_mb=per_attempt(2000),
        runtime=per_attempt(10),
    params:
        choices=keys("learning_curve", "backbones"),
    shell:
        "python scripts/learning_curve.py --subset results/subset"
        " --output results/learning_curve --log {log}"
