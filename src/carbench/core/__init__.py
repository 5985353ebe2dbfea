"""What every layer uses: errors, tables, atomic files, progress, provenance."""
