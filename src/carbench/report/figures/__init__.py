"""The figures, one module each: ``draw(table, style, params)`` returns a Matplotlib figure."""
