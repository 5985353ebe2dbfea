"""Snakemake and DVC: job records, the results cache, and what each engine treats as up to date."""
