"""The command line: `carbench sync`, `why`, `serve` and the rest."""
