"""The four colours that figures have in common with the page around them.

Figures use them for nothing else: the report turns exactly these into the colours of its page,
which may be dark.
"""

INK = "#1f2328"
MUTED = "#646b73"
RULE = "#d3d7db"
PAPER = "#ffffff"
