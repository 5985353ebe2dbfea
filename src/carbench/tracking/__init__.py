"""Follows a study from a process of its own: in a terminal, or in an experiment tracker."""
