"""What was made from what: the jobs of the study, hashes, receipts, and the store of results."""
