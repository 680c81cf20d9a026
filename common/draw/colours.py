"""Colours of all pictures: the sides of a body, the floor it stands on, paper and ink, and curves."""

# Okabe and Ito's colours, which colour-blind readers tell apart too
COLOURS = {"left": "#0072b2", "right": "#d55e00", "centre": "#404040"}
CURVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#404040")
PAPER, INK, FLOOR, GRID, SHADOW = "#ffffff", "#222222", "#edf0f2", "#c9ced3", "#b9bfc5"
