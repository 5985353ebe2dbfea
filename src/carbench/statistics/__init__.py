"""From predictions to what can be believed: intervals, comparisons, the choice."""
