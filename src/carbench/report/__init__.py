"""The report: shows the outputs of the other stages on one page, without computing results."""
