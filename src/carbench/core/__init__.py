"""Shared by all layers: stages, errors, parameters, tables, atomic files, provenance."""
