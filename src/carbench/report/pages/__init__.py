"""What all pages share: templates, colours and type."""
