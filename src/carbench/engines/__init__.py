"""Snakemake and DVC: what was made from what, and what each engine may take as current."""
