"""One module per figure: its ``draw(table, style, params)`` returns a Matplotlib figure."""
