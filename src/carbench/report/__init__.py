"""The report: reads what the other stages wrote and puts it on one page. It computes no result."""
