"""The only room that knows Snakemake and DVC from the inside."""
