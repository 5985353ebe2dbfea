"""What all pages share: how templates are read, and how pages look."""
